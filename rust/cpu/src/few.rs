//! Products of few rows with a weight matrix, as a token for each of some sequences takes them.
//!
//! Memory decides: every number of the matrix is read once, and multiplied with all rows. Each product is
//! summed in one order, so that it depends neither on the other rows nor on threads.

use std::ops::Range;

use crate::element::Element;
use crate::rows::{on_rows, RowKernel};
use crate::team::Parts;
use crate::vector::Vector;

/// Most rows that are multiplied together: with more, a blocked product is as fast.
pub const MOST_ROWS: usize = 8;

/// What a width is a multiple of: two vectors of any kind.
pub const WIDTH_STEP: usize = 32;

/// Writes `x` (rows, width) times the transpose of `weight` (outputs, width), (rows, outputs).
///
/// # Panics
/// [`obstacle`] names something.
pub fn multiply<E: Element>(x: &[E], weight: &[E], product: &mut [E], num_rows: usize, num_threads: usize) {
    assert_eq!(obstacle([x.len(), weight.len(), product.len()], num_rows), None);
    let outputs = product.len() / num_rows;
    let product = Parts::of(product);
    let kernel = Products { x, weight, product, num_rows, width: x.len() / num_rows, outputs };
    on_rows::<E>(&kernel, outputs, num_threads);
}

/// What stands against it for so many numbers of x, weight and product; `None` if nothing does.
pub fn obstacle([x, weight, product]: [usize; 3], num_rows: usize) -> Option<String> {
    let rows_fit = (1..=MOST_ROWS).contains(&num_rows);
    let fits = rows_fit && x.is_multiple_of(num_rows * WIDTH_STEP) && product.is_multiple_of(num_rows);
    (!fits || product / num_rows * (x / num_rows) != weight)
        .then(|| format!("{num_rows} rows of {x} numbers, a weight of {weight}, a product of {product}"))
}

struct Products<'a, E> {
    x: &'a [E],
    weight: &'a [E],
    product: Parts<'a, E>,
    num_rows: usize,
    width: usize,
    outputs: usize,
}

impl<E: Element> RowKernel<E> for Products<'_, E> {
    #[inline(always)]
    fn rows<V: Vector<Element = E>>(&self, outputs: Range<usize>) {
        // Up to 16 sums hide how long each addition takes; AVX2's 16 registers hold 8 beside weights and x.
        match (self.num_rows, V::REGISTERS == 32) {
            (1, _) => self.block::<V, 1, 4>(outputs),
            (2, _) => self.block::<V, 2, 4>(outputs),
            (3, true) => self.block::<V, 3, 4>(outputs),
            (3, false) => self.block::<V, 3, 2>(outputs),
            (4, true) => self.block::<V, 4, 4>(outputs),
            (4, false) => self.block::<V, 4, 2>(outputs),
            (5, _) => self.block::<V, 5, 2>(outputs),
            (6, _) => self.block::<V, 6, 2>(outputs),
            (7, _) => self.block::<V, 7, 2>(outputs),
            _ => self.block::<V, 8, 2>(outputs),
        }
    }
}

impl<E: Element> Products<'_, E> {
    /// For `R` rows, `O` outputs at a time.
    #[inline(always)]
    fn block<V: Vector<Element = E>, const R: usize, const O: usize>(&self, outputs: Range<usize>) {
        let whole = outputs.start + outputs.len() / O * O;
        for first in (outputs.start..whole).step_by(O) {
            self.some::<V, R, O>(first);
        }
        for output in whole..outputs.end {
            self.some::<V, R, 1>(output);
        }
    }

    #[inline(always)]
    #[allow(unsafe_code)]
    fn some<V: Vector<Element = E>, const R: usize, const O: usize>(&self, first: usize) {
        let (width, step) = (self.width, V::LANES * V::PER_WORD);
        let mut sums = [[V::splat(0.0); O]; R];
        let weights: [&[E]; O] = std::array::from_fn(|o| &self.weight[(first + o) * width..][..width]);
        for c in (0..width).step_by(step) {
            for o in 0..O {
                V::ask(self.weight.get((first + O + o) * width + c..).unwrap_or_default());
            }
            let weights: [V::Elements; O] = std::array::from_fn(|o| V::elements(&weights[o][c..]));
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = V::elements(&self.x[r * width + c..]);
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    *sum = V::dot(*sum, x, weights);
                }
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            // Sound: an output is drawn once.
            let to = unsafe { self.product.part(r * self.outputs + first, O) };
            for (to, sum) in to.iter_mut().zip(sums) {
                *to = V::element(V::sum(sum));
            }
        }
    }
}
