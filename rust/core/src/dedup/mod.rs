//! Deduplication: which documents repeat what an earlier one said.

mod filter;
mod fresh;
mod index;
mod ngram;
mod run;
mod spilled;

pub use index::{NgramIndex, Verdict};
pub use ngram::{hash_ngrams, MIN_NGRAM_WORDS};
