//! Forward pass: a running maximum and sum a row, a block of keys at a time.

use super::packed::{as_columns, as_row_groups, as_rows, Blocks};
use super::problem::{own, Inputs, Problem, Unit};
use super::share::Share;
use super::tile::{exponents, scores, Place, Tile};
use super::{BLOCK, NOTHING_SEEN, SMALL_BLOCK};
use crate::element::{Element, Kernel};
use crate::product::{multiply_add, Left};
use crate::team::{on_threads, Parts, Queue};
use crate::vector::{Vector, LOG2_E};

/// What a forward pass writes.
pub struct Output<'a, E> {
    /// (tokens, heads, `head_dim`).
    pub mixed: &'a mut [E],
    /// (heads, tokens) float32: logarithm to base 2 of the sum of e^score of a query.
    pub log_sums: &'a mut [f32],
}

/// Computes softmax(scale q kᵀ) v within each document.
///
/// # Panics
/// `Problem::obstacle` names something.
pub fn forward<E: Element>(problem: &Problem, inputs: Inputs<E>, output: Output<E>, num_threads: usize) {
    let pass = Forward::new(problem, inputs, output, num_threads);
    on_threads(num_threads, || E::with_vectors(Worker(&pass)));
}

/// What the threads share.
pub(super) struct Forward<'a, E> {
    problem: &'a Problem,
    inputs: Inputs<'a, E>,
    mixed: Parts<'a, E>,
    log_sums: Parts<'a, f32>,
    shares: Vec<Share>,
    queue: Queue,
}

/// One thread's share.
pub(super) struct Worker<'a, E>(pub &'a Forward<'a, E>);

impl<E> Kernel<E> for Worker<'_, E> {
    #[inline(always)]
    fn compute<V: Vector<Element = E>>(self) {
        let mut room = Room::<V>::new(self.0.problem.head_dim);
        while let Some(index) = self.0.queue.draw() {
            self.0.share(&self.0.shares[index], &mut room);
        }
    }
}

/// Memory of one thread.
struct Room<V: Vector> {
    queries: Blocks<V::Word>,
    keys: Blocks<V::Word>,
    values: Blocks<V::Word>,
    tile: Box<Tile>,
    kept: Box<Tile>,
    weights: Vec<V::Word>,
    mixed: Vec<f32>,
    maxima: [f32; BLOCK],
    sums: [f32; BLOCK],
}

impl<V: Vector> Room<V> {
    fn new(head_dim: usize) -> Self {
        Self {
            queries: Blocks::new(),
            keys: Blocks::new(),
            values: Blocks::new(),
            tile: Box::new([0.0; BLOCK * BLOCK]),
            kept: Box::new([0.0; BLOCK * BLOCK]),
            weights: vec![V::Word::default(); BLOCK * BLOCK / V::PER_WORD],
            mixed: vec![0.0; BLOCK * head_dim],
            maxima: [NOTHING_SEEN; BLOCK],
            sums: [0.0; BLOCK],
        }
    }

    /// Rows that have seen nothing yet but the sink of their head, if it has one.
    #[inline(always)]
    fn restart(&mut self, sink: Option<&f32>) {
        let exponent = sink.map_or(f32::NEG_INFINITY, |sink| sink * LOG2_E);
        let maximum = exponent.max(NOTHING_SEEN);
        self.mixed.fill(0.0);
        self.maxima.fill(maximum);
        self.sums.fill((exponent - maximum).exp2());
    }
}

impl<'a, E> Forward<'a, E> {
    pub(super) fn new(
        problem: &'a Problem,
        inputs: Inputs<'a, E>,
        output: Output<'a, E>,
        num_threads: usize,
    ) -> Self {
        let (num, rows) = (inputs.q.len(), problem.num_tokens() * problem.heads);
        assert!(output.mixed.len() == num && output.log_sums.len() == rows, "an output of another shape");
        let shares = problem.shares(num_threads);
        let queue = Queue::new(shares.len());
        let (mixed, log_sums) = (Parts::of(output.mixed), Parts::of(output.log_sums));
        Self { problem, inputs, mixed, log_sums, shares, queue }
    }

    #[inline(always)]
    fn share<V: Vector<Element = E>>(&self, share: &Share, room: &mut Room<V>) {
        if share.unit.tokens.len() <= SMALL_BLOCK {
            self.blocks::<V, SMALL_BLOCK>(share, room);
        } else {
            self.blocks::<V, BLOCK>(share, room);
        }
    }

