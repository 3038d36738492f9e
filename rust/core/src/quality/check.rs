//! What the rules of a chain measured of one text: the chain itself, told step by step.

use serde::Serialize;

/// A rule, its value, and the bounds between which it passes; the bounds themselves pass.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// The reason that stands in the ledger if the rule is broken.
    pub rule: String,
    /// What was measured; `None` if the rule has no number, or 0 of 0.
    pub value: Option<f64>,
    /// Smallest value that passes.
    pub min: Option<f64>,
    /// Largest value that passes.
    pub max: Option<f64>,
    /// False if the text breaks the rule.
    pub passes: bool,
    /// True for the one rule that rejects the text.
    pub decides: bool,
}

/// A line that a profile drops from the text it keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DroppedLine {
    /// 1-based number of the line in the text that the profile was given.
    pub line: usize,
    /// Its length, in bytes.
    pub bytes: usize,
    /// Why it is dropped.
    pub reason: &'static str,
}

/// What one profile of a chain makes of a text.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct StageTrace {
    /// Name of the profile.
    pub profile: String,
    /// False if an earlier profile has rejected the text: the values are those of the text as that one saw it.
    pub is_asked: bool,
    /// Its rules, in the order in which they are asked.
    pub checks: Vec<Check>,
    /// The lines that it drops, if it edits texts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dropped_lines: Vec<DroppedLine>,
    /// Bytes of the text that it passes on; `None` if it rejects.
    pub bytes_left: Option<usize>,
}

impl Check {
    /// A rule that passes. What is not finite is no value, or no bound.
    pub(crate) fn new(rule: &str, value: f64, min: f64, max: f64) -> Self {
        let finite = |number: f64| number.is_finite().then_some(number);
        let (value, min, max) = (finite(value), finite(min), finite(max));
        Self { rule: rule.to_owned(), value, min, max, passes: true, decides: false }
    }
}

impl StageTrace {
    /// A step before this one has rejected the text.
    pub(crate) fn skip(&mut self) {
        (self.is_asked, self.bytes_left) = (false, None);
        self.checks.iter_mut().for_each(|check| check.decides = false);
    }

    /// Marks the rule that rejects the text; false, for no later one is asked.
    pub(crate) fn decide(&mut self, reason: &str) -> bool {
        let broken = self.checks.iter_mut().find(|check| check.rule == reason && !check.passes);
        match broken {
            Some(check) => check.decides = true,
            // A rule that shows no check of its own.
            None => self.checks.push(Check {
                passes: false,
                decides: true,
                ..Check::new(reason, f64::NAN, f64::NAN, f64::NAN)
            }),
        }
        false
    }
}
