//! Products of small matrices that lie in the nearest cache.

use crate::vector::Vector;

/// The left matrix of a product: where the words of a row are.
#[derive(Clone, Copy)]
pub struct Left<'a, W> {
    /// All words.
    pub words: &'a [W],
    /// From a row to the next.
    pub row: usize,
    /// From a word of a row to the next.
    pub word: usize,
}

impl<'a, W: Copy> Left<'a, W> {
    /// Words row by row, `width` in each.
    #[inline(always)]
    pub fn rows(words: &'a [W], width: usize) -> Self {
        Self { words, row: width, word: 1 }
    }

    /// The transpose of a matrix whose words hold parts of `PER_WORD` rows: (words, columns).
    #[inline(always)]
    pub fn columns(words: &'a [W], num_columns: usize) -> Self {
        Self { words, row: 1, word: num_columns }
    }
}

/// Rows of a tile held in registers. With 4 vectors a row that is 16 sums of the 32 registers of AVX-512 and NEON,
/// with 2 vectors 8 of AVX2's 16.
pub const TILE_ROWS: usize = 4;

/// `sums (rows, columns) += left (rows, words) · right (words, columns)`.
///
/// `rows` is a multiple of 4 and `columns` of the lanes.
#[inline(always)]
pub fn multiply_add<V: Vector>(sums: &mut [f32], left: Left<V::Word>, right: &[V::Word], columns: usize) {
    let rows = sums.len() / columns;
    for row in (0..rows).step_by(TILE_ROWS) {
        let mut column = 0;
        while V::REGISTERS == 32 && column + 4 * V::LANES <= columns {
            tile::<V, 4>(sums, left, right, columns, row, column);
            column += 4 * V::LANES;
        }
        while column + 2 * V::LANES <= columns {
            tile::<V, 2>(sums, left, right, columns, row, column);
            column += 2 * V::LANES;
        }
        while column < columns {
            tile::<V, 1>(sums, left, right, columns, row, column);
            column += V::LANES;
        }
    }
}

/// Four rows and `N` vectors of columns of the product.
#[inline(always)]
fn tile<V: Vector, const N: usize>(
    sums: &mut [f32],
    left: Left<V::Word>,
    right: &[V::Word],
    columns: usize,
    row: usize,
    column: usize,
) {
    let at = |i: usize, n: usize| (row + i) * columns + column + n * V::LANES;
    let mut held = [[V::splat(0.0); N]; TILE_ROWS];
    for (word, words) in right.chunks_exact(columns).enumerate() {
        let words = &words[column..column + N * V::LANES];
        for (i, vectors) in held.iter_mut().enumerate() {
            let one = left.words[(row + i) * left.row + word * left.word];
            for (n, vector) in vectors.iter_mut().enumerate() {
                *vector = V::multiply_add(*vector, one, &words[n * V::LANES..]);
            }
        }
    }
    // Added at the end: of a long document sums of sums round off half of what one running sum does.
    for (i, vectors) in held.iter().enumerate() {
        for (n, vector) in vectors.iter().enumerate() {
            let to = &mut sums[at(i, n)..];
            V::store(V::add(V::load(to), *vector), to);
        }
    }
}
