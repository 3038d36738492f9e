//! Deduplication: which documents repeat what an earlier one said.

mod ngram;

pub use ngram::{hash_ngrams, NgramIndex, Verdict, MIN_NGRAM_WORDS};
