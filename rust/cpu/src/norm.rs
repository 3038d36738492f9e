//! x / rms(x) * weight (Zhang & Sennrich 2019, eq. 4) into bf16, and its gradient.

use std::ops::Range;

use crate::element::Number;
use crate::rows::{on_rows, RowKernel, BLOCK_ROWS};
use crate::team::Parts;
use crate::vector::Vector;

/// The weight of each column: `plus` + `weight`.
#[derive(Debug, Clone, Copy)]
pub struct Weight<'a> {
    /// A multiple of 16 of them.
    pub weight: &'a [f32],
    /// 1 where families store weights less 1, else 0.
    pub plus: f32,
}

impl Weight<'_> {
    #[inline(always)]
    fn at<V: Vector>(&self, column: usize) -> V::Floats {
        V::add(V::load(&self.weight[column..]), V::splat(self.plus))
    }
}

/// Writes the norm of rows `x` and, in float32, what each row was multiplied by.
///
/// # Panics
/// Lengths do not fit.
pub fn rms_norm<X: Number>(
    x: &[X],
    weight: Weight,
    eps: f32,
    normed: &mut [u16],
    factors: &mut [f32],
    num_threads: usize,
) {
    check(weight, factors.len(), &[x.len(), normed.len()]);
    let num_rows = factors.len();
    let kernel = Forward { x, weight, eps, normed: Parts::of(normed), factors: Parts::of(factors) };
    on_rows::<u16>(&kernel, num_rows, num_threads);
}

/// What a forward pass read and gave, and the gradient of its result.
#[derive(Clone, Copy)]
pub struct Given<'a, X> {
    /// (rows, columns).
    pub x: &'a [X],
    /// As of the forward pass.
    pub weight: Weight<'a>,
    /// (rows,).
    pub factors: &'a [f32],
    /// Shaped as x.
    pub upstream: &'a [u16],
}

/// Writes the gradients of `x` and of the weight, (rows, columns) and (columns,).
///
/// # Panics
/// As [`rms_norm`].
pub fn rms_norm_slopes<X: Number>(
    given: Given<X>,
    of_x: &mut [X],
    of_weight: &mut [f32],
    num_threads: usize,
) {
    let (num_rows, width) = (given.factors.len(), given.weight.weight.len());
    check(given.weight, num_rows, &[given.x.len(), given.upstream.len(), of_x.len()]);
    let mut sums = vec![0.0; num_rows.div_ceil(BLOCK_ROWS) * width];
    let kernel = Backward { given, of_x: Parts::of(of_x), sums: Parts::of(&mut sums) };
    on_rows::<u16>(&kernel, num_rows, num_threads);
    of_weight.fill(0.0);
    for block in sums.chunks_exact(width) {
        of_weight.iter_mut().zip(block).for_each(|(to, sum)| *to += sum);
    }
}

fn check(weight: Weight, num_rows: usize, lens: &[usize]) {
    let width = weight.weight.len();
    assert!(width > 0 && width.is_multiple_of(16), "a width of {width} is no multiple of 16");
    assert!(lens.iter().all(|len| *len == num_rows * width), "lengths that do not fit");
}

struct Forward<'a, X> {
    x: &'a [X],
    weight: Weight<'a>,
    eps: f32,
    normed: Parts<'a, u16>,
    factors: Parts<'a, f32>,
}

impl<X: Number> RowKernel<u16> for Forward<'_, X> {
    #[inline(always)]
    #[allow(unsafe_code)]
    fn rows<V: Vector<Element = u16>>(&self, rows: Range<usize>) {
        let width = self.weight.weight.len();
        for row in rows {
            let x = &self.x[row * width..][..width];
            // Sound: a row is drawn once.
            let (to, kept) = unsafe { (self.normed.part(row * width, width), self.factors.part(row, 1)) };
            let mut squares = V::splat(0.0);
            for c in (0..width).step_by(V::LANES) {
                let number = X::read::<V>(&x[c..]);
                squares = V::fma(number, number, squares);
            }
            kept[0] = 1.0 / (V::sum(squares) / width as f32 + self.eps).sqrt();
            let factor = V::splat(kept[0]);
            for c in (0..width).step_by(V::LANES) {
                let normed = V::mul(X::read::<V>(&x[c..]), factor);
                V::narrow(V::mul(normed, self.weight.at::<V>(c)), &mut to[c..]);
            }
        }
    }
}

struct Backward<'a, X> {
    given: Given<'a, X>,
    of_x: Parts<'a, X>,
    /// (blocks of rows, columns).
    sums: Parts<'a, f32>,
}

impl<X: Number> RowKernel<u16> for Backward<'_, X> {
    #[inline(always)]
    #[allow(unsafe_code)]
    fn rows<V: Vector<Element = u16>>(&self, rows: Range<usize>) {
        let width = self.given.weight.weight.len();
        // Sound: a block of rows is drawn once.
        let sums = unsafe { self.sums.part(rows.start / BLOCK_ROWS * width, width) };
        for row in rows {
            // Sound for the same reason.
            let of_x = unsafe { self.of_x.part(row * width, width) };
            self.row::<V>(row, of_x, sums);
        }
    }
}

impl<X: Number> Backward<'_, X> {
    /// With n = x * factor and s = upstream * weight: factor * (s - n * mean(s n)).
    #[inline(always)]
    fn row<V: Vector<Element = u16>>(&self, row: usize, of_x: &mut [X], sums: &mut [f32]) {
        let (given, width) = (&self.given, of_x.len());
        let x = &given.x[row * width..][..width];
        let upstream = &given.upstream[row * width..][..width];
        let factor = V::splat(given.factors[row]);
        let mut inner = V::splat(0.0);
        for c in (0..width).step_by(V::LANES) {
            let normed = V::mul(X::read::<V>(&x[c..]), factor);
            let part = V::mul(V::widen(&upstream[c..]), normed);
            inner = V::fma(part, given.weight.at::<V>(c), inner);
            V::store(V::add(V::load(&sums[c..]), part), &mut sums[c..]);
        }
        let mean = V::splat(-V::sum(inner) / width as f32);
        for c in (0..width).step_by(V::LANES) {
            let normed = V::mul(X::read::<V>(&x[c..]), factor);
            let slope = V::mul(V::widen(&upstream[c..]), given.weight.at::<V>(c));
            X::write::<V>(V::mul(V::fma(normed, mean, slope), factor), &mut of_x[c..]);
        }
    }
}
