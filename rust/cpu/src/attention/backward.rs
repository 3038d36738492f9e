//! Backward pass: scores again, then five products a tile.
//!
//! With weights P = softmax(S), D = dO · O summed over a row: dV = Pᵀ dO, dP = dO Vᵀ,
//! dS = P (dP - D), dQ = scale dS K, dK = scale dSᵀ Q (Dao 2023, algorithm 2). With dropout, whose factors Z are
//! 0 or 1 over the share kept, dV = (Z P)ᵀ dO and dP = Z (dO Vᵀ). Of a row whose keys are all in one tile, D is
//! P · dP, which the rounding of O is no part of: of few keys it would be most of what is left.

use std::ops::Range;

use super::join::{clear, HeadSums, Joiner, Sums};
use super::packed::{as_columns, as_row_groups, as_rows, Blocks};
use super::problem::{own, Inputs, Problem, Unit};
use super::share::{Task, Tasks};
use super::tile::{exponents, products, scores, steepness, Place, Tile};
use super::{BLOCK, SMALL_BLOCK};
use crate::element::{Element, Kernel};
use crate::product::{multiply_add, Left};
use crate::team::{on_threads, Parts, Queue};
use crate::vector::{Vector, LOG2_E, MOST_PER_WORD};

/// What the forward pass gave, and the gradient of it.
#[derive(Clone, Copy)]
pub struct Given<'a, E> {
    /// (tokens, heads, `head_dim`), as in `Output`.
    pub mixed: &'a [E],
    /// (heads, tokens), as in `Output`.
    pub log_sums: &'a [f32],
    /// Of a loss with respect to `mixed`, shaped like it.
    pub upstream: &'a [E],
}

/// What a backward pass writes, shaped like the inputs.
pub struct Gradients<'a, E> {
    /// Of queries.
    pub q: &'a mut [E],
    /// Of keys.
    pub k: &'a mut [E],
    /// Of values.
    pub v: &'a mut [E],
    /// (heads, tokens): P · dP summed over the keys of a row, which the gradient of a sink is made of; empty, and
    /// not computed, where there are no sinks. D is the same but for the rounding of O: most of a sum over rows
    /// cancels, and of bf16 too few digits would be left.
    pub totals: &'a mut [f32],
}

/// Computes the gradients of a loss with respect to queries, keys and values.
///
/// # Panics
/// `Problem::obstacle` names something.
pub fn backward<E: Element>(
    problem: &Problem,
    inputs: Inputs<E>,
    given: Given<E>,
    gradients: Gradients<E>,
    num_threads: usize,
) {
    let (num, few) = (inputs.q.len(), inputs.k.len());
    let given_fits =
        [given.mixed.len(), given.upstream.len(), given.log_sums.len() * problem.head_dim] == [num; 3];
    let fits = [gradients.q.len(), gradients.k.len(), gradients.v.len()] == [num, few, few];
    let totals_fit = gradients.totals.is_empty() || gradients.totals.len() * problem.head_dim == num;
    assert!(given_fits && fits && totals_fit, "numbers of another shape");
    let grouped = if problem.heads == problem.kv_heads { 0 } else { inputs.q.len() };
    let mut of_heads = [vec![0.0; grouped], vec![0.0; grouped]];
    let [k_heads, v_heads] = &mut of_heads;
    let with_totals = !gradients.totals.is_empty();
    let (q, k, v) = (Parts::of(gradients.q), Parts::of(gradients.k), Parts::of(gradients.v));
    let totals = Parts::of(gradients.totals);
    let tasks = problem.tasks(problem.head_dim + usize::from(with_totals), num_threads);
    let mut kept = vec![0.0; tasks.num_kept];
    let (k_heads, v_heads, kept) = (Parts::of(k_heads), Parts::of(v_heads), Parts::of(&mut kept));
    let pass =
        Backward { problem, inputs, given, q, k, v, totals, with_totals, k_heads, v_heads, kept, tasks };
    let queue = Queue::new(pass.tasks.all.len());
    on_threads(num_threads, || E::with_vectors(Worker(&pass, &queue)));
    if !pass.tasks.joints.is_empty() {
        let joints = Queue::new(pass.tasks.joints.len());
        on_threads(num_threads, || E::with_vectors(Joiner(&pass, &joints)));
    }
    if grouped > 0 {
        let tokens = Queue::new(problem.num_tokens());
        on_threads(num_threads, || E::with_vectors(HeadSums(&pass, &tokens)));
    }
}

