//! Rows of several sources in exact proportion, without randomness.
//!
//! After any number of rows k, each source has had fewer than one row more or less than
//! k times its weight: the chairman assignment problem (Tijdeman 1980), solved by giving
//! each slot to the source that may have it and must have one soonest. Weights are integers
//! here (their decimals, scaled), so nothing drifts; the schedule repeats with the period
//! of their sum, and one period is stored; where a ramp goes before, also the one that leads in.

use crate::error::{Error, Result};

/// Slots kept for a schedule: enough for any weights of six decimals that sum to 1.
const MAX_SLOTS: u64 = 1 << 20;

/// Digits in which weights are held side by side.
const MAX_DIGITS: i32 = 28;

/// Parts of a slot, at least, in which it is counted what sources are owed.
const OWED_PARTS: u128 = 1 << 40;

/// Which source each row of a stage comes from, with its rank among the rows of that source.
#[derive(Debug, Clone)]
pub struct Interleave {
    /// Of each slot of the period that leads in and of the one that repeats: the source, and its slots before this one.
    slots: Vec<(u32, u32)>,
    /// The first slot that repeats.
    repeats_from: u64,
    /// Slots of each source in what repeats.
    per_period: Vec<u64>,
}

impl Interleave {
    /// A schedule of `rows` rows for finite weights, not negative, which need not sum to 1. `owed` is what each source
    /// has had too little of before, in rows: more than -1, less than 1, and 0 in all.
    ///
    /// # Errors
    /// `InvalidValue` if neither the period nor `rows` is at most 2^20.
    pub fn new(weights: &[f64], owed: &[f64], rows: u64) -> Result<Self> {
        let shares = integers(weights);
        let period: u128 = shares.iter().sum();
        let length = u64::try_from(period).unwrap_or(u64::MAX).min(rows);
        if length > MAX_SLOTS {
            return Err(too_fine(weights));
        }
        Ok(Self::schedule(&Line::new(&shares, owed), length, rows))
    }

    /// What is owed is paid within a period, and from there on every period is like the one before.
    fn schedule(line: &Line, period: u64, rows: u64) -> Self {
        let repeats_from = if line.owes() { period } else { 0 };
        let length = rows.min(repeats_from + period);
        let mut done = vec![0u64; line.shares.len()];
        let mut slots = Vec::with_capacity(length as usize);
        let mut lead_in = done.clone();
        for slot in 0..length {
            if slot == repeats_from {
                lead_in.clone_from(&done);
            }
            let chosen = line.most_urgent(&done, slot);
            slots.push((chosen as u32, done[chosen] as u32));
            done[chosen] += 1;
        }
        let per_period = done.iter().zip(&lead_in).map(|(all, lead_in)| all - lead_in).collect();
        Self { slots, repeats_from, per_period }
    }

    /// Source of a row, and how many rows of that source came before it.
    pub fn source_of(&self, row: u64) -> (usize, u64) {
        let (slot, periods) = self.slot_of(row);
        let (source, rank) = self.slots[slot];
        let source = source as usize;
        (source, periods * self.per_period[source] + u64::from(rank))
    }

    /// Rows of each source among the first `rows`.
    pub fn counts(&self, rows: u64) -> Vec<u64> {
        let (slot, periods) = self.slot_of(rows);
        let mut counts: Vec<u64> = self.per_period.iter().map(|count| periods * count).collect();
        for (source, _) in &self.slots[..slot] {
            counts[*source as usize] += 1;
        }
        counts
    }

    /// The slot that stands for that of a row, and how many periods behind it the row is.
    fn slot_of(&self, row: u64) -> (usize, u64) {
        let length = self.slots.len() as u64;
        if row < length || length <= self.repeats_from {
            return (row.min(length) as usize, 0); // what does not repeat has no rows behind it
        }
        let (behind, period) = (row - self.repeats_from, length - self.repeats_from);
        ((self.repeats_from + behind % period) as usize, behind / period)
    }
}

/// What is due to each source after any number of slots, in whole parts of a slot.
struct Line {
    /// Parts of each slot that are a source's.
    shares: Vec<i128>,
    /// Parts that a source has had too little of before.
    owed: Vec<i128>,
    /// Parts of a slot.
    whole: i128,
}

impl Line {
    fn new(shares: &[u128], owed: &[f64]) -> Self {
        let sum: u128 = shares.iter().sum();
        let scale = (OWED_PARTS / sum).max(1);
        let whole = (sum * scale).cast_signed();
        let parts = |owed: &f64| (owed * whole as f64).round() as i128;
        let shares = shares.iter().map(|share| (share * scale).cast_signed()).collect();
        Self { shares, owed: owed.iter().map(parts).collect(), whole }
    }

    fn owes(&self) -> bool {
        self.owed.iter().any(|owed| *owed != 0)
    }

    /// Among sources that would not run a row ahead, the one whose next row is due first.
    ///
    /// Row c of a source with share q of P, which is owed o, may come in slot t if c * P < (t + 1) * q + o, and must by slot
    /// ceil(((c + 1) * P - o) / q) - 1; by none if q is 0.
    fn most_urgent(&self, done: &[u64], slot: u64) -> usize {
        let missing = |s: usize, rows: u64| i128::from(rows) * self.whole - self.owed[s];
        let next_slot = i128::from(slot) + 1;
        let may = (0..self.shares.len()).filter(|s| missing(*s, done[*s]) < next_slot * self.shares[*s]);
        let due = |s: usize| match self.shares[s] {
            0 => i128::MAX,
            share => (missing(s, done[s] + 1) + share - 1).div_euclid(share),
        };
        may.min_by_key(|s| due(*s)).unwrap_or(0)
    }
}

