//! Telephone: `\b\d{3}[-.]?\d{3}[-.]?\d{4}\b` becomes `[PHONE]`.
//!
//! A separator that is present must be taken, for no digit stands in its place: the
//! pattern never backtracks.

use super::digits::{skip_byte, skip_digits, word_end};

/// End of a telephone number that begins at `start`.
pub(super) fn end(text: &str, start: usize) -> Option<usize> {
    let area = skip_separator(text, skip_digits(text, start, 3)?);
    let exchange = skip_separator(text, skip_digits(text, area, 3)?);
    word_end(text, skip_digits(text, exchange, 4)?)
}

fn skip_separator(text: &str, at: usize) -> usize {
    skip_byte(text, at, b'-').or_else(|| skip_byte(text, at, b'.')).unwrap_or(at)
}
