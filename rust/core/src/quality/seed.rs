//! The rules of the `seed` profile; their bounds pass.

use super::{Check, Reason, WordSet};
use crate::text::Scan;

/// Bounds on the number of words; the other bounds are fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeedRules {
    /// Fewest words.
    pub min_length: usize,
    /// Most words.
    pub max_length: usize,
}

/// Mean word length in code points.
const MEAN_WORD_LENGTH: std::ops::RangeInclusive<f64> = 3.0..=10.0;
/// Largest share of code points that are neither alphanumeric nor white space.
const MAX_SYMBOL_FRACTION: f64 = 0.3;
/// Smallest share of distinct words.
const MIN_DISTINCT_FRACTION: f64 = 0.2;

type Rule = fn(&SeedRules, &str, &Scan, &mut WordSet) -> bool;

/// Each reason with the rule that finds it, in order.
const RULES: [(Reason<'static>, Rule); 5] = [
    (Reason("too_few_words"), too_few_words),
    (Reason("too_many_words"), too_many_words),
    (Reason("mean_word_length"), mean_word_length),
    (Reason("symbol_fraction"), symbol_fraction),
    (Reason("distinct_words"), distinct_words),
];

impl SeedRules {
    /// The first rule that the scanned `text` breaks, or `None` if it passes.
    pub fn first_broken(&self, text: &str, scan: &Scan, words: &mut WordSet) -> Option<Reason<'static>> {
        RULES.iter().find(|(_, breaks)| breaks(self, text, scan, words)).map(|(reason, _)| *reason)
    }
}

impl SeedRules {
    /// What each rule measures of the scanned `text`, beside its bounds.
    pub(super) fn checks(&self, text: &str, scan: &Scan, words: &mut WordSet) -> Vec<Check> {
        let num_words = scan.num_words as f64;
        let (min, max) = (self.min_length.max(1) as f64, self.max_length as f64);
        let (shortest, longest) = MEAN_WORD_LENGTH.into_inner();
        let distinct = words.count(text, scan) as f64 / num_words;
        let measured = [
            (num_words, min, f64::INFINITY),
            (num_words, f64::NEG_INFINITY, max),
            (mean_length(scan), shortest, longest),
            (symbols(scan), f64::NEG_INFINITY, MAX_SYMBOL_FRACTION),
            (distinct, MIN_DISTINCT_FRACTION, f64::INFINITY),
        ];
        let check = |((reason, breaks), (value, min, max)): (&(Reason, Rule), _)| Check {
            passes: !breaks(self, text, scan, words),
            ..Check::new(reason.name(), value, min, max)
        };
        RULES.iter().zip(measured).map(check).collect()
    }
}

/// A text without words breaks this rule even if `min_length` is 0: it has no mean.
fn too_few_words(rules: &SeedRules, _: &str, scan: &Scan, _: &mut WordSet) -> bool {
    scan.num_words < rules.min_length.max(1)
}

fn too_many_words(rules: &SeedRules, _: &str, scan: &Scan, _: &mut WordSet) -> bool {
    scan.num_words > rules.max_length
}

fn mean_word_length(_: &SeedRules, _: &str, scan: &Scan, _: &mut WordSet) -> bool {
    !MEAN_WORD_LENGTH.contains(&mean_length(scan))
}

fn mean_length(scan: &Scan) -> f64 {
    scan.num_word_chars() as f64 / scan.num_words as f64
}

fn symbol_fraction(_: &SeedRules, _: &str, scan: &Scan, _: &mut WordSet) -> bool {
    symbols(scan) > MAX_SYMBOL_FRACTION
}

fn symbols(scan: &Scan) -> f64 {
    scan.num_symbols() as f64 / scan.num_chars as f64
}

fn distinct_words(_: &SeedRules, text: &str, scan: &Scan, words: &mut WordSet) -> bool {
    !words.reaches(text, scan, MIN_DISTINCT_FRACTION)
}
