//! The rows of a stage by source: a ramp, if there is one, then constant shares, which begin with what it owes.

use super::interleave::Interleave;
use super::ramp::{Ramp, MAX_ROWS};
use crate::error::{Error, Result};

/// Which source each row of a stage comes from, with its rank among the rows of that source.
#[derive(Debug, Clone)]
pub struct Mixture {
    ramp: Option<Ramp>,
    /// Rows of each source in the ramp.
    in_ramp: Vec<u64>,
    steady: Interleave,
}

impl Mixture {
    /// `rows` rows, the first `ramp_rows` of which move from weights `before` to `weights`.
    ///
    /// Both lists are by source; a source that only one of them uses has the weight 0 in the other.
    ///
    /// # Errors
    /// `InvalidValue` for weights too fine for the stage's length, or a ramp of more than 2^24 rows.
    pub fn new(before: &[f64], weights: &[f64], ramp_rows: u64, rows: u64) -> Result<Self> {
        if ramp_rows > MAX_ROWS {
            return Err(Error::InvalidValue {
                what: "rows of a ramp".to_owned(),
                expected: format!("at most {MAX_ROWS}"),
                found: ramp_rows.to_string(),
            });
        }
        let ramp = (ramp_rows > 0).then(|| Ramp::new(&shares(before), &shares(weights), ramp_rows));
        let (mut in_ramp, mut owed) = (vec![0; weights.len()], vec![0.0; weights.len()]);
        if let Some(ramp) = &ramp {
            ramp.count(ramp_rows, &mut in_ramp);
            owed = ramp.owed(&in_ramp);
        }
        let steady = Interleave::new(weights, &owed, rows - ramp_rows)?;
        Ok(Self { ramp, in_ramp, steady })
    }

    /// Source of a row, and how many rows of that source came before it in the stage.
    pub fn source_of(&self, row: u64) -> (usize, u64) {
        let ramp_rows = self.ramp_rows();
        match &self.ramp {
            Some(ramp) if row < ramp_rows => ramp.source_of(row),
            _ => {
                let (source, rank) = self.steady.source_of(row - ramp_rows);
                (source, self.in_ramp[source] + rank)
            }
        }
    }

    /// Rows of each source among the first `rows`.
    pub fn counts(&self, rows: u64) -> Vec<u64> {
        let ramp_rows = self.ramp_rows();
        match &self.ramp {
            Some(ramp) if rows < ramp_rows => {
                let mut counts = vec![0; self.in_ramp.len()];
                ramp.count(rows, &mut counts);
                counts
            }
            _ => {
                let steady = self.steady.counts(rows - ramp_rows);
                steady.iter().zip(&self.in_ramp).map(|(steady, ramp)| steady + ramp).collect()
            }
        }
    }

    fn ramp_rows(&self) -> u64 {
        self.ramp.as_ref().map_or(0, Ramp::rows)
    }
}

fn shares(weights: &[f64]) -> Vec<f64> {
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_goes_on_from_its_ramp_with_every_row_of_a_source_in_turn() {
        let mixture = Mixture::new(&[1.0, 0.0], &[1.0, 3.0], 10, 50).unwrap();
        let mut counts = vec![0, 0];
        for row in 0..50 {
            assert_eq!(mixture.counts(row), counts);
            let (source, rank) = mixture.source_of(row);
            assert_eq!(rank, counts[source]);
            counts[source] += 1;
        }
        assert_eq!(mixture.counts(50), counts);
    }

    #[test]
    fn a_mixture_that_ends_early_has_the_first_rows_of_the_whole() {
        for ramp_rows in [0, 4] {
            let of = |rows| Mixture::new(&[1.0, 0.0], &[0.97, 0.03], ramp_rows, rows).unwrap();
            let (whole, short) = (of(90), of(5));
            assert!((0..5).all(|row| whole.source_of(row) == short.source_of(row)));
            assert!((0..=5).all(|rows| whole.counts(rows) == short.counts(rows)));
        }
    }

    #[test]
    fn a_ramp_may_take_the_whole_stage_but_not_more_rows_than_are_kept() {
        let mixture = Mixture::new(&[1.0, 0.0], &[0.0, 1.0], 10, 10).unwrap();
        assert_eq!(mixture.counts(10), [5, 5]);
        let long = Mixture::new(&[1.0], &[1.0], MAX_ROWS + 1, MAX_ROWS + 1);
        assert!(matches!(long, Err(Error::InvalidValue { .. })));
    }
}
