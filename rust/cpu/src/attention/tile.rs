//! Scores of a block of queries and a block of keys.

use super::problem::Problem;
use super::BLOCK;
use crate::product::{multiply_add, Left};
use crate::vector::{Vector, LOG2_E};

/// (queries, keys) of a block each.
pub(super) type Tile = [f32; BLOCK * BLOCK];

/// Where a tile is: its block of queries and of keys, in a document of `len` tokens.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub block: usize,
    pub key_block: usize,
    pub len: usize,
}

/// Products of rows and columns, in place of what `tile` held.
#[inline(always)]
pub(super) fn products<V: Vector>(tile: &mut Tile, rows: &[V::Word], columns: &[V::Word]) {
    tile.fill(0.0);
    let width = rows.len() / BLOCK;
    multiply_add::<V>(tile, Left::rows(rows, width), columns, BLOCK);
}

/// Products of queries and keys, those hidden by the rules being minus infinity.
#[inline(always)]
pub(super) fn scores<V: Vector>(
    tile: &mut Tile,
    problem: &Problem,
    place: Place,
    queries: &[V::Word],
    keys: &[V::Word],
) {
    products::<V>(tile, queries, keys);
    if !problem.sees_all(place.block, place.key_block, place.len) {
        hide(tile, problem, place);
    }
}

#[inline(always)]
fn hide(tile: &mut Tile, problem: &Problem, place: Place) {
    let first_key = place.key_block * BLOCK;
    let within = |key: usize| key.saturating_sub(first_key).min(BLOCK);
    for (i, row) in tile.chunks_exact_mut(BLOCK).enumerate() {
        let seen = problem.seen(place.block * BLOCK + i, place.len);
        let (start, end) = (within(seen.start), within(seen.end));
        row[..start].fill(f32::NEG_INFINITY);
        row[end.max(start)..].fill(f32::NEG_INFINITY);
    }
}

/// Factor of products that makes them exponents of 2.
pub(super) fn exponent_scale(problem: &Problem) -> f32 {
    problem.scale * LOG2_E
}
