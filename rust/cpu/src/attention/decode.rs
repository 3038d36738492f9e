//! One new token of each sequence against the keys and values that are stored of it.
//!
//! A unit of work is one head of keys of one sequence, with all heads of queries that read it: every key
//! and value is read once. Sums are float32, in one order.

use std::ops::Range;

use super::{BLOCK, NOTHING_SEEN};
use crate::element::{Element, Kernel};
use crate::team::{on_threads, Parts, Queue};
use crate::vector::{tanh, Vector, LOG2_E};

/// Stored keys, or values: (sequences, slots, heads, `head_dim`) in memory of any order but within a head.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a, E> {
    /// From the first number of the first head on.
    pub numbers: &'a [E],
    /// From a sequence to the next, from a slot to the next, from a head to the next.
    pub strides: [usize; 3],
}

/// Shapes and rules.
#[derive(Debug, Clone)]
pub struct Decoding {
    /// Slots that count of each sequence: at least 1, the newest token's the last.
    pub lengths: Vec<usize>,
    /// Heads of queries; a multiple of `kv_heads`.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Elements of a head; a multiple of 32.
    pub head_dim: usize,
    /// How many keys are seen, the newest among them.
    pub window: Option<usize>,
    /// Factor of scores.
    pub scale: f32,
    /// Scores become `softcap * tanh(score / softcap)`.
    pub softcap: Option<f32>,
    /// A logit for each head that joins the sum alone; or none.
    pub sinks: Vec<f32>,
}

impl<E: Copy> Stored<'_, E> {
    #[inline(always)]
    fn get(&self, sequence: usize, slot: usize, head: usize, head_dim: usize) -> &[E] {
        let [of_sequence, of_slot, of_head] = self.strides;
        &self.numbers[sequence * of_sequence + slot * of_slot + head * of_head..][..head_dim]
    }

    /// Whether there is memory for all slots that count.
    fn holds(&self, decoding: &Decoding) -> bool {
        let end = |(sequence, len): (usize, &usize)| {
            let last = [sequence, len.saturating_sub(1), decoding.kv_heads.saturating_sub(1)];
            let start = last
                .iter()
                .zip(self.strides)
                .try_fold(0_usize, |sum, (index, stride)| sum.checked_add(index.checked_mul(stride)?))?;
            start.checked_add(decoding.head_dim)
        };
        decoding.lengths.iter().enumerate().all(|x| end(x).is_some_and(|end| end <= self.numbers.len()))
    }
}

impl Decoding {
    /// What stands against it for so many numbers of queries; `None` if nothing does.
    pub fn obstacle<E: Copy>(&self, queries: usize, stored: [Stored<E>; 2]) -> Option<String> {
        let grouped = self.kv_heads > 0 && self.heads.is_multiple_of(self.kv_heads);
        let whole = self.head_dim > 0 && self.head_dim.is_multiple_of(32);
        let sinks_fit = self.sinks.is_empty() || self.sinks.len() == self.heads;
        let counts = self.lengths.iter().all(|len| *len > 0) && self.window != Some(0);
        let fits = self.lengths.len().saturating_mul(self.heads).saturating_mul(self.head_dim) == queries;
        let held = stored.iter().all(|x| x.holds(self));
        (!(grouped && whole && sinks_fit && counts && fits && held)).then(|| {
            format!("{queries} numbers of queries for {self:?}, strides {:?}", stored.map(|x| x.strides))
        })
    }

    /// Slots that the newest token of a sequence sees.
    fn seen(&self, sequence: usize) -> Range<usize> {
        let len = self.lengths[sequence];
        self.window.map_or(0, |window| len.saturating_sub(window))..len
    }
}

/// Writes softmax(scale q kᵀ) v for queries `q` (sequences, heads, `head_dim`), shaped like them.
///
/// # Panics
/// `Decoding::obstacle` names something.
pub fn decode<E: Element>(
    decoding: &Decoding,
    q: &[E],
    keys: Stored<E>,
    values: Stored<E>,
    mixed: &mut [E],
    num_threads: usize,
) {
    assert!(
        decoding.obstacle(q.len(), [keys, values]).is_none() && q.len() == mixed.len(),
        "of another shape"
    );
    let units = Queue::new(decoding.lengths.len() * decoding.kv_heads);
    let pass = Pass { decoding, q, keys, values, mixed: Parts::of(mixed), units };
    on_threads(num_threads, || E::with_vectors(Worker(&pass)));
}

struct Pass<'a, E> {
    decoding: &'a Decoding,
    q: &'a [E],
    keys: Stored<'a, E>,
    values: Stored<'a, E>,
    mixed: Parts<'a, E>,
    units: Queue,
}

/// One thread's share.
struct Worker<'a, E>(&'a Pass<'a, E>);

/// What one head of queries has seen so far.
struct Row<'a, E> {
    query: &'a [E],
    sums: Vec<f32>,
    maximum: f32,
    weight: f32,
}

impl<E: Element> Kernel<E> for Worker<'_, E> {
    #[inline(always)]
    fn compute<V: Vector<Element = E>>(self) {
        let kv_heads = self.0.decoding.kv_heads;
        while let Some(unit) = self.0.units.draw() {
            self.0.unit::<V>(unit / kv_heads, unit % kv_heads);
        }
    }
}

