//! What losses on logits are made of, a row each, and the gradient of any of them.
//!
//! Log-probability of the target, log-sum, mean and entropy: every loss on tokens is plain arithmetic on
//! these four, so that one backward pass serves all.

use std::ops::Range;

use crate::element::Element;
use crate::logits::{by_shape, logit, Shape, Shaping, Slopes, Sums, Upstream};
use crate::rows::{on_rows, RowKernel};
use crate::team::Parts;
use crate::vector::Vector;

/// A number for each row.
#[derive(Debug)]
pub struct Statistics<R> {
    /// Log-probability of the target.
    pub logps: R,
    /// Logarithm of the sum of e^logit.
    pub log_sums: R,
    /// Of the logits.
    pub means: R,
    /// Of the distribution; or none, where nobody asks.
    pub entropies: R,
}

impl<R: AsRef<[f32]>> Statistics<R> {
    /// What stands against it for `len` numbers of rows with `vocab_size` logits, and targets; `None` if
    /// nothing does.
    pub fn obstacle(&self, len: usize, vocab_size: usize, targets: &[i64]) -> Option<String> {
        let rows = targets.len();
        let three = [&self.logps, &self.log_sums, &self.means].map(|numbers| numbers.as_ref().len());
        let entropies = self.entropies.as_ref().len();
        if three != [rows; 3] || (entropies != 0 && entropies != rows) {
            return Some(format!("{rows} targets, and {three:?} and {entropies} numbers of rows"));
        }
        targets_outside(len, vocab_size, targets)
    }
}

/// What stands against rows of so many numbers in all, `vocab_size` logits each, with these targets.
pub(crate) fn targets_outside(len: usize, vocab_size: usize, targets: &[i64]) -> Option<String> {
    let rows = targets.len();
    if rows == 0 || !len.is_multiple_of(rows) {
        return Some(format!("{len} logits and {rows} targets"));
    }
    if !(1..=len / rows).contains(&vocab_size) {
        return Some(format!("{vocab_size} logits in rows of {}", len / rows));
    }
    let outside = targets.iter().find(|id| usize::try_from(**id).map_or(true, |id| id >= vocab_size));
    outside.map(|id| format!("a target of {id} in {vocab_size} logits"))
}

/// Writes the statistics of `logits` (rows, width >= `vocab_size`) with `targets` (rows,).
///
/// # Panics
/// `Statistics::obstacle` names something.
pub fn statistics<E: Element>(
    logits: &[E],
    targets: &[i64],
    shape: Shape,
    found: Statistics<&mut [f32]>,
    num_threads: usize,
) {
    let (width, vocab_size) = (logits.len() / targets.len(), shape.vocab_size);
    let with_entropy = !found.entropies.is_empty();
    let found = Statistics {
        logps: Parts::of(found.logps),
        log_sums: Parts::of(found.log_sums),
        means: Parts::of(found.means),
        entropies: Parts::of(found.entropies),
    };
    by_shape!(shape, shaping => {
        let kernel = Forward { logits, targets, width, vocab_size, found, with_entropy, shaping };
        on_rows::<E>(&kernel, targets.len(), num_threads);
    });
}

struct Forward<'a, E, S> {
    logits: &'a [E],
    targets: &'a [i64],
    width: usize,
    vocab_size: usize,
    found: Statistics<Parts<'a, f32>>,
    with_entropy: bool,
    shaping: S,
}

impl<E: Element, S: Shaping> RowKernel<E> for Forward<'_, E, S> {
    #[inline(always)]
    #[allow(unsafe_code)]
    #[allow(clippy::cast_sign_loss)] // `Statistics::obstacle` looked at targets
    fn rows<V: Vector<Element = E>>(&self, rows: Range<usize>) {
        for row in rows {
            let logits = &self.logits[row * self.width..][..self.vocab_size];
            let sums = Sums::of::<V>(logits, self.shaping);
            let target = logit::<V>(logits[self.targets[row] as usize], self.shaping);
            // Sound: a row is drawn once.
            let one = |of: &Parts<'_, f32>, number| unsafe { of.part(row, 1)[0] = number };
            one(&self.found.logps, sums.logp(target));
            one(&self.found.log_sums, sums.log_sum());
            one(&self.found.means, sums.mean);
            if self.with_entropy {
                one(&self.found.entropies, sums.entropy::<V>(logits, self.shaping));
            }
        }
    }
}

/// Turns `logits` into the gradient of a loss, of which `upstream` is that of each statistic.
///
/// `entropies` are those of the forward pass. What else it summed up is summed up again: a log-sum that
/// was rounded to float32 is too coarse for large logits.
///
/// # Panics
/// As [`statistics`], or where there are other numbers of entropies than of gradients of them.
pub fn statistics_slopes<E: Element>(
    logits: &mut [E],
    targets: &[i64],
    shape: Shape,
    entropies: &[f32],
    upstream: &Statistics<&[f32]>,
    num_threads: usize,
) {
    let (width, vocab_size) = (logits.len() / targets.len(), shape.vocab_size);
    let logits = Parts::of(logits);
    by_shape!(shape, shaping => {
        let kernel = Backward { logits, targets, width, vocab_size, entropies, upstream, shaping };
        on_rows::<E>(&kernel, targets.len(), num_threads);
    });
}

struct Backward<'a, E, S> {
    logits: Parts<'a, E>,
    targets: &'a [i64],
    width: usize,
    vocab_size: usize,
    entropies: &'a [f32],
    upstream: &'a Statistics<&'a [f32]>,
    shaping: S,
}

impl<E: Element, S: Shaping> RowKernel<E> for Backward<'_, E, S> {
    #[inline(always)]
    #[allow(unsafe_code)]
    #[allow(clippy::cast_sign_loss)] // as above
    fn rows<V: Vector<Element = E>>(&self, rows: Range<usize>) {
        for row in rows {
            // Sound: a row is drawn once.
            let logits = unsafe { self.logits.part(row * self.width, self.vocab_size) };
            let sums = Sums::of::<V>(logits, self.shaping);
            self.slopes(row, sums).replace::<V>(logits, self.targets[row] as usize, self.shaping);
        }
    }
}

impl<E, S> Backward<'_, E, S> {
    #[inline(always)]
    fn slopes(&self, row: usize, sums: Sums) -> Slopes {
        let given = self.upstream;
        let or_none = |numbers: &[f32]| numbers.get(row).copied().unwrap_or(0.0);
        let upstream = Upstream {
            logp: given.logps[row],
            log_sum: given.log_sums[row],
            mean: given.means[row],
            entropy: or_none(given.entropies),
        };
        Slopes { sums, entropy: or_none(self.entropies), upstream }
    }
}
