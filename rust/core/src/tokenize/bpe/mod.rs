//! Words to ids: the merges of a byte-pair encoding, applied in the order of their ranks.
//!
//! A cache answers for words seen before; what it does not know is merged exactly, short words
//! several together, by search over a few ranks, long ones by a queue.

mod cache;
mod key;
mod large;
mod model;
mod pairs;
mod queue;
mod store;
mod symbols;
mod together;
mod word;

pub(super) use key::{halves, hash, key, Key};
pub(super) use model::{Alphabet, Model, Scratch};
pub(super) use pairs::{Pairs, MAX_ID};
pub(super) use symbols::{Fallback, Symbols};
