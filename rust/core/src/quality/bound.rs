//! A rule that is a bound on a feature; built-in tables and the user's own rules alike.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::feature::{Measure, FEATURES};
use super::{Check, Reason};
use crate::error::{Error, Result};
use crate::text::Views;

/// Rejects a text whose feature lies outside `min..=max`; the bounds themselves pass.
#[derive(Debug, Clone)]
pub struct Bound {
    reason: Cow<'static, str>,
    measure: Measure,
    /// A cheaper measure that is never below; where that passes `max`, so does this.
    ceiling: Option<Measure>,
    /// A cheaper measure that is never above; where that passes `min`, so does this.
    floor: Option<Measure>,
    min: f64,
    max: f64,
}

/// A rule of the configuration: `[[rule]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// Name in the ledger; that of the feature if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// One of [`FEATURES`].
    pub feature: String,
    /// Smallest value that passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Largest value that passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

impl Bound {
    /// Rejects what is below `min`.
    pub(super) const fn min(reason: &'static str, measure: Measure, min: f64) -> Self {
        Self::between(Cow::Borrowed(reason), measure, min, f64::INFINITY)
    }

    /// Rejects what is above `max`.
    pub(super) const fn max(reason: &'static str, measure: Measure, max: f64) -> Self {
        Self::between(Cow::Borrowed(reason), measure, f64::NEG_INFINITY, max)
    }

    const fn between(reason: Cow<'static, str>, measure: Measure, min: f64, max: f64) -> Self {
        Self { reason, measure, ceiling: None, floor: None, min, max }
    }

    /// Rejects what is above `max`, and asks the cheaper `ceiling` first.
    pub(super) const fn max_below(
        reason: &'static str,
        measure: Measure,
        ceiling: Measure,
        max: f64,
    ) -> Self {
        let (reason, ceiling, min) = (Cow::Borrowed(reason), Some(ceiling), f64::NEG_INFINITY);
        Self { reason, measure, ceiling, floor: None, min, max }
    }

    /// Rejects what is below `min`, and asks the cheaper `floor` first.
    pub(super) const fn min_above(reason: &'static str, measure: Measure, floor: Measure, min: f64) -> Self {
        let (reason, floor, max) = (Cow::Borrowed(reason), Some(floor), f64::INFINITY);
        Self { reason, measure, ceiling: None, floor, min, max }
    }

    /// The rule of a configuration.
    ///
    /// # Errors
    /// `UnknownName` for the feature; `InvalidValue` if the bounds are missing or exclude everything.
    pub fn from_config(rule: &RuleConfig) -> Result<Self> {
        let (min, max) = (rule.min.unwrap_or(f64::NEG_INFINITY), rule.max.unwrap_or(f64::INFINITY));
        let Some((_, measure)) = FEATURES.iter().find(|(name, _)| *name == rule.feature) else {
            return Err(Error::unknown_name("feature", &rule.feature, &FEATURES.map(|(name, _)| name)));
        };
        let is_bounded = rule.min.is_some() || rule.max.is_some();
        if !is_bounded || min > max || min.is_nan() || max.is_nan() {
            return Err(Error::InvalidValue {
                what: format!("rule on `{}`", rule.feature),
                expected: "`min`, `max` or both, `min` at most `max`".to_owned(),
                found: if is_bounded { format!("`min` {min} and `max` {max}") } else { "neither".to_owned() },
            });
        }
        let reason = rule.name.as_ref().unwrap_or(&rule.feature).clone().into();
        Ok(Self::between(reason, *measure, min, max))
    }

    /// The reason, if the text breaks this rule. What is not a number breaks none.
    pub(super) fn broken(&self, text: &str, views: &mut Views) -> Option<Reason<'_>> {
        let is_low = self.ceiling.is_some_and(|ceiling| ceiling(text, views) <= self.max);
        if is_low || self.floor.is_some_and(|floor| floor(text, views) >= self.min) {
            return None;
        }
        let value = (self.measure)(text, views);
        (value < self.min || value > self.max).then_some(Reason(&self.reason))
    }

    /// What this rule measures of the text, beside its bounds.
    pub(super) fn check(&self, text: &str, views: &mut Views) -> Check {
        let passes = self.broken(text, views).is_none();
        let value = (self.measure)(text, views);
        Check { passes, ..Check::new(&self.reason, value, self.min, self.max) }
    }
}
