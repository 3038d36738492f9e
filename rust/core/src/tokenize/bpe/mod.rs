//! Words to ids: the merges of a byte-pair encoding, applied in the order of their ranks.
//!
//! A cache answers for words seen before; what it does not know is merged exactly, short words
//! by search over a few ranks, long ones by a queue.

mod batch;
mod byte_cuts;
mod cache;
mod cuts;
mod key;
mod large;
mod model;
mod pairs;
mod queue;
mod short;
mod store;
mod symbols;
mod word;

pub(super) use batch::Scratch;
pub(super) use byte_cuts::ByteCuts;
pub(super) use cuts::Cuts;
pub(super) use key::{halves, hash, key};
pub(super) use model::{Alphabet, Model};
pub(super) use pairs::{Pairs, MAX_ID};
pub(super) use symbols::{Fallback, Symbols};
