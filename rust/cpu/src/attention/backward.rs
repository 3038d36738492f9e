//! Backward pass: scores again, then five products a tile.
//!
//! With weights P = softmax(S), D = dO · O summed over a row: dV = Pᵀ dO, dP = dO Vᵀ,
//! dS = P (dP - D), dQ = scale dS K, dK = scale dSᵀ Q (Dao 2023, algorithm 2). With dropout, whose factors Z are
//! 0 or 1 over the share kept, dV = (Z P)ᵀ dO and dP = Z (dO Vᵀ).

use super::packed::{as_columns, as_row_groups, as_rows, Blocks};
use super::problem::{own, Inputs, Problem, Unit};
use super::tile::{products, scores, steepness, Place, Tile};
use super::BLOCK;
use crate::element::{Element, Kernel};
use crate::product::{multiply_add, Left};
use crate::team::{on_threads, Parts, Queue};
use crate::vector::{Vector, MOST_PER_WORD};

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
    let units = problem.units();
    let queue = Queue::new(units.len());
    let (k_heads, v_heads) = (Parts::of(k_heads), Parts::of(v_heads));
    let pass =
        Backward { problem, inputs, given, q, k, v, totals, with_totals, k_heads, v_heads, units, queue };
    on_threads(num_threads, || E::with_vectors(Worker(&pass)));
    if grouped > 0 {
        let tokens = Queue::new(problem.num_tokens());
        on_threads(num_threads, || E::with_vectors(HeadSums(&pass, &tokens)));
    }
}

/// What the threads share.
struct Backward<'a, E> {
    problem: &'a Problem,
    inputs: Inputs<'a, E>,
    given: Given<'a, E>,
    q: Parts<'a, E>,
    k: Parts<'a, E>,
    v: Parts<'a, E>,
    totals: Parts<'a, f32>,
    with_totals: bool,
    /// (tokens, heads, `head_dim`): of keys as each head of queries sees them, where several share one.
    k_heads: Parts<'a, f32>,
    v_heads: Parts<'a, f32>,
    units: Vec<Unit>,
    queue: Queue,
}

/// One thread's share.
struct Worker<'a, E>(&'a Backward<'a, E>);

impl<E: Copy> Kernel<E> for Worker<'_, E> {
    #[inline(always)]
    fn compute<V: Vector<Element = E>>(self) {
        let mut room = Room::<V>::new(self.0.problem.head_dim);
        while let Some(index) = self.0.queue.draw() {
            self.0.unit(&self.0.units[index], &mut room);
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
    /// `log_sums` and D of each row; 0 of rows that fill a block up.
    log_sums: Vec<f32>,
    inner: Vec<f32>,
    /// P · dP of each row, so far.
    totals: Vec<f32>,
    weights: Box<Tile>,
    slopes: Box<Tile>,
    kept: Box<Tile>,
    weight_groups: Vec<V::Word>,
    slope_groups: Vec<V::Word>,
    slope_rows: Vec<V::Word>,
    q: Vec<f32>,
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
            log_sums: Vec::new(),
            inner: Vec::new(),
            totals: Vec::new(),
            weights: tile(),
            slopes: tile(),
            kept: tile(),
            weight_groups: words(),
            slope_groups: words(),
            slope_rows: words(),
            q: Vec::new(),
            k: vec![0.0; BLOCK * head_dim],
            v: vec![0.0; BLOCK * head_dim],
        }
    }

    #[inline(always)]
    fn restart(&mut self, len: usize, head_dim: usize) {
        let rows = len.next_multiple_of(BLOCK);
        for (numbers, num) in [
            (&mut self.q, rows * head_dim),
            (&mut self.log_sums, rows),
            (&mut self.inner, rows),
            (&mut self.totals, rows),
        ] {
            numbers.clear();
            numbers.resize(num, 0.0);
        }
    }
}

