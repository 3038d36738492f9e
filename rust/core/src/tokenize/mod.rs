//! Text to token ids: train a byte-level BPE, load any, encode, decode.
//!
//! Ids are those of the `tokenizers` library. Words are split by hand-written grammars of the
//! known patterns and merged here; the library itself runs what is rare (unusual normalizers,
//! pre-tokenizers and decoders), and is the twin that the tests compare with.

mod added;
mod bpe;
mod corpus;
mod count;
mod decode;
mod encode;
mod encoded;
mod fertility;
mod file;
mod gather;
mod guard;
mod load;
mod merges;
mod metaspace;
mod normalize;
mod pair_table;
mod pieces;
mod render;
mod share;
mod special;
mod split;
mod steps;
mod tokenizer;
mod train;
mod vocabulary;
mod words;

pub use corpus::{Corpus, Document, Labelled};
pub use encode::{tokenize_documents, tokenize_measured, Progress};
pub use encoded::Encoded;
pub use fertility::{measure_fertility, Fertility, TextCount, FERTILITY_NAME};
pub use special::{SpecialIds, NO_ID};
pub use split::{Pattern, PATTERNS, TRIPTYCH};
pub use tokenizer::Tokenizer;
pub use train::{train, train_weighted, TrainConfig};

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
