//! Cross-entropy of rows of logits, and its gradient in their place.

use std::ops::Range;

use crate::element::Element;
use crate::logits::{by_shape, logit, Shape, Shaping, Slopes, Sums, Upstream};
use crate::rows::{on_rows, RowKernel};
use crate::statistics::targets_outside;
use crate::team::Parts;
use crate::vector::Vector;

/// What a row costs.
#[derive(Debug, Clone, Copy)]
pub struct Cost<'a> {
    /// The id that each row should have given, below the number of its logits.
    pub targets: &'a [i64],
    /// Factor of each row's loss.
    pub weights: &'a [f32],
    /// Factor of the squared logarithm of the sum of exponentials (Chowdhery et al. 2022, section 5).
    pub z_loss: f32,
    /// Share of the target that is spread over all ids.
    pub label_smoothing: f32,
}

impl Cost<'_> {
    /// What stands against it for `len` numbers of rows with `vocab_size` logits; `None` if nothing does.
    pub fn obstacle(&self, len: usize, vocab_size: usize) -> Option<String> {
        let rows = self.targets.len();
        if rows != self.weights.len() {
            return Some(format!("{rows} targets and {} weights", self.weights.len()));
        }
        targets_outside(len, vocab_size, self.targets)
    }
}

/// Weighted sum of the losses of rows of `logits` (rows, width >= `vocab_size`), which become its gradient.
///
/// # Panics
/// `Cost::obstacle` names something.
pub fn loss_and_slopes<E: Element>(logits: &mut [E], cost: Cost, shape: Shape, num_threads: usize) -> f64 {
    let mut losses = vec![0.0; cost.targets.len()];
    let (width, of_rows) = (logits.len() / losses.len(), Parts::of(&mut losses));
    let logits = Parts::of(logits);
    by_shape!(shape, shaping => {
        let kernel = Losses { logits, of_rows, cost, width, vocab_size: shape.vocab_size, shaping };
        on_rows::<E>(&kernel, cost.targets.len(), num_threads);
    });
    losses.iter().map(|loss| f64::from(*loss)).sum()
}

struct Losses<'a, E, S> {
    logits: Parts<'a, E>,
    of_rows: Parts<'a, f32>,
    cost: Cost<'a>,
    width: usize,
    vocab_size: usize,
    shaping: S,
}

impl<E: Element, S: Shaping> RowKernel<E> for Losses<'_, E, S> {
    #[inline(always)]
    #[allow(unsafe_code)]
    fn rows<V: Vector<Element = E>>(&self, rows: Range<usize>) {
        for row in rows {
            // Sound: a row is drawn once.
            let logits = unsafe { self.logits.part(row * self.width, self.vocab_size) };
            let loss = unsafe { self.of_rows.part(row, 1) };
            loss[0] = self.row::<V>(logits, row);
        }
    }
}

impl<E: Element, S: Shaping> Losses<'_, E, S> {
    /// Loss of a row, whose logits become its gradient.
    #[inline(always)]
    #[allow(clippy::cast_sign_loss)] // `Cost::obstacle` looked at targets
    fn row<V: Vector<Element = E>>(&self, logits: &mut [E], row: usize) -> f32 {
        let Cost { z_loss, label_smoothing: smoothing, .. } = self.cost;
        let (target, weight) = (self.cost.targets[row] as usize, self.cost.weights[row]);
        let sums = Sums::of::<V>(logits, self.shaping);
        let logp = sums.logp(logit::<V>(logits[target], self.shaping));
        let upstream = Upstream {
            logp: -(1.0 - smoothing) * weight,
            log_sum: weight * (smoothing + 2.0 * z_loss * sums.log_sum()),
            mean: -smoothing * weight,
            entropy: 0.0,
        };
        Slopes { sums, entropy: 0.0, upstream }.replace::<V>(logits, target, self.shaping);
        let spread = sums.log_sum() - sums.mean;
        weight * (smoothing * spread - (1.0 - smoothing) * logp + z_loss * sums.log_sum() * sums.log_sum())
    }
}