impl<E: Copy> Backward<'_, E> {
    #[inline(always)]
    fn unit<V: Vector<Element = E>>(&self, unit: &Unit, room: &mut Room<V>) {
        let (len, dim) = (unit.tokens.len(), self.problem.head_dim);
        room.restart(len, dim);
        self.pack(unit, room);
        self.rows(unit, room);
        let (mask, num_blocks) = (&unit.mask, unit.mask.num_blocks());
        for key_block in 0..num_blocks {
            room.k.fill(0.0);
            room.v.fill(0.0);
            for block in 0..num_blocks {
                if mask.sees_any(block, key_block) {
                    self.tile(unit.head, Place { mask, block, key_block }, room);
                }
            }
            self.write_keys(unit, key_block, room);
        }
        self.write_queries(unit, room);
    }

    #[inline(always)]
    fn pack<V: Vector<Element = E>>(&self, unit: &Unit, room: &mut Room<V>) {
        let (p, len, dim) = (self.problem, unit.tokens.len(), self.problem.head_dim);
        let kv_head = p.kv_head(unit.head);
        let queries = p.rows(self.inputs.q, unit, unit.head, p.heads);
        let keys = p.rows(self.inputs.k, unit, kv_head, p.kv_heads);
        let values = p.rows(self.inputs.v, unit, kv_head, p.kv_heads);
        let upstream = p.rows(self.given.upstream, unit, unit.head, p.heads);
        as_rows::<V>(&mut room.query_rows, queries, len, dim);
        as_row_groups::<V>(&mut room.query_groups, queries, len, dim);
        as_columns::<V>(&mut room.key_columns, keys, len, dim);
        as_row_groups::<V>(&mut room.key_groups, keys, len, dim);
        as_columns::<V>(&mut room.value_columns, values, len, dim);
        as_rows::<V>(&mut room.upstream_rows, upstream, len, dim);
        as_row_groups::<V>(&mut room.upstream_groups, upstream, len, dim);
    }

    /// What each row of scores needs beside its products.
    #[inline(always)]
    fn rows<V: Vector<Element = E>>(&self, unit: &Unit, room: &mut Room<V>) {
        let (p, len) = (self.problem, unit.tokens.len());
        let start = unit.head * p.num_tokens() + unit.tokens.start;
        room.log_sums[..len].copy_from_slice(&self.given.log_sums[start..start + len]);
        let mixed = p.rows(self.given.mixed, unit, unit.head, p.heads);
        let upstream = p.rows(self.given.upstream, unit, unit.head, p.heads);
        for (i, inner) in room.inner[..len].iter_mut().enumerate() {
            let (a, b) = (mixed.get(i), upstream.get(i));
            let mut sum = V::splat(0.0);
            for c in (0..p.head_dim).step_by(V::LANES) {
                sum = V::fma(V::widen(&a[c..]), V::widen(&b[c..]), sum);
            }
            *inner = V::sum(sum);
        }
    }

    #[inline(always)]
    fn tile<V: Vector<Element = E>>(&self, head: usize, place: Place, room: &mut Room<V>) {
        let (p, dim) = (self.problem, self.problem.head_dim);
        let Place { block, key_block, .. } = place;
        scores::<V>(&mut room.weights, p, place, room.query_rows.get(block), room.key_columns.get(key_block));
        products::<V>(&mut room.slopes, room.upstream_rows.get(block), room.value_columns.get(key_block));
        if let Some(dropout) = p.dropout {
            dropout.factors(&mut room.kept, head, place);
            multiply::<V>(&mut room.slopes, &room.kept);
        }
        for group in 0..BLOCK / V::PER_WORD {
            if self.with_totals {
                add_totals(group, block * BLOCK, p, room);
            }
            slopes(group, block * BLOCK, p, room);
        }
        let transposed = Left::columns(&room.weight_groups, BLOCK);
        multiply_add::<V>(&mut room.v, transposed, room.upstream_groups.get(block), dim);
        let transposed = Left::columns(&room.slope_groups, BLOCK);
        multiply_add::<V>(&mut room.k, transposed, room.query_groups.get(block), dim);
        let rows = Left::rows(&room.slope_rows, BLOCK / V::PER_WORD);
        let q = &mut room.q[block * BLOCK * dim..][..BLOCK * dim];
        multiply_add::<V>(q, rows, room.key_groups.get(key_block), dim);
    }

    #[inline(always)]
    fn write_keys<V: Vector<Element = E>>(&self, unit: &Unit, key_block: usize, room: &Room<V>) {
        let (p, first) = (self.problem, key_block * BLOCK);
        let scale = V::splat(p.scale);
        for i in 0..BLOCK.min(unit.tokens.len() - first) {
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

    #[inline(always)]
    fn write_queries<V: Vector<Element = E>>(&self, unit: &Unit, room: &Room<V>) {
        let p = self.problem;
        for (row, token) in room.q.chunks_exact(p.head_dim).zip(unit.tokens.clone()) {
            let to = own(&self.q, p.at(token, unit.head, p.heads), p.head_dim);
            narrow_row::<V>(row, V::splat(p.scale), to);
        }
        if self.with_totals {
            let (first, len) = (unit.head * p.num_tokens() + unit.tokens.start, unit.tokens.len());
            own(&self.totals, first, len).copy_from_slice(&room.totals[..len]);
        }
    }
}

/// Adds weights times their gradients to the totals of a group of rows; apart from `slopes`, so that this is as
/// fast as it was where there are no sinks.
#[inline(always)]
fn add_totals<V: Vector>(group: usize, first: usize, problem: &Problem, room: &mut Room<V>) {
    let scale = V::splat(problem.exponent_scale());
    for row in group * V::PER_WORD..(group + 1) * V::PER_WORD {
        let (log_sum, mut sum) = (V::splat(-room.log_sums[first + row]), V::splat(0.0));
        for at in (row * BLOCK..(row + 1) * BLOCK).step_by(V::LANES) {
            let weights = V::exp2(V::fma(V::load(&room.weights[at..]), scale, log_sum));
            sum = V::fma(weights, V::load(&room.slopes[at..]), sum);
        }
        room.totals[first + row] += V::sum(sum);
    }
}

/// Turns a group of rows of scores into weights P, and of dP into slopes dS, in the orders that products read.
///
/// Closures would not be inlined here, and be compiled without the vectors' features.
#[inline(always)]
fn slopes<V: Vector>(group: usize, first: usize, problem: &Problem, room: &mut Room<V>) {
    let scale = V::splat(problem.exponent_scale());
    for c in (0..BLOCK).step_by(V::LANES) {
        let mut weights = [V::splat(0.0); MOST_PER_WORD];
        let mut slopes = weights;
        for part in 0..V::PER_WORD {
            let row = group * V::PER_WORD + part;
            let (at, row) = (row * BLOCK + c, first + row);
            let scores = V::load(&room.weights[at..]);
            weights[part] = V::exp2(V::fma(scores, scale, V::splat(-room.log_sums[row])));
            let slope = V::sub(V::load(&room.slopes[at..]), V::splat(room.inner[row]));
            slopes[part] = V::mul(weights[part], slope);
            if let Some(softcap) = problem.softcap {
                slopes[part] = V::mul(slopes[part], steepness::<V>(scores, softcap));
            }
            V::words_of_row(slopes[part], &mut room.slope_rows[at / V::PER_WORD..]);
        }
        if problem.dropout.is_some() {
            for (part, weights) in weights.iter_mut().enumerate().take(V::PER_WORD) {
                let at = (group * V::PER_WORD + part) * BLOCK + c;
                *weights = V::mul(*weights, V::load(&room.kept[at..]));
            }
        }
        V::words_of_rows(weights, &mut room.weight_groups[group * BLOCK + c..]);
        V::words_of_rows(slopes, &mut room.slope_groups[group * BLOCK + c..]);
    }
}

#[inline(always)]
fn multiply<V: Vector>(tile: &mut Tile, factors: &Tile) {
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

/// Adds up, token by token, what the heads of queries that share a head of keys gave.
struct HeadSums<'a, E>(&'a Backward<'a, E>, &'a Queue);

impl<E: Copy> Kernel<E> for HeadSums<'_, E> {
    #[inline(always)]
    fn compute<V: Vector<Element = E>>(self) {
        let p = self.0.problem;
        while let Some(token) = self.1.draw() {
            for kv_head in 0..p.kv_heads {
                self.head::<V>(token, kv_head);
            }
        }
    }
}

impl<E: Copy> HeadSums<'_, E> {
    #[inline(always)]
    fn head<V: Vector<Element = E>>(&self, token: usize, kv_head: usize) {
        let (pass, p) = (self.0, self.0.problem);
        let group = p.heads / p.kv_heads;
        let from = p.at(token, kv_head * group, p.heads);
        let at = p.at(token, kv_head, p.kv_heads);
        for (heads, to, factor) in [(&pass.k_heads, &pass.k, p.scale), (&pass.v_heads, &pass.v, 1.0)] {
            let (heads, to) = (own(heads, from, group * p.head_dim), own(to, at, p.head_dim));
            for c in (0..p.head_dim).step_by(V::LANES) {
                let mut sum = V::splat(0.0);
                for head in heads.chunks_exact(p.head_dim) {
                    sum = V::add(sum, V::load(&head[c..]));
                }
                V::narrow(V::mul(sum, V::splat(factor)), &mut to[c..]);
            }
        }
    }
}
