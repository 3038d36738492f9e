//! Text to words: the split patterns of the known models, each written out by hand.
//!
//! Each pattern is a regular expression with look-ahead, and that expression, run by the regex
//! engine of the `tokenizers` library, is its slow twin: the tests hold the two together.

mod classes;
mod expression;
mod patterns;
mod scan;
#[rustfmt::skip]
#[allow(clippy::unreadable_literal)] // bit patterns
mod tables;
mod window;

pub(super) use expression::{isolate, Expression, Sets};
pub use patterns::{Pattern, PATTERNS, TRIPTYCH};