/// What the threads share.
pub(super) struct Backward<'a, E> {
    pub problem: &'a Problem,
    inputs: Inputs<'a, E>,
    given: Given<'a, E>,
    pub q: Parts<'a, E>,
    pub k: Parts<'a, E>,
    pub v: Parts<'a, E>,
    totals: Parts<'a, f32>,
    pub with_totals: bool,
    /// (tokens, heads, `head_dim`): of keys as each head of queries sees them, where several share one.
    pub k_heads: Parts<'a, f32>,
    pub v_heads: Parts<'a, f32>,
    /// Sums over queries of heads that are cut.
    pub kept: Parts<'a, f32>,
    pub tasks: Tasks,
}

/// One thread's share.
struct Worker<'a, E>(&'a Backward<'a, E>, &'a Queue);

impl<E: Copy> Kernel<E> for Worker<'_, E> {
    #[inline(always)]
    fn compute<V: Vector<Element = E>>(self) {
        let mut room = Room::<V>::new(self.0.problem.head_dim);
        while let Some(index) = self.1.draw() {
            self.0.task(&self.0.tasks.all[index], &mut room);
        }
    }
}

/// Memory of one thread.
struct Room<V: Vector> {
    query_rows: Blocks<V::Word>,
    query_groups: Blocks<V::Word>,
    key_columns: Blocks<V::Word>,
    key_groups: Blocks<V::Word>,
    value_columns: Blocks<V::Word>,
    upstream_rows: Blocks<V::Word>,
    upstream_groups: Blocks<V::Word>,
    /// Blocks of queries that see keys of the task at hand.
    queries: Range<usize>,
    /// `log_sums` and D of each of their rows; 0 of rows that fill a block up.
    log_sums: Vec<f32>,
    inner: Vec<f32>,
    weights: Box<Tile>,
    slopes: Box<Tile>,
    kept: Box<Tile>,
    weight_groups: Vec<V::Word>,
    slope_groups: Vec<V::Word>,
    slope_rows: Vec<V::Word>,
    /// Of the segment, and of all segments so far where a head has several.
    of_segment: Sums,
    of_head: Sums,
    k: Vec<f32>,
    v: Vec<f32>,
}

impl<V: Vector> Room<V> {
    fn new(head_dim: usize) -> Self {
        let words = || vec![V::Word::default(); BLOCK * BLOCK / V::PER_WORD];
        let tile = || Box::new([0.0; BLOCK * BLOCK]);
        Self {
            query_rows: Blocks::new(),
            query_groups: Blocks::new(),
            key_columns: Blocks::new(),
            key_groups: Blocks::new(),
            value_columns: Blocks::new(),
            upstream_rows: Blocks::new(),
            upstream_groups: Blocks::new(),
            queries: 0..0,
            log_sums: Vec::new(),
            inner: Vec::new(),
            weights: tile(),
            slopes: tile(),
            kept: tile(),
            weight_groups: words(),
            slope_groups: words(),
            slope_rows: words(),
            of_segment: Sums::default(),
            of_head: Sums::default(),
            k: vec![0.0; BLOCK * head_dim],
            v: vec![0.0; BLOCK * head_dim],
        }
    }

    #[inline(always)]
    fn restart<const SIDE: usize>(&mut self, queries: Range<usize>) {
        let rows = queries.len() * SIDE;
        self.queries = queries;
        clear(&mut self.log_sums, rows);
        clear(&mut self.inner, rows);
    }
}

