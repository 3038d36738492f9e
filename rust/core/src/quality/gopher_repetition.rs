//! Gopher's repetition rules (Rae et al. 2021, table A1), as datatrove 0.10 applies them.

use super::feature::{
    duplicate_line_char_fraction, duplicate_line_fraction, duplicate_paragraph_char_fraction,
    duplicate_paragraph_fraction, num_chars, repeated_ngram_ceiling, repeated_ngram_char_fraction,
    top_ngram_ceiling, top_ngram_char_fraction,
};
use super::Bound;

/// The rules, in order.
pub(super) static RULES: [Bound; 14] = [
    Bound::min("empty", num_chars, 1.0),
    Bound::max("dup_para_frac", duplicate_paragraph_fraction, 0.3),
    Bound::max("dup_para_char_frac", duplicate_paragraph_char_fraction, 0.2),
    Bound::max("dup_line_frac", duplicate_line_fraction, 0.3),
    Bound::max("dup_line_char_frac", duplicate_line_char_fraction, 0.2),
    Bound::max_below("top_2_gram", top_ngram_char_fraction::<2>, top_ngram_ceiling::<2>, 0.2),
    Bound::max_below("top_3_gram", top_ngram_char_fraction::<3>, top_ngram_ceiling::<3>, 0.18),
    Bound::max_below("top_4_gram", top_ngram_char_fraction::<4>, top_ngram_ceiling::<4>, 0.16),
    Bound::max_below(
        "duplicated_5_n_grams",
        repeated_ngram_char_fraction::<5>,
        repeated_ngram_ceiling::<5>,
        0.15,
    ),
    Bound::max_below(
        "duplicated_6_n_grams",
        repeated_ngram_char_fraction::<6>,
        repeated_ngram_ceiling::<6>,
        0.14,
    ),
    Bound::max_below(
        "duplicated_7_n_grams",
        repeated_ngram_char_fraction::<7>,
        repeated_ngram_ceiling::<7>,
        0.13,
    ),
    Bound::max_below(
        "duplicated_8_n_grams",
        repeated_ngram_char_fraction::<8>,
        repeated_ngram_ceiling::<8>,
        0.12,
    ),
    Bound::max_below(
        "duplicated_9_n_grams",
        repeated_ngram_char_fraction::<9>,
        repeated_ngram_ceiling::<9>,
        0.11,
    ),
    Bound::max_below(
        "duplicated_10_n_grams",
        repeated_ngram_char_fraction::<10>,
        repeated_ngram_ceiling::<10>,
        0.1,
    ),
];
