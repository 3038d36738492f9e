//! Kernels for processors: what training on a CPU spends its time in, beside matrix products.
//!
//! Numbers come and go as slices of what tensors hold: `f32`, or `u16` as the bits of bf16. Results
//! do not depend on the number of threads.
#![allow(clippy::needless_pass_by_value)] // of structs of slices, a call reads better so
#![allow(clippy::inline_always)] // vectors are loaded and stored in functions that only make sense inlined

pub mod attention;
mod element;
pub mod few;
pub mod gated;
#[cfg(test)]
mod layer_tests;
pub mod logits;
pub mod loss;
pub mod norm;
mod product;
pub mod rope;
mod rows;
pub mod statistics;
pub mod sums;
mod team;
mod vector;

pub use element::{has_vectors, Element, Number};