impl<E: Copy> Backward<'_, E> {
    #[inline(always)]
    fn task<V: Vector<Element = E>>(&self, task: &Task, room: &mut Room<V>) {
        if task.unit.tokens.len() <= SMALL_BLOCK {
            self.pack::<V, SMALL_BLOCK>(&task.unit, &(0..1), room);
            self.segment::<V, SMALL_BLOCK>(&task.unit, &(0..1), room);
            self.write_queries::<V>(&task.unit, 0, &room.of_segment);
        } else {
            self.segments(task, room);
        }
    }

    #[inline(always)]
    fn segments<V: Vector<Element = E>>(&self, task: &Task, room: &mut Room<V>) {
        let (unit, segments) = (&task.unit, &self.tasks.segments[task.segments.clone()]);
        let all = segments[0].start..segments[segments.len() - 1].end;
        self.pack::<V, BLOCK>(unit, &all, room);
        if let Some(mut start) = task.kept_at {
            for segment in segments {
                self.segment::<V, BLOCK>(unit, segment, room);
                start += self.keep(start, &room.of_segment);
            }
        } else if segments.len() == 1 {
            self.segment::<V, BLOCK>(unit, &all, room);
            self.write_queries::<V>(unit, 0, &room.of_segment);
        } else {
            room.of_head.restart::<BLOCK>(room.queries.clone(), self.problem.head_dim);
            for segment in segments {
                self.segment::<V, BLOCK>(unit, segment, room);
                room.of_head.add::<V>(&room.of_segment, self.problem.head_dim);
            }
            self.write_queries::<V>(unit, 0, &room.of_head);
        }
    }

    /// Some blocks of keys, and what all queries that see any of them get from these.
    #[inline(always)]
    fn segment<V: Vector<Element = E>, const SIDE: usize>(
        &self,
        unit: &Unit,
        key_blocks: &Range<usize>,
        room: &mut Room<V>,
    ) {
        let mask = &unit.mask;
        room.of_segment.restart::<SIDE>(mask.queries_of(key_blocks), self.problem.head_dim);
        for key_block in key_blocks.clone() {
            room.k.fill(0.0);
            room.v.fill(0.0);
            for block in mask.queries_of(&(key_block..key_block + 1)) {
                if mask.sees_any(block, key_block) {
                    self.tile::<V, SIDE>(unit.head, Place { mask, block, key_block }, room);
                }
            }
            self.write_keys::<V, SIDE>(unit, key_block, room);
        }
    }

    #[inline(always)]
    fn pack<V: Vector<Element = E>, const SIDE: usize>(
        &self,
        unit: &Unit,
        key_blocks: &Range<usize>,
        room: &mut Room<V>,
    ) {
        let p = self.problem;
        let (head, kv_head) = ((unit.head, p.heads), (p.kv_head(unit.head), p.kv_heads));
        room.restart::<SIDE>(unit.mask.queries_of(key_blocks));
        let queries = p.span(self.inputs.q, unit, head, &room.queries);
        let upstream = p.span(self.given.upstream, unit, head, &room.queries);
        let keys = p.span(self.inputs.k, unit, kv_head, key_blocks);
        let values = p.span(self.inputs.v, unit, kv_head, key_blocks);
        as_rows::<V, SIDE>(&mut room.query_rows, queries.clone());
        as_row_groups::<V, SIDE>(&mut room.query_groups, queries);
        as_columns::<V, SIDE>(&mut room.key_columns, keys.clone());
        as_row_groups::<V, SIDE>(&mut room.key_groups, keys);
        as_columns::<V, SIDE>(&mut room.value_columns, values);
        as_rows::<V, SIDE>(&mut room.upstream_rows, upstream.clone());
        as_row_groups::<V, SIDE>(&mut room.upstream_groups, upstream);
        self.rows::<V, SIDE>(unit, room);
    }

    /// What each row of scores needs beside its products.
    #[inline(always)]
    fn rows<V: Vector<Element = E>, const SIDE: usize>(&self, unit: &Unit, room: &mut Room<V>) {
        let (p, first) = (self.problem, room.queries.start * SIDE);
        let len = unit.tokens.len().min(room.queries.end * SIDE) - first;
        let start = unit.head * p.num_tokens() + unit.tokens.start + first;
        room.log_sums[..len].copy_from_slice(&self.given.log_sums[start..start + len]);
        let mixed = p.rows(self.given.mixed, unit, unit.head, p.heads);
        let upstream = p.rows(self.given.upstream, unit, unit.head, p.heads);
        for (i, inner) in room.inner[..len].iter_mut().enumerate() {
            let (a, b) = (mixed.get(first + i), upstream.get(first + i));
            let mut sum = V::splat(0.0);
            for c in (0..p.head_dim).step_by(V::LANES) {
                sum = V::fma(V::widen(&a[c..]), V::widen(&b[c..]), sum);
            }
            *inner = V::sum(sum);
        }
    }

    #[inline(always)]
    fn tile<V: Vector<Element = E>, const SIDE: usize>(&self, head: usize, place: Place, room: &mut Room<V>) {
        let (p, dim) = (self.problem, self.problem.head_dim);
        let Place { block, key_block, .. } = place;
        let (rows, keys) = (place.rows::<SIDE>(), place.keys::<SIDE>());
        let groups = rows / V::PER_WORD * dim;
        let queries = &room.query_rows.get(block)[..groups];
        let upstream = &room.upstream_rows.get(block)[..groups];
        scores::<V, SIDE>(&mut room.weights, p, place, queries, room.key_columns.get(key_block));
        let slopes_of = &mut room.slopes[..rows * SIDE];
        products::<V, SIDE>(slopes_of, upstream, room.value_columns.get(key_block));
        if let Some(dropout) = p.dropout {
            dropout.factors::<SIDE>(&mut room.kept, head, place);
            multiply::<V>(slopes_of, &room.kept[..]);
        }
        let first = (block - room.queries.start) * SIDE;
        let summed = (block - room.of_segment.blocks.start) * SIDE;
        for row in 0..rows {
            if let Some(key) = place.first_of_all_seen::<SIDE>(row) {
                let (scale, sink) = (p.exponent_scale(), p.sinks.get(head));
                room.inner[first + row] = inner::<V, SIDE>([row, key], first, scale, sink, room);
            }
        }
        for group in 0..rows / V::PER_WORD {
            if self.with_totals {
                add_totals::<V, SIDE>(group, [first, summed], p, room);
            }
            slopes::<V, SIDE>(group, first, p, room);
        }
        let transposed = Left::columns(&room.weight_groups, SIDE);
        let upstream = &room.upstream_groups.get(block)[..groups];
        multiply_add::<V>(&mut room.v[..keys * dim], transposed, upstream, dim);
        let transposed = Left::columns(&room.slope_groups, SIDE);
        let queries = &room.query_groups.get(block)[..groups];
        multiply_add::<V>(&mut room.k[..keys * dim], transposed, queries, dim);
        let slope_rows = Left::rows(&room.slope_rows, SIDE / V::PER_WORD);
        let q = &mut room.of_segment.q[summed * dim..][..rows * dim];
        multiply_add::<V>(q, slope_rows, &room.key_groups.get(key_block)[..keys / V::PER_WORD * dim], dim);
    }

    #[inline(always)]
    fn write_keys<V: Vector<Element = E>, const SIDE: usize>(
        &self,
        unit: &Unit,
        key_block: usize,
        room: &Room<V>,
    ) {
        let (p, first) = (self.problem, key_block * SIDE);
        let scale = V::splat(p.scale);
        for i in 0..SIDE.min(unit.tokens.len() - first) {
            let token = unit.tokens.start + first + i;
            let at = p.at(token, unit.head, p.heads);
            let (k, v) = (&room.k[i * p.head_dim..][..p.head_dim], &room.v[i * p.head_dim..][..p.head_dim]);
            if p.heads == p.kv_heads {
                narrow_row::<V>(k, scale, own(&self.k, at, p.head_dim));
                narrow_row::<V>(v, V::splat(1.0), own(&self.v, at, p.head_dim));
            } else {
                own(&self.k_heads, at, p.head_dim).copy_from_slice(k);
                own(&self.v_heads, at, p.head_dim).copy_from_slice(v);
            }
        }
    }

    /// Writes what is summed up for a unit's queries from one on.
    #[inline(always)]
    pub fn write_queries<V: Vector<Element = E>>(&self, unit: &Unit, first: usize, sums: &Sums) {
        let (p, tokens) = (self.problem, unit.tokens.start + first..unit.tokens.end);
        for (row, token) in sums.q.chunks_exact(p.head_dim).zip(tokens.clone()) {
            let to = own(&self.q, p.at(token, unit.head, p.heads), p.head_dim);
            narrow_row::<V>(row, V::splat(p.scale), to);
        }
        if self.with_totals {
            let len = tokens.len().min(sums.totals.len());
            let to = own(&self.totals, unit.head * p.num_tokens() + tokens.start, len);
            to.copy_from_slice(&sums.totals[..len]);
        }
    }

    /// Keeps the sums of a segment, and says how many numbers they are.
    fn keep(&self, start: usize, sums: &Sums) -> usize {
        let (q, totals) = (&sums.q[..], if self.with_totals { &sums.totals[..] } else { &[] });
        own(&self.kept, start, q.len()).copy_from_slice(q);
        own(&self.kept, start + q.len(), totals.len()).copy_from_slice(totals);
        q.len() + totals.len()
    }
}

