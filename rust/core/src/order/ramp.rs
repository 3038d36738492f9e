//! Rows of several sources while their shares move in a straight line.
//!
//! After any number of rows k of a ramp of R, each source has had fewer than one row more or
//! less than the sum of its shares so far, `p (k - k²/2R) + n k²/2R` for a share that goes from p
//! to n: the chairman assignment problem with moving weights (Tijdeman 1980), solved as in
//! [`super::interleave`] by giving each slot to the source whose next row is due first, also where it is due behind the ramp.

/// Rows of a ramp: what the schedule is computed and kept for.
pub const MAX_ROWS: u64 = 1 << 24;

/// What rounding may take from a target, or add to it: one of 2^24 rows is off by a few 2^-28. Some source is always
/// owed more than this, since together they are owed a row.
const ROUNDING: f64 = 1e-7;

/// Which source each row of a ramp comes from, with its rank among the rows of that source.
#[derive(Debug, Clone)]
pub struct Ramp {
    slots: Vec<(u32, u32)>,
    targets: Vec<Target>,
}

impl Ramp {
    /// The schedule of `rows` rows, at most `MAX_ROWS`, between two lists of shares that each sum to 1.
    pub fn new(from: &[f64], to: &[f64], rows: u64) -> Self {
        let targets: Vec<Target> =
            from.iter().zip(to).map(|(from, to)| Target { from: *from, to: *to, rows }).collect();
        let mut done = vec![0u64; targets.len()];
        let mut due: Vec<u64> = targets.iter().map(|target| target.reaches(1, 0)).collect();
        let mut slots = Vec::with_capacity(rows as usize);
        for slot in 0..rows {
            let chosen = most_urgent(&targets, &done, &due, slot);
            slots.push((chosen as u32, done[chosen] as u32));
            done[chosen] += 1;
            due[chosen] = targets[chosen].reaches(done[chosen] + 1, slot);
        }
        Self { slots, targets }
    }

    /// Rows of the ramp.
    pub fn rows(&self) -> u64 {
        self.slots.len() as u64
    }

    /// Source of a row, and how many rows of that source came before it.
    pub fn source_of(&self, row: u64) -> (usize, u64) {
        let (source, rank) = self.slots[row as usize];
        (source as usize, u64::from(rank))
    }

    /// What each source has had too little of in the whole ramp, where it has had `counts`; less than rounding is nothing.
    pub fn owed(&self, counts: &[u64]) -> Vec<f64> {
        let owed = |(target, count): (&Target, &u64)| target.at(target.rows) - *count as f64;
        let exact = |owed: f64| if owed.abs() < ROUNDING { 0.0 } else { owed };
        self.targets.iter().zip(counts).map(owed).map(exact).collect()
    }

    /// Adds the rows of each source among the first `rows` to `counts`.
    pub fn count(&self, rows: u64, counts: &mut [u64]) {
        for (source, _) in &self.slots[..rows as usize] {
            counts[*source as usize] += 1;
        }
    }
}

/// Rows that a source should have had, as a function of rows dealt: those of the ramp, and of its last share behind it.
#[derive(Debug, Clone, Copy)]
struct Target {
    from: f64,
    to: f64,
    rows: u64,
}

impl Target {
    fn at(self, rows: u64) -> f64 {
        if rows > self.rows {
            return self.at(self.rows) + self.to * (rows - self.rows) as f64;
        }
        let k = rows as f64;
        let moved = k * k / (2.0 * self.rows as f64);
        self.from * (k - moved) + self.to * moved
    }

    /// The first number of rows, after `from`, at which the target is at least `count`.
    #[allow(clippy::cast_sign_loss)] // of what is missing, which is above 0
    fn reaches(self, count: u64, from: u64) -> u64 {
        let missing = |rows: u64| count as f64 - ROUNDING - self.at(rows);
        if missing(self.rows) > 0.0 {
            return self.rows.saturating_add((missing(self.rows) / self.to).ceil() as u64);
        }
        let (mut low, mut high) = (from, self.rows);
        while low < high {
            let middle = low.midpoint(high);
            if missing(middle) > 0.0 {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

/// Among sources that would not run a row ahead, the one whose next row is due first.
fn most_urgent(targets: &[Target], done: &[u64], due: &[u64], slot: u64) -> usize {
    let may = (0..targets.len()).filter(|s| (done[*s] as f64) < targets[*s].at(slot + 1) - ROUNDING);
    may.min_by_key(|s| due[*s]).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shares(weights: &[u32]) -> Vec<f64> {
        let sum: u32 = weights.iter().sum();
        weights.iter().map(|weight| f64::from(*weight) / f64::from(sum)).collect()
    }

    proptest! {
        #[test]
        fn every_prefix_is_within_one_row_of_the_moving_shares(
            weights in proptest::collection::vec((0u32..100, 0u32..100), 1..9), rows in 1u64..3000,
        ) {
            let (from, to): (Vec<u32>, Vec<u32>) = weights.into_iter().unzip();
            prop_assume!(from.iter().any(|w| *w > 0) && to.iter().any(|w| *w > 0));
            let (from, to) = (shares(&from), shares(&to));
            let ramp = Ramp::new(&from, &to, rows);
            let (mut counts, mut targets) = (vec![0u64; from.len()], vec![0.0; from.len()]);
            for row in 0..rows {
                let (source, rank) = ramp.source_of(row);
                prop_assert_eq!(rank, counts[source]);
                counts[source] += 1;
                let moved = (row as f64 + 0.5) / rows as f64; // the share at the middle of the row
                for (source, target) in targets.iter_mut().enumerate() {
                    *target += from[source] * (1.0 - moved) + to[source] * moved;
                    let error = counts[source] as f64 - *target;
                    prop_assert!(error.abs() < 1.0 + 1e-6, "after {} rows: {counts:?} for {targets:?}", row + 1);
                }
            }
        }
    }

    #[test]
    fn a_ramp_between_equal_shares_is_an_even_mixture() {
        let mut counts = [0, 0];
        Ramp::new(&[0.25, 0.75], &[0.25, 0.75], 400).count(400, &mut counts);
        assert_eq!(counts, [100, 300]);
    }
}
