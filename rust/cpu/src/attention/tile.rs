//! Scores of a block of queries and a block of keys.

use super::mask::Mask;
use super::problem::Problem;
use super::BLOCK;
use crate::product::{multiply_add, Left, TILE_ROWS};
use crate::vector::{tanh, Vector};

/// (queries, keys) of a block each; of small blocks what comes first.
pub(super) type Tile = [f32; BLOCK * BLOCK];

/// Where a tile is: its block of queries and of keys, in a document of that mask.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub mask: &'a Mask,
    pub block: usize,
    pub key_block: usize,
}

impl Place<'_> {
    /// Rows of the block of queries that are computed: those there are, in whole steps of a product.
    #[inline(always)]
    pub fn rows<const SIDE: usize>(self) -> usize {
        rows_of::<SIDE>(self.mask.len, self.block)
    }

    /// The same of the block of keys.
    #[inline(always)]
    pub fn keys<const SIDE: usize>(self) -> usize {
        rows_of::<SIDE>(self.mask.len, self.key_block)
    }

    /// Which key of the block is the first that row `i` sees, if it sees none outside.
    #[inline(always)]
    pub fn first_of_all_seen<const SIDE: usize>(self, i: usize) -> Option<usize> {
        let (i, first) = (self.block * SIDE + i, self.key_block * SIDE);
        let (seen, hidden) = (self.mask.seen(i), self.mask.hidden(i));
        let start = if hidden.contains(&seen.start) { hidden.end } else { seen.start };
        (first <= start && seen.end <= first + SIDE).then(|| start - first)
    }
}

#[inline(always)]
fn rows_of<const SIDE: usize>(len: usize, block: usize) -> usize {
    (len - block * SIDE).min(SIDE).next_multiple_of(TILE_ROWS)
}

/// Products of rows and columns, in place of what the rows of `tile` held.
#[inline(always)]
pub(super) fn products<V: Vector, const SIDE: usize>(
    tile: &mut [f32],
    rows: &[V::Word],
    columns: &[V::Word],
) {
    tile.fill(0.0);
    let width = columns.len() / SIDE;
    multiply_add::<V>(tile, Left::rows(rows, width), columns, SIDE);
}

/// Products of queries and keys, capped if they are to be, those hidden by the mask being minus infinity.
#[inline(always)]
pub(super) fn scores<V: Vector, const SIDE: usize>(
    tile: &mut Tile,
    problem: &Problem,
    place: Place,
    queries: &[V::Word],
    keys: &[V::Word],
) {
    let tile = &mut tile[..place.rows::<SIDE>() * SIDE];
    products::<V, SIDE>(tile, queries, keys);
    if let Some(softcap) = problem.softcap {
        cap::<V>(tile, problem.scale, softcap);
    }
    if !place.mask.sees_all(place.block, place.key_block) {
        hide::<SIDE>(tile, place);
    }
}

/// From here on half of a unit in the last place of an exponent may change a power by more than 3e-4.
const LARGE_EXPONENT: f32 = 8192.0;

/// Scores as exponents of 2 below that of `most`, which was rounded. Where a fused product kept what was
/// rounded off, the greatest of large scores would be up to half a unit off 0: of 1e10 that is 512, and its
/// power infinite or none. Rounded alike, it is 0.
#[inline(always)]
pub(super) fn exponents<V: Vector>(scores: V::Floats, scale: f32, most: f32) -> V::Floats {
    if most.abs() > LARGE_EXPONENT {
        V::sub(V::mul(scores, V::splat(scale)), V::splat(most))
    } else {
        V::fma(scores, V::splat(scale), V::splat(-most))
    }
}

#[inline(always)]
fn cap<V: Vector>(tile: &mut [f32], scale: f32, softcap: f32) {
    let (factor, softcap) = (V::splat(scale / softcap), V::splat(softcap));
    for scores in tile.chunks_exact_mut(V::LANES) {
        let share = tanh::<V>(V::mul(V::load(scores), factor));
        V::store(V::mul(share, softcap), scores);
    }
}

/// What a capped score changes by for each unit of the uncapped: 1 - (score / softcap)^2; 0 for hidden ones.
#[inline(always)]
pub(super) fn steepness<V: Vector>(scores: V::Floats, softcap: f32) -> V::Floats {
    let share = V::max(V::splat(-1.0), V::mul(scores, V::splat(1.0 / softcap)));
    V::sub(V::splat(1.0), V::mul(share, share))
}

#[inline(always)]
fn hide<const SIDE: usize>(tile: &mut [f32], place: Place) {
    let first_key = place.key_block * SIDE;
    let within = |key: usize| key.saturating_sub(first_key).min(SIDE);
    for (i, row) in tile.chunks_exact_mut(SIDE).enumerate() {
        let i = place.block * SIDE + i;
        let (seen, hidden) = (place.mask.seen(i), place.mask.hidden(i));
        let (start, end) = (within(seen.start), within(seen.end));
        row[..start].fill(f32::NEG_INFINITY);
        row[end.max(start)..].fill(f32::NEG_INFINITY);
        row[within(hidden.start)..within(hidden.end)].fill(f32::NEG_INFINITY);
    }
}
