//! Kernels for processors: what training on a CPU spends its time in, beside matrix products.
//!
//! Numbers come and go as slices of what tensors hold: `f32`, or `u16` as the bits of bf16. Results
//! do not depend on the number of threads.

pub mod attention;
mod element;
mod product;
mod team;
mod vector;

pub use element::Element;