/// D of a row all of whose keys are in the tile, of which it sees one first. Differences from what that one gets are
/// what is summed, so that D of a row that sees no other is exact.
#[inline(always)]
fn inner<V: Vector, const SIDE: usize>(
    [row, key]: [usize; 2],
    first: usize,
    scale: f32,
    sink: Option<&f32>,
    room: &Room<V>,
) -> f32 {
    let (log_sum, one) = (room.log_sums[first + row], room.slopes[row * SIDE + key]);
    let (mut sum, mut total) = (V::splat(0.0), V::splat(0.0));
    for at in (row * SIDE..(row + 1) * SIDE).step_by(V::LANES) {
        let weights = V::exp2(exponents::<V>(V::load(&room.weights[at..]), scale, log_sum));
        total = V::add(total, weights);
        sum = V::fma(weights, V::sub(V::load(&room.slopes[at..]), V::splat(one)), sum);
    }
    let sink = sink.map_or(0.0, |sink| (sink * LOG2_E - log_sum).exp2());
    one + (V::sum(sum) - sink * one) / (V::sum(total) + sink)
}

/// Adds weights times their gradients to the totals of a group of rows; apart from `slopes`, so that this is as
/// fast as it was where there are no sinks.
#[inline(always)]
fn add_totals<V: Vector, const SIDE: usize>(
    group: usize,
    [first, summed]: [usize; 2],
    problem: &Problem,
    room: &mut Room<V>,
) {
    let scale = problem.exponent_scale();
    for row in group * V::PER_WORD..(group + 1) * V::PER_WORD {
        let (log_sum, mut sum) = (room.log_sums[first + row], V::splat(0.0));
        for at in (row * SIDE..(row + 1) * SIDE).step_by(V::LANES) {
            let weights = V::exp2(exponents::<V>(V::load(&room.weights[at..]), scale, log_sum));
            sum = V::fma(weights, V::load(&room.slopes[at..]), sum);
        }
        room.of_segment.totals[summed + row] += V::sum(sum);
    }
}

