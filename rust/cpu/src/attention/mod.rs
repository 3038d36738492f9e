//! Attention within each document of packed rows: FlashAttention-2 (Dao 2023) on a processor.
//!
//! A unit of work is one head of one document, or part of it where threads would have nothing to do
//! (`share.rs`). Its keys and values are packed once, in the order in which the product instruction
//! reads them; then blocks of 64 queries go over the blocks of 64 keys that they see; of a document of
//! up to 16 tokens that is one block of 16. Scores never leave the nearest cache. What is hidden costs nothing
//! but at the edges: with a causal mask half of the work.
//!
//! Sums are float32, in an order that its length decides, so a document's bits depend neither on
//! threads nor on what it is packed with. The backward pass computes scores again.

mod backward;
mod decode;
#[cfg(test)]
mod decode_tests;
mod dropout;
mod forward;
mod join;
mod mask;
mod packed;
mod problem;
mod share;
#[cfg(test)]
mod tests;
mod tile;

pub use backward::{backward, Given, Gradients};
pub use decode::{decode, Decoding, Stored};
pub use dropout::Dropout;
pub use forward::{forward, Output};
pub use problem::{Inputs, Problem};

/// Queries, and keys, computed together.
const BLOCK: usize = 64;

/// The same of a document that has no more: a tile of 64 would be filled up to 4,096 scores for a single one.
const SMALL_BLOCK: usize = 16;

/// No score is less: the maximum of a row that has seen nothing yet.
const NOTHING_SEEN: f32 = f32::MIN;