impl<E: Element> Pass<'_, E> {
    #[inline(always)]
    fn unit<V: Vector<Element = E>>(&self, sequence: usize, kv_head: usize) {
        let group = self.decoding.heads / self.decoding.kv_heads;
        let mut rows: Vec<Row<E>> =
            (kv_head * group..(kv_head + 1) * group).map(|head| self.row(sequence, head)).collect();
        let seen = self.decoding.seen(sequence);
        for first in seen.clone().step_by(BLOCK) {
            let slots = first..seen.end.min(first + BLOCK);
            for row in &mut rows {
                self.block::<V>(row, sequence, kv_head, slots.clone());
            }
        }
        for (i, row) in rows.iter().enumerate() {
            self.write::<V>(row, sequence, kv_head * group + i);
        }
    }

    fn row(&self, sequence: usize, head: usize) -> Row<'_, E> {
        let dim = self.decoding.head_dim;
        let exponent = self.decoding.sinks.get(head).map_or(f32::NEG_INFINITY, |sink| sink * LOG2_E);
        let maximum = exponent.max(NOTHING_SEEN);
        let query = &self.q[(sequence * self.decoding.heads + head) * dim..][..dim];
        Row { query, sums: vec![0.0; dim], maximum, weight: (exponent - maximum).exp2() }
    }

    /// Adds what the keys and values of some slots are to a row.
    #[inline(always)]
    fn block<V: Vector<Element = E>>(
        &self,
        row: &mut Row<E>,
        sequence: usize,
        kv_head: usize,
        slots: Range<usize>,
    ) {
        let (decoding, dim) = (self.decoding, self.decoding.head_dim);
        let mut weights = [0.0; BLOCK];
        for (product, slot) in weights.iter_mut().zip(slots.clone()) {
            *product = dot::<V>(row.query, self.keys.get(sequence, slot, kv_head, dim));
        }
        decoding.exponents::<V>(&mut weights);
        weights[slots.len()..].fill(f32::NEG_INFINITY);
        row.soften::<V>(&mut weights);
        for (weight, slot) in weights.into_iter().zip(slots) {
            let weight = V::splat(weight);
            let value = self.values.get(sequence, slot, kv_head, dim);
            for c in (0..dim).step_by(V::LANES) {
                let sum = V::fma(weight, V::widen(&value[c..]), V::load(&row.sums[c..]));
                V::store(sum, &mut row.sums[c..]);
            }
        }
    }

    #[inline(always)]
    #[allow(unsafe_code)]
    fn write<V: Vector<Element = E>>(&self, row: &Row<E>, sequence: usize, head: usize) {
        let (heads, dim) = (self.decoding.heads, self.decoding.head_dim);
        // Sound: a head of a sequence belongs to one unit, which is drawn once.
        let to = unsafe { self.mixed.part((sequence * heads + head) * dim, dim) };
        let share = V::splat(1.0 / row.weight);
        for c in (0..dim).step_by(V::LANES) {
            V::narrow(V::mul(V::load(&row.sums[c..]), share), &mut to[c..]);
        }
    }
}

impl Decoding {
    /// Products become exponents of 2.
    #[inline(always)]
    fn exponents<V: Vector>(&self, products: &mut [f32; BLOCK]) {
        for products in products.chunks_exact_mut(V::LANES) {
            let mut scores = V::mul(V::load(products), V::splat(self.scale));
            if let Some(softcap) = self.softcap {
                let share = tanh::<V>(V::mul(scores, V::splat(1.0 / softcap)));
                scores = V::mul(share, V::splat(softcap));
            }
            V::store(V::mul(scores, V::splat(LOG2_E)), products);
        }
    }
}

impl<E> Row<'_, E> {
    /// Exponents become weights, and what was summed so far turns to the new maximum.
    #[inline(always)]
    fn soften<V: Vector>(&mut self, exponents: &mut [f32; BLOCK]) {
        let maximum = exponents.iter().fold(self.maximum, |most, x| most.max(*x));
        let factor = V::exp2(V::splat(self.maximum - maximum));
        let mut sum = V::splat(0.0);
        for exponents in exponents.chunks_exact_mut(V::LANES) {
            let weights = V::exp2(V::sub(V::load(exponents), V::splat(maximum)));
            sum = V::add(sum, weights);
            V::store(weights, exponents);
        }
        self.weight = self.weight * V::greatest(factor) + V::sum(sum);
        self.maximum = maximum;
        for sums in self.sums.chunks_exact_mut(V::LANES) {
            V::store(V::mul(V::load(sums), factor), sums);
        }
    }
}

#[inline(always)]
fn dot<V: Vector>(x: &[V::Element], y: &[V::Element]) -> f32 {
    let mut sum = V::splat(0.0);
    for c in (0..x.len()).step_by(V::LANES * V::PER_WORD) {
        sum = V::dot(sum, V::elements(&x[c..]), V::elements(&y[c..]));
    }
    V::sum(sum)
}
