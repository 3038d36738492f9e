//! One new token of each sequence against the keys and values that are stored of it.
//!
//! A unit of work is one head of keys of one sequence, with all heads of queries that read it: every key
//! and value is read once. Where many slots are seen it is cut into parts, which may be any threads'; their number
//! alone decides where. Sums are float32, in one order, the parts' in theirs.

use std::ops::Range;

use super::{BLOCK, NOTHING_SEEN};
use crate::element::{Element, Kernel};
use crate::team::{on_threads, Parts, Queue};
use crate::vector::{tanh, Vector, LOG2_E};

/// Slots of a part at most.
const PART: usize = 16 * BLOCK;

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

    /// Heads of keys of each sequence, in parts.
    pub(super) fn parts(&self) -> Vec<Part> {
        let of_sequence = |sequence| {
            let seen = self.seen(sequence);
            let (blocks, num) = (seen.len().div_ceil(BLOCK), seen.len().div_ceil(PART));
            let cut = move |part| seen.end.min(seen.start + blocks * part / num * BLOCK);
            let of_head = move |kv_head| {
                (0..num).map(move |part| Part { sequence, kv_head, slots: cut(part)..cut(part + 1), num })
            };
            (0..self.kv_heads).flat_map(of_head)
        };
        (0..self.lengths.len()).flat_map(of_sequence).collect()
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
    let parts = decoding.parts();
    let is_cut = parts.iter().any(|part| part.num > 1);
    let group = decoding.heads / decoding.kv_heads;
    let mut kept = vec![0.0; if is_cut { parts.len() * group * (decoding.head_dim + 2) } else { 0 }];
    let (mixed, kept, queue) = (Parts::of(mixed), Parts::of(&mut kept), Queue::new(parts.len()));
    let pass = Pass { decoding, q, keys, values, mixed, parts, kept };
    on_threads(num_threads, || E::with_vectors(Worker(&pass, &queue)));
    if is_cut {
        let queue = Queue::new(pass.parts.len());
        on_threads(num_threads, || E::with_vectors(Joiner(&pass, &queue)));
    }
}

/// Some of the slots, or all, of one head of keys of one sequence.
pub(super) struct Part {
    sequence: usize,
    kv_head: usize,
    slots: Range<usize>,
    /// Parts of this head, which are one behind the other.
    num: usize,
}

struct Pass<'a, E> {
    decoding: &'a Decoding,
    q: &'a [E],
    keys: Stored<'a, E>,
    values: Stored<'a, E>,
    mixed: Parts<'a, E>,
    parts: Vec<Part>,
    /// (parts, group, `head_dim` + 2): sums, maximum and weight of heads that are cut.
    kept: Parts<'a, f32>,
}

/// One thread's share.
struct Worker<'a, E>(&'a Pass<'a, E>, &'a Queue);

/// The same of what is left to do for heads that are cut: their parts are added up.
struct Joiner<'a, E>(&'a Pass<'a, E>, &'a Queue);

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
        while let Some(index) = self.1.draw() {
            self.0.part::<V>(index);
        }
    }
}

impl<E: Element> Kernel<E> for Joiner<'_, E> {
    #[inline(always)]
    fn compute<V: Vector<Element = E>>(self) {
        while let Some(index) = self.1.draw() {
            let part = &self.0.parts[index];
            let is_first = part.slots.start == self.0.decoding.seen(part.sequence).start;
            if part.num > 1 && is_first {
                self.0.join::<V>(index);
            }
        }
    }
}

