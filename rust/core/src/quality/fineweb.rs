//! The rules of `FineWeb` (Penedo et al. 2024, section 3.6), as datatrove 0.10 applies them.

use super::feature::{
    duplicate_filled_line_char_fraction, newline_split_word_ratio, newline_word_ratio, num_filled_lines,
    short_line_fraction, terminal_line_fraction,
};
use super::Bound;

/// The rules, in order.
pub(super) static RULES: [Bound; 5] = [
    Bound::min("empty", num_filled_lines, 1.0),
    Bound::min("line_punct_ratio", terminal_line_fraction, 0.12),
    Bound::max("short_line_ratio", short_line_fraction, 0.67),
    Bound::max("char_dup_ratio", duplicate_filled_line_char_fraction, 0.01),
    Bound::max_below("list_ratio", newline_word_ratio, newline_split_word_ratio, 0.3),
];
