//! Words to ids: the merges of a byte-pair encoding, applied in the order of their ranks.
//!
//! A cache answers for words seen before; what it does not know is merged exactly, short words
//! by search over a few ranks, long ones by a heap.

mod cache;
mod key;
mod model;
mod pairs;
mod symbols;
mod word;

pub(super) use cache::Cache;
pub(super) use key::{hash, key, Key};
pub(super) use model::{Alphabet, Model, Scratch};
pub(super) use pairs::{Pairs, MAX_ID};
pub(super) use symbols::{Fallback, Symbols};
pub(super) use word::Word;
