//! Social security number: `\b\d{3}-\d{2}-\d{4}\b` becomes `[SSN]`.

use super::digits::{skip_byte, skip_digits, word_end};

/// End of a social security number that begins at `start`.
pub(super) fn end(text: &str, start: usize) -> Option<usize> {
    let group = skip_byte(text, skip_digits(text, start, 3)?, b'-')?;
    let serial = skip_byte(text, skip_digits(text, group, 2)?, b'-')?;
    word_end(text, skip_digits(text, serial, 4)?)
}
