//! IPv4: `\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b` becomes `[IP]`.
//!
//! A run of digits is followed by what ends it, so taking fewer digits than there are
//! (up to three) never helps: the pattern does not backtrack.

use super::digits::{skip_byte, skip_up_to, word_end};

/// End of an address that begins at `start`.
pub(super) fn end(text: &str, start: usize) -> Option<usize> {
    let last = (0..3).try_fold(start, |at, _| skip_byte(text, skip_up_to(text, at, 3)?, b'.'))?;
    word_end(text, skip_up_to(text, last, 3)?)
}
