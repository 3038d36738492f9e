//! Windows of steps whose data is left out: what a rewind past a bad stretch needs.
//!
//! Without windows, step s reads the data of step s. A window takes a range of data steps out of
//! that line, and everything behind it moves up: a run keeps its number of steps and its
//! learning rates, and a stage reads as many rows as before, only later ones. Steps before a
//! window are untouched.

use std::ops::Range;

use crate::error::{Error, Result};

/// Disjoint windows of data steps, ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skips {
    windows: Vec<Range<u64>>,
}

impl Skips {
    /// Windows in any order; ones that touch are joined.
    ///
    /// # Errors
    /// `InvalidValue` for a window that ends before it begins, or past 2^63.
    pub fn new(windows: &[Range<u64>]) -> Result<Self> {
        if let Some(wrong) = windows.iter().find(|window| window.is_empty() || window.end > 1 << 63) {
            return Err(Error::InvalidValue {
                what: "a window of steps to skip".to_owned(),
                expected: "its first step, then a later one, the first that is read again".to_owned(),
                found: format!("{} to {}", wrong.start, wrong.end),
            });
        }
        let mut sorted = windows.to_vec();
        sorted.sort_by_key(|window| window.start);
        let mut joined: Vec<Range<u64>> = Vec::with_capacity(sorted.len());
        for window in sorted {
            match joined.last_mut() {
                Some(last) if window.start <= last.end => last.end = last.end.max(window.end),
                _ => joined.push(window),
            }
        }
        Ok(Self { windows: joined })
    }

    /// The data step that step `step` reads.
    pub fn data_step(&self, step: u64) -> u64 {
        let reached = |at: u64, window: &Range<u64>| {
            if at >= window.start {
                at + (window.end - window.start)
            } else {
                at
            }
        };
        self.windows.iter().fold(step, reached)
    }

    /// The windows, as far as they lie in a range of data steps.
    pub fn within(&self, steps: &Range<u64>) -> Vec<Range<u64>> {
        let parts =
            self.windows.iter().map(|window| window.start.max(steps.start)..window.end.min(steps.end));
        parts.filter(|part| !part.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn steps_read_the_data_steps_outside_all_windows_in_order(
            windows in proptest::collection::vec((0u64..60, 1u64..12), 0..6),
        ) {
            let windows: Vec<Range<u64>> = windows.iter().map(|(start, length)| *start..start + length).collect();
            let skips = Skips::new(&windows).unwrap();
            let kept = (0..200u64).filter(|step| !windows.iter().any(|window| window.contains(step)));
            prop_assert!(kept.zip(0..).all(|(data_step, step)| skips.data_step(step) == data_step));
        }
    }

    #[test]
    fn a_window_without_steps_is_refused() {
        assert!(matches!(Skips::new(&[Range { start: 5, end: 5 }]), Err(Error::InvalidValue { .. })));
    }
}
