//! Cross-entropy of rows of logits, and its gradient in their place.

use std::ops::Range;

use crate::element::Element;
use crate::rows::{on_rows, RowKernel};
use crate::team::Parts;
use crate::vector::{Vector, LOG2_E, MOST_LANES};

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
    /// What stands against it for `len` logits; `None` if nothing does.
    pub fn obstacle(&self, len: usize) -> Option<String> {
        let rows = self.targets.len();
        if rows != self.weights.len() || rows == 0 || !len.is_multiple_of(rows) {
            return Some(format!("{len} logits, {rows} targets and {} weights", self.weights.len()));
        }
        let size = len / rows;
        let outside = self.targets.iter().find(|id| usize::try_from(**id).map_or(true, |id| id >= size));
        outside.map(|id| format!("a target of {id} in {size} logits"))
    }
}

/// Weighted sum of the losses of `logits` (rows, size), which become its gradient.
///
/// # Panics
/// `Cost::obstacle` names something, or the processor has no vectors for `E`.
pub fn loss_and_slopes<E: Element>(logits: &mut [E], cost: Cost, num_threads: usize) -> f64 {
    let num_rows = cost.targets.len();
    let size = logits.len() / num_rows;
    let mut losses = vec![0.0; num_rows];
    let kernel = Losses { logits: Parts::of(logits), of_rows: Parts::of(&mut losses), cost, size };
    on_rows::<E>(&kernel, num_rows, num_threads);
    losses.iter().map(|loss| f64::from(*loss)).sum()
}

struct Losses<'a, E> {
    logits: Parts<'a, E>,
    of_rows: Parts<'a, f32>,
    cost: Cost<'a>,
    size: usize,
}

impl<E: Element> RowKernel<E> for Losses<'_, E> {
    #[inline(always)]
    #[allow(unsafe_code)]
    fn rows<V: Vector<Element = E>>(&self, rows: Range<usize>) {
        for row in rows {
            // Sound: a row is drawn once.
            let (logits, loss) =
                unsafe { (self.logits.part(row * self.size, self.size), self.of_rows.part(row, 1)) };
            loss[0] = self.row::<V>(logits, row);
        }
    }
}

impl<E: Element> Losses<'_, E> {
    /// Loss of a row, whose logits become its gradient.
    #[inline(always)]
    #[allow(clippy::cast_sign_loss)] // `Cost::obstacle` looked at targets
    fn row<V: Vector<Element = E>>(&self, logits: &mut [E], row: usize) -> f32 {
        let (cost, target) = (self.cost, self.cost.targets[row] as usize);
        let (largest, sum) = largest_and_sum::<V>(logits);
        let shifted = sum_of_powers::<V>(logits, largest).ln();
        let log_sum = shifted + largest;
        let picked = V::number(logits[target]) - largest;
        let mean = sum / self.size as f32 - largest;
        let (weight, smoothing) = (cost.weights[row], cost.label_smoothing);
        let shares = weight * (1.0 + 2.0 * cost.z_loss * log_sum);
        slopes::<V>(logits, log_sum, shares, weight * smoothing / self.size as f32);
        let slope = ((picked + largest - log_sum).exp() * shares) - weight * smoothing / self.size as f32;
        logits[target] = V::element(slope - (1.0 - smoothing) * weight);
        let loss = shifted - (1.0 - smoothing) * picked - smoothing * mean + cost.z_loss * log_sum * log_sum;
        weight * loss
    }
}

/// Below every logit, so that it adds nothing.
const NOTHING: f32 = -1e30;

/// Greatest of a row, and its sum.
#[inline(always)]
fn largest_and_sum<V: Vector>(logits: &[V::Element]) -> (f32, f32) {
    let (chunks, rest) = split::<V>(logits);
    let (mut largest, mut sum) = (V::splat(NOTHING), V::splat(0.0));
    for chunk in chunks.chunks_exact(V::LANES) {
        let x = V::widen(chunk);
        largest = V::max(largest, x);
        sum = V::add(sum, x);
    }
    let tail = tail::<V>(rest, NOTHING);
    let greatest = V::greatest(V::max(largest, V::load(&tail)));
    (greatest, V::sum(sum) + tail[..rest.len()].iter().sum::<f32>())
}

/// Sum of e^(logit - `largest`).
#[inline(always)]
fn sum_of_powers<V: Vector>(logits: &[V::Element], largest: f32) -> f32 {
    let (chunks, rest) = split::<V>(logits);
    let (factor, shift) = (V::splat(LOG2_E), V::splat(-largest * LOG2_E));
    let mut sum = V::splat(0.0);
    for chunk in chunks.chunks_exact(V::LANES) {
        sum = V::add(sum, V::exp2(V::fma(V::widen(chunk), factor, shift)));
    }
    let tail = V::load(&tail::<V>(rest, NOTHING));
    V::sum(V::add(sum, V::exp2(V::fma(tail, factor, shift))))
}

/// Logits become `shares` e^(logit - `log_sum`) - `less`.
#[inline(always)]
fn slopes<V: Vector>(logits: &mut [V::Element], log_sum: f32, shares: f32, less: f32) {
    let whole = logits.len() / V::LANES * V::LANES;
    let (factor, shift) = (V::splat(LOG2_E), V::splat(-log_sum * LOG2_E));
    let (shares, less) = (V::splat(shares), V::splat(-less));
    let (chunks, rest) = logits.split_at_mut(whole);
    for chunk in chunks.chunks_exact_mut(V::LANES) {
        let power = V::exp2(V::fma(V::widen(chunk), factor, shift));
        V::narrow(V::fma(power, shares, less), chunk);
    }
    let power = V::exp2(V::fma(V::load(&tail::<V>(rest, NOTHING)), factor, shift));
    let mut found = [0.0; MOST_LANES];
    V::store(V::fma(power, shares, less), &mut found);
    for (to, x) in rest.iter_mut().zip(found) {
        *to = V::element(x);
    }
}

/// What fills whole vectors, and the rest.
#[inline(always)]
fn split<V: Vector>(logits: &[V::Element]) -> (&[V::Element], &[V::Element]) {
    logits.split_at(logits.len() / V::LANES * V::LANES)
}

/// Fewer numbers than a vector has lanes, filled up.
#[inline(always)]
fn tail<V: Vector>(rest: &[V::Element], filling: f32) -> [f32; MOST_LANES] {
    let mut found = [filling; MOST_LANES];
    for (to, x) in found.iter_mut().zip(rest) {
        *to = V::number(*x);
    }
    found
}
