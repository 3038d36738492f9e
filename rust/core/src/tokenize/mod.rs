//! Text to token ids: train a byte-level BPE, encode, decode.
//!
//! Merges are learnt here ([`train`]); splitting and encoding are left to the
//! `tokenizers` crate, so ids equal those of the Python library by construction.

mod corpus;
mod encode;
mod merges;
mod tokenizer;
mod train;

pub use corpus::{Corpus, Document};
pub use encode::{tokenize_documents, Progress};
pub use tokenizer::Tokenizer;
pub use train::{train, TrainConfig, SPLIT_PATTERN};

/// The special tokens, in the order of their ids from 0.
pub const SPECIAL_TOKENS: [&str; 7] = [PAD, BOS, EOS, "<|system|>", "<|user|>", "<|assistant|>", END];

/// Fills rows that are not packed.
pub const PAD: &str = "<|pad|>";
/// Opens every document.
pub const BOS: &str = "<|bos|>";
/// Closes every document.
pub const EOS: &str = "<|eos|>";
/// Closes every turn of a conversation.
pub const END: &str = "<|end|>";