impl<E: Element> Pass<'_, E> {
    /// Heads of queries that read the keys of a part.
    fn heads(&self, part: &Part) -> Range<usize> {
        let group = self.decoding.heads / self.decoding.kv_heads;
        part.kv_head * group..(part.kv_head + 1) * group
    }

    #[inline(always)]
    fn part<V: Vector<Element = E>>(&self, index: usize) {
        let part = &self.parts[index];
        let (sequence, slots) = (part.sequence, &part.slots);
        let is_first = slots.start == self.decoding.seen(sequence).start;
        let mut rows: Vec<Row<E>> = self.heads(part).map(|head| self.row(sequence, head, is_first)).collect();
        for first in slots.clone().step_by(BLOCK) {
            let slots = first..slots.end.min(first + BLOCK);
            for row in &mut rows {
                self.block::<V>(row, sequence, part.kv_head, slots.clone());
            }
        }
        for (i, (row, head)) in rows.iter().zip(self.heads(part)).enumerate() {
            if part.num == 1 {
                self.write::<V>(row, sequence, head);
            } else {
                let (sums, ends) = self.kept(index, i).split_at_mut(row.sums.len());
                sums.copy_from_slice(&row.sums);
                ends.copy_from_slice(&[row.maximum, row.weight]);
            }
        }
    }

    /// Adds up the parts of a head, of which this is the first.
    #[inline(always)]
    fn join<V: Vector<Element = E>>(&self, first: usize) {
        let part = &self.parts[first];
        for (i, head) in self.heads(part).enumerate() {
            let mut row = self.row(part.sequence, head, false);
            for index in first..first + part.num {
                row.add::<V>(self.kept(index, i));
            }
            self.write::<V>(&row, part.sequence, head);
        }
    }

    /// What part `index` keeps of the head of queries that is number `i` of its group.
    #[allow(unsafe_code)]
    #[allow(clippy::mut_from_ref)]
    fn kept(&self, index: usize, i: usize) -> &mut [f32] {
        let (group, len) = (self.decoding.heads / self.decoding.kv_heads, self.decoding.head_dim + 2);
        // Sound: a part is drawn once, and its head's first part once more when all are done.
        unsafe { self.kept.part((index * group + i) * len, len) }
    }

    /// A head that has seen nothing yet, or its sink alone.
    fn row(&self, sequence: usize, head: usize, with_sink: bool) -> Row<'_, E> {
        let dim = self.decoding.head_dim;
        let sink = self.decoding.sinks.get(head).filter(|_| with_sink);
        let exponent = sink.map_or(f32::NEG_INFINITY, |sink| sink * LOG2_E);
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
        let mut column = 0;
        while column + 4 * V::LANES <= dim {
            self.take_up::<V, 4>(row, &weights, [sequence, kv_head, column], slots.clone());
            column += 4 * V::LANES;
        }
        while column < dim {
            self.take_up::<V, 1>(row, &weights, [sequence, kv_head, column], slots.clone());
            column += V::LANES;
        }
    }

    /// Adds `N` vectors of the values of slots, each times its weight. The sums are held in registers meanwhile: in
    /// memory, each slot would wait for the one before.
    #[inline(always)]
    fn take_up<V: Vector<Element = E>, const N: usize>(
        &self,
        row: &mut Row<E>,
        weights: &[f32; BLOCK],
        [sequence, kv_head, column]: [usize; 3],
        slots: Range<usize>,
    ) {
        let (dim, columns) = (self.decoding.head_dim, column..column + N * V::LANES);
        let mut held = [V::splat(0.0); N];
        for (held, sums) in held.iter_mut().zip(row.sums[columns.clone()].chunks_exact(V::LANES)) {
            *held = V::load(sums);
        }
        for (weight, slot) in weights.iter().zip(slots) {
            let value = &self.values.get(sequence, slot, kv_head, dim)[columns.clone()];
            for (n, held) in held.iter_mut().enumerate() {
                *held = V::fma(V::splat(*weight), V::widen(&value[n * V::LANES..]), *held);
            }
        }
        for (held, sums) in held.into_iter().zip(row.sums[columns].chunks_exact_mut(V::LANES)) {
            V::store(held, sums);
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
    /// Adds sums, maximum and weight of what follows.
    #[inline(always)]
    fn add<V: Vector>(&mut self, kept: &[f32]) {
        let (sums, ends) = kept.split_at(self.sums.len());
        let maximum = self.maximum.max(ends[0]);
        let [before, added] = [self.maximum, ends[0]].map(|x| V::exp2(V::splat(x - maximum)));
        self.maximum = maximum;
        self.weight = self.weight * V::greatest(before) + ends[1] * V::greatest(added);
        for (to, from) in self.sums.chunks_exact_mut(V::LANES).zip(sums.chunks_exact(V::LANES)) {
            V::store(V::fma(V::load(from), added, V::mul(V::load(to), before)), to);
        }
    }

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