/// Weights as integers in the same proportion: their shortest decimals, scaled and reduced.
///
/// What is more than [`MAX_DIGITS`] digits behind the first of the largest is rounded, to 1 at least: over the
/// rows of a stage that is no part of a row. Products with [`MAX_SLOTS`] fit in an integer.
fn integers(weights: &[f64]) -> Vec<u128> {
    let decimals: Vec<Decimal> = weights.iter().map(|weight| Decimal::of(*weight)).collect();
    let some = || decimals.iter().filter(|decimal| decimal.digits > 0);
    let first = some().map(Decimal::first_place).max().unwrap_or(0);
    let last = some().map(|decimal| decimal.last_place).min().unwrap_or(0);
    let last = last.max(first - MAX_DIGITS);
    let scaled: Vec<u128> = decimals.iter().map(|decimal| decimal.in_units_of(last)).collect();
    let divisor = scaled.iter().copied().fold(0, gcd);
    scaled.into_iter().map(|value| value / divisor).collect()
}

/// The shortest decimal that reads back as a weight: `digits` times ten to the power of `last_place`.
struct Decimal {
    digits: u128,
    last_place: i32,
}

impl Decimal {
    /// Of a finite weight, not negative: 0 is that of a source that a ramp has led away from.
    fn of(weight: f64) -> Self {
        let text = format!("{weight:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}").parse().unwrap_or(1);
        let (exponent, places): (i32, u32) = (exponent.parse().unwrap_or(0), fraction.len() as u32);
        Self { digits, last_place: exponent - places.cast_signed() }
    }

    /// The power of ten of the place before its first digit, of which there is one that is not 0.
    fn first_place(&self) -> i32 {
        self.last_place + self.digits.ilog10().cast_signed() + 1
    }

    /// How many times ten to the power of `place` it is, rounded; at least once, unless it is 0.
    fn in_units_of(&self, place: i32) -> u128 {
        let least = self.digits.min(1);
        let ten_to = |places: i32| 10u128.checked_pow(places.unsigned_abs());
        match (self.last_place - place, ten_to(self.last_place - place)) {
            (0.., Some(times)) => self.digits * times,
            (_, Some(parts)) => ((self.digits + parts / 2) / parts).max(least),
            (_, None) => least,
        }
    }
}

fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 {
        a
    } else {
        gcd(b, a % b)
    }
}

fn too_fine(weights: &[f64]) -> Error {
    Error::InvalidValue {
        what: "weights".to_owned(),
        expected: format!("at most six decimals and a sum of 1 in a stage of more than {MAX_SLOTS} rows"),
        found: format!("{weights:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Checks |count - rows * weight| < 1 for every prefix, in integers.
    fn assert_within_one_row(shares: &[u32], rows: u64) {
        let weights: Vec<f64> = shares.iter().map(|share| f64::from(*share)).collect();
        let total: i128 = shares.iter().map(|share| i128::from(*share)).sum();
        let interleave = Interleave::new(&weights, &vec![0.0; weights.len()], rows).unwrap();
        let mut counts = vec![0i128; shares.len()];
        for row in 0..rows {
            let (source, rank) = interleave.source_of(row);
            assert_eq!(i128::from(rank), counts[source]);
            counts[source] += 1;
            for (count, share) in counts.iter().zip(shares) {
                let error = count * total - i128::from(row + 1) * i128::from(*share);
                assert!(error.abs() < total, "after {} rows of {shares:?}: {counts:?}", row + 1);
            }
        }
        assert!(interleave.counts(rows).iter().zip(&counts).all(|(a, b)| i128::from(*a) == *b));
    }

    proptest! {
        #[test]
        fn every_prefix_is_within_one_row_of_the_weights(shares in proptest::collection::vec(1u32..500, 1..12), rows in 1u64..3000) {
            assert_within_one_row(&shares, rows);
        }
    }

    #[test]
    fn decimal_weights_are_exact_and_repeat_with_their_period() {
        let interleave = Interleave::new(&[0.4, 0.3, 0.2, 0.1], &[0.0; 4], 1 << 40).unwrap();
        assert_eq!(
            interleave.counts(10_000_000_000),
            [4_000_000_000, 3_000_000_000, 2_000_000_000, 1_000_000_000]
        );
    }

    #[test]
    fn weights_of_many_digits_work_in_short_stages_and_are_refused_in_endless_ones() {
        let third = 1.0 / 3.0;
        assert_eq!(Interleave::new(&[third, third, third], &[0.0; 3], 1 << 40).unwrap().counts(3), [1, 1, 1]);
        let fine = [0.123_456_789_123, 1.0];
        assert_eq!(Interleave::new(&fine, &[0.0; 2], 1000).unwrap().counts(1000).iter().sum::<u64>(), 1000);
        assert!(matches!(Interleave::new(&fine, &[0.0; 2], 1 << 40), Err(Error::InvalidValue { .. })));
        let far_apart = [0.137_118_960_908_009_82, 900.0, 2e-9];
        assert_eq!(Interleave::new(&far_apart, &[0.0; 3], 2000).unwrap().counts(2000), [0, 2000, 0]);
    }
}