    #[inline(always)]
    fn blocks<V: Vector<Element = E>, const SIDE: usize>(&self, share: &Share, room: &mut Room<V>) {
        let (p, Share { unit, blocks }) = (self.problem, share);
        let (head, kv_head) = ((unit.head, p.heads), (p.kv_head(unit.head), p.kv_heads));
        let (mask, key_blocks) = (&unit.mask, unit.mask.keys_of(blocks));
        as_rows::<V, SIDE>(&mut room.queries, p.span(self.inputs.q, unit, head, blocks));
        as_columns::<V, SIDE>(&mut room.keys, p.span(self.inputs.k, unit, kv_head, &key_blocks));
        as_row_groups::<V, SIDE>(&mut room.values, p.span(self.inputs.v, unit, kv_head, &key_blocks));
        for block in blocks.clone() {
            room.restart(p.sinks.get(unit.head));
            for key_block in mask.keys_of(&(block..block + 1)) {
                if mask.sees_any(block, key_block) {
                    self.tile::<V, SIDE>(unit.head, Place { mask, block, key_block }, room);
                }
            }
            self.write::<V, SIDE>(unit, block, room);
        }
    }

    #[inline(always)]
    fn tile<V: Vector<Element = E>, const SIDE: usize>(&self, head: usize, place: Place, room: &mut Room<V>) {
        let (queries, keys) = (room.queries.get(place.block), room.keys.get(place.key_block));
        let (rows, dim) = (place.rows::<SIDE>(), self.problem.head_dim);
        scores::<V, SIDE>(&mut room.tile, self.problem, place, &queries[..rows / V::PER_WORD * dim], keys);
        let scale = self.problem.exponent_scale();
        if let Some(dropout) = self.problem.dropout {
            dropout.factors::<SIDE>(&mut room.kept, head, place);
        }
        for i in 0..rows {
            soften::<V, SIDE>(i, scale, self.problem.dropout.is_some(), room);
        }
        let weights = Left::rows(&room.weights, SIDE / V::PER_WORD);
        let values = &room.values.get(place.key_block)[..place.keys::<SIDE>() / V::PER_WORD * dim];
        multiply_add::<V>(&mut room.mixed[..rows * dim], weights, values, dim);
    }

    #[inline(always)]
    fn write<V: Vector<Element = E>, const SIDE: usize>(&self, unit: &Unit, block: usize, room: &Room<V>) {
        let (p, first) = (self.problem, block * SIDE);
        for i in 0..SIDE.min(unit.tokens.len() - first) {
            let token = unit.tokens.start + first + i;
            let row = &room.mixed[i * p.head_dim..][..p.head_dim];
            let share = V::splat(1.0 / room.sums[i]);
            let to = own(&self.mixed, p.at(token, unit.head, p.heads), p.head_dim);
            for c in (0..p.head_dim).step_by(V::LANES) {
                V::narrow(V::mul(V::load(&row[c..]), share), &mut to[c..]);
            }
            let log_sum = room.maxima[i] + room.sums[i].log2();
            own(&self.log_sums, unit.head * p.num_tokens() + token, 1)[0] = log_sum;
        }
    }
}

/// Turns row `i` of scores into weights, and what the row has summed so far to the new maximum. A weight that is
/// dropped counts in the sum of the row.
#[inline(always)]
fn soften<V: Vector, const SIDE: usize>(i: usize, scale: f32, drops: bool, room: &mut Room<V>) {
    let row = &room.tile[i * SIDE..][..SIDE];
    let mut greatest = V::load(row);
    for c in (V::LANES..SIDE).step_by(V::LANES) {
        greatest = V::max(greatest, V::load(&row[c..]));
    }
    let before = room.maxima[i];
    let maximum = before.max(V::greatest(greatest) * scale);
    if maximum > before {
        rescale::<V>(i, before - maximum, room);
        room.maxima[i] = maximum;
    }
    let row = &room.tile[i * SIDE..][..SIDE];
    let words = &mut room.weights[i * (SIDE / V::PER_WORD)..][..SIDE / V::PER_WORD];
    let mut sum = V::splat(0.0);
    for c in (0..SIDE).step_by(V::LANES) {
        let weight = V::exp2(exponents::<V>(V::load(&row[c..]), scale, maximum));
        sum = V::add(sum, weight);
        let weight = if drops { V::mul(weight, V::load(&room.kept[i * SIDE + c..])) } else { weight };
        V::words_of_row(weight, &mut words[c / V::PER_WORD..]);
    }
    room.sums[i] += V::sum(sum);
}

#[inline(always)]
fn rescale<V: Vector>(i: usize, exponent: f32, room: &mut Room<V>) {
    let factor = V::exp2(V::splat(exponent));
    room.sums[i] *= V::greatest(factor);
    let head_dim = room.mixed.len() / BLOCK;
    for numbers in room.mixed[i * head_dim..][..head_dim].chunks_exact_mut(V::LANES) {
        V::store(V::mul(V::load(numbers), factor), numbers);
    }
}