/// Turns a group of rows of scores into weights P, and of dP into slopes dS, in the orders that products read.
///
/// Closures would not be inlined here, and be compiled without the vectors' features.
#[inline(always)]
fn slopes<V: Vector, const SIDE: usize>(group: usize, first: usize, problem: &Problem, room: &mut Room<V>) {
    let scale = problem.exponent_scale();
    for c in (0..SIDE).step_by(V::LANES) {
        let mut weights = [V::splat(0.0); MOST_PER_WORD];
        let mut slopes = weights;
        for part in 0..V::PER_WORD {
            let row = group * V::PER_WORD + part;
            let (at, row) = (row * SIDE + c, first + row);
            let scores = V::load(&room.weights[at..]);
            weights[part] = V::exp2(exponents::<V>(scores, scale, room.log_sums[row]));
            let slope = V::sub(V::load(&room.slopes[at..]), V::splat(room.inner[row]));
            slopes[part] = V::mul(weights[part], slope);
            if let Some(softcap) = problem.softcap {
                slopes[part] = V::mul(slopes[part], steepness::<V>(scores, softcap));
            }
            V::words_of_row(slopes[part], &mut room.slope_rows[at / V::PER_WORD..]);
        }
        if problem.dropout.is_some() {
            for (part, weights) in weights.iter_mut().enumerate().take(V::PER_WORD) {
                let at = (group * V::PER_WORD + part) * SIDE + c;
                *weights = V::mul(*weights, V::load(&room.kept[at..]));
            }
        }
        V::words_of_rows(weights, &mut room.weight_groups[group * SIDE + c..]);
        V::words_of_rows(slopes, &mut room.slope_groups[group * SIDE + c..]);
    }
}

#[inline(always)]
fn multiply<V: Vector>(tile: &mut [f32], factors: &[f32]) {
    for (numbers, factors) in tile.chunks_exact_mut(V::LANES).zip(factors.chunks_exact(V::LANES)) {
        V::store(V::mul(V::load(numbers), V::load(factors)), numbers);
    }
}

#[inline(always)]
fn narrow_row<V: Vector>(row: &[f32], factor: V::Floats, to: &mut [V::Element]) {
    for (numbers, to) in row.chunks_exact(V::LANES).zip(to.chunks_exact_mut(V::LANES)) {
        V::narrow(V::mul(V::load(numbers), factor), to);
    }
}
