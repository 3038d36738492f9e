//! What the backward pass sums up over keys, segments and heads.

use std::ops::Range;

use super::backward::Backward;
use super::problem::own;
use super::share::Task;
use super::BLOCK;
use crate::element::Kernel;
use crate::team::Queue;
use crate::vector::Vector;

/// What is summed over keys, a row each: gradients of queries, and P · dP.
#[derive(Default)]
pub(super) struct Sums {
    /// Blocks of queries.
    pub blocks: Range<usize>,
    pub q: Vec<f32>,
    pub totals: Vec<f32>,
}

impl Sums {
    #[inline(always)]
    pub fn restart<const SIDE: usize>(&mut self, blocks: Range<usize>, head_dim: usize) {
        let rows = blocks.len() * SIDE;
        self.blocks = blocks;
        clear(&mut self.q, rows * head_dim);
        clear(&mut self.totals, rows);
    }

    /// Adds sums of some of the blocks.
    #[inline(always)]
    pub fn add<V: Vector>(&mut self, sums: &Self, head_dim: usize) {
        let first = (sums.blocks.start - self.blocks.start) * BLOCK;
        add_numbers::<V>(&mut self.q[first * head_dim..], &sums.q);
        add_numbers::<V>(&mut self.totals[first..], &sums.totals);
    }
}

pub(super) fn clear(numbers: &mut Vec<f32>, len: usize) {
    numbers.clear();
    numbers.resize(len, 0.0);
}

#[inline(always)]
fn add_numbers<V: Vector>(sums: &mut [f32], numbers: &[f32]) {
    for (sums, numbers) in sums.chunks_exact_mut(V::LANES).zip(numbers.chunks_exact(V::LANES)) {
        V::store(V::add(V::load(sums), V::load(numbers)), sums);
    }
}

/// Adds up, block by block of queries, what the segments of a head that is cut gave: in the order in which one
/// thread would have.
pub(super) struct Joiner<'a, E>(pub &'a Backward<'a, E>, pub &'a Queue);

impl<E: Copy> Kernel<E> for Joiner<'_, E> {
    #[inline(always)]
    fn compute<V: Vector<Element = E>>(self) {
        let (pass, mut sums) = (self.0, Sums::default());
        while let Some(index) = self.1.draw() {
            let (first, block) = pass.tasks.joints[index];
            let parts = pass.tasks.parts(first);
            sums.restart::<BLOCK>(block..block + 1, pass.problem.head_dim);
            for task in parts {
                pass.add_kept::<V>(task, block, &mut sums);
            }
            pass.write_queries::<V>(&parts[0].unit, block * BLOCK, &sums);
        }
    }
}

impl<E: Copy> Backward<'_, E> {
    /// Adds what a task kept for one block of queries, segment by segment.
    #[inline(always)]
    fn add_kept<V: Vector<Element = E>>(&self, task: &Task, block: usize, sums: &mut Sums) {
        let (Some(mut start), dim) = (task.kept_at, self.problem.head_dim) else { return };
        for segment in &self.tasks.segments[task.segments.clone()] {
            let queries = task.unit.mask.queries_of(segment);
            let rows = queries.len() * BLOCK;
            if queries.contains(&block) {
                let first = (block - queries.start) * BLOCK;
                add_numbers::<V>(&mut sums.q, own(&self.kept, start + first * dim, BLOCK * dim));
                if self.with_totals {
                    add_numbers::<V>(&mut sums.totals, own(&self.kept, start + rows * dim + first, BLOCK));
                }
            }
            start += rows * self.tasks.numbers;
        }
    }
}

/// Adds up, token by token, what the heads of queries that share a head of keys gave.
pub(super) struct HeadSums<'a, E>(pub &'a Backward<'a, E>, pub &'a Queue);

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
