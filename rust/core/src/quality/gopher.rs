//! Gopher's quality rules (Rae et al. 2021, appendix A.1.1), as datatrove 0.10 applies them.

use super::feature::{
    bullet_line_fraction, ellipsis_line_fraction, ellipsis_word_ratio, hash_word_ratio, letter_word_fraction,
    mean_word_length, num_no_symbol_words, num_stop_words,
};
use super::Bound;

/// The rules, in order.
pub(super) static RULES: [Bound; 10] = [
    Bound::min("gopher_short_doc", num_no_symbol_words, 50.0),
    Bound::max("gopher_long_doc", num_no_symbol_words, 100_000.0),
    Bound::min("gopher_below_avg_threshold", mean_word_length, 3.0),
    Bound::max("gopher_above_avg_threshold", mean_word_length, 10.0),
    Bound::max("gopher_too_many_hashes", hash_word_ratio, 0.1),
    Bound::max("gopher_too_many_ellipsis", ellipsis_word_ratio, 0.1),
    Bound::max("gopher_too_many_bullets", bullet_line_fraction, 0.9),
    Bound::max("gopher_too_many_end_ellipsis", ellipsis_line_fraction, 0.3),
    Bound::min("gopher_below_alpha_threshold", letter_word_fraction, 0.8),
    Bound::min("gopher_enough_stop_words", num_stop_words, 2.0),
];
