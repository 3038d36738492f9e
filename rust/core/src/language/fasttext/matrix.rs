//! The two matrices of a fastText model, dense or product-quantised (Jégou et al. 2011).

use super::file::Source;
use crate::error::Result;

/// Centroids of a subquantiser: a code is one byte.
const NUM_CENTROIDS: usize = 256;
/// Most columns of a matrix, 64 times the widest published model; rows have no limit but the file.
pub(super) const MAX_COLUMNS: usize = 1 << 14;

/// Rows of numbers.
pub(super) struct Matrix {
    pub rows: usize,
    pub columns: usize,
    cells: Cells,
}

enum Cells {
    Dense(Vec<f32>),
    Quantised { codes: Vec<u8>, quantiser: Quantiser, norms: Option<(Vec<u8>, Quantiser)> },
}

/// Splits a vector into pieces, each one of 256 centroids; the last piece may be shorter.
struct Quantiser {
    pieces: usize,
    piece_columns: usize,
    last_columns: usize,
    centroids: Vec<f32>,
}

impl Matrix {
    /// Reads a matrix that must have these rows and columns.
    pub fn read(
        source: &mut Source,
        what: &str,
        quantised: bool,
        rows: usize,
        columns: usize,
    ) -> Result<Self> {
        let has_norms = quantised && source.bool("the norms flag")?;
        let (found_rows, found_columns) = (source.i64()?, source.i64()?);
        source.check(
            found_rows == rows as i64 && found_columns == columns as i64,
            &format!("{rows} rows of {columns} columns in the {what} matrix"),
            format!("{found_rows} rows of {found_columns}"),
        )?;
        let cells = if quantised {
            Cells::read_quantised(source, has_norms, rows, columns)?
        } else {
            let count = source.fits("rows", found_rows, 4 * columns as u64)? * columns;
            Cells::Dense(source.floats("numbers", count)?)
        };
        Ok(Self { rows, columns, cells })
    }

    /// Adds row `row` to `sum`.
    pub fn add_row(&self, row: usize, sum: &mut [f32]) {
        match &self.cells {
            Cells::Dense(cells) => {
                add(sum, &cells[row * self.columns..(row + 1) * self.columns], 1.0);
            }
            Cells::Quantised { codes, quantiser, norms } => {
                let norm = norm(norms.as_ref(), row);
                for (piece, start) in quantiser.of_row(codes, row) {
                    add(&mut sum[start..], piece, norm);
                }
            }
        }
    }

    /// Product of row `row` and `vector`.
    pub fn dot_row(&self, row: usize, vector: &[f32]) -> f32 {
        match &self.cells {
            Cells::Dense(cells) => dot(&cells[row * self.columns..(row + 1) * self.columns], vector),
            Cells::Quantised { codes, quantiser, norms } => {
                let pieces = quantiser.of_row(codes, row);
                norm(norms.as_ref(), row)
                    * pieces.map(|(piece, start)| dot(piece, &vector[start..])).sum::<f32>()
            }
        }
    }
}

impl Cells {
    fn read_quantised(source: &mut Source, has_norms: bool, rows: usize, columns: usize) -> Result<Self> {
        let num_codes = source.i32()?;
        let num_codes = source.fits("codes", i64::from(num_codes), 1)?;
        let codes = source.bytes("codes", num_codes)?;
        let quantiser = Quantiser::read(source, columns)?;
        let expected = format!("{} codes for each of {rows} rows", quantiser.pieces);
        source.check(rows.checked_mul(quantiser.pieces) == Some(num_codes), &expected, num_codes)?;
        let norms =
            if has_norms { Some((source.bytes("norms", rows)?, Quantiser::read(source, 1)?)) } else { None };
        Ok(Self::Quantised { codes, quantiser, norms })
    }
}

impl Quantiser {
    fn read(source: &mut Source, columns: usize) -> Result<Self> {
        let mut header = [0; 4];
        for number in &mut header {
            *number = source.i32()?;
        }
        let [dim, pieces, piece_columns, last_columns] =
            header.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        let is_split = dim == columns
            && pieces >= 1
            && piece_columns >= 1
            && (1..=piece_columns).contains(&last_columns)
            && (pieces - 1).checked_mul(piece_columns).and_then(|n| n.checked_add(last_columns)) == Some(dim);
        let expected = format!("{columns} columns split into pieces, the last not longer than the others");
        source.check(is_split, &expected, format!("{header:?}"))?;
        let centroids = source.floats("centroids", columns * NUM_CENTROIDS)?;
        Ok(Self { pieces, piece_columns, last_columns, centroids })
    }

    /// The pieces of a row, each with the column where it starts.
    fn of_row<'m>(&'m self, codes: &'m [u8], row: usize) -> impl Iterator<Item = (&'m [f32], usize)> + 'm {
        let codes = &codes[row * self.pieces..(row + 1) * self.pieces];
        codes
            .iter()
            .enumerate()
            .map(|(piece, code)| (self.centroid(piece, *code), piece * self.piece_columns))
    }

    fn centroid(&self, piece: usize, code: u8) -> &[f32] {
        let columns = if piece + 1 == self.pieces { self.last_columns } else { self.piece_columns };
        let start = piece * NUM_CENTROIDS * self.piece_columns + code as usize * columns;
        &self.centroids[start..start + columns]
    }
}

fn norm(norms: Option<&(Vec<u8>, Quantiser)>, row: usize) -> f32 {
    norms.map_or(1.0, |(codes, quantiser)| quantiser.centroid(0, codes[row])[0])
}

fn add(sum: &mut [f32], cells: &[f32], scale: f32) {
    for (sum, cell) in sum.iter_mut().zip(cells) {
        *sum += scale * cell;
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
