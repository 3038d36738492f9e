//! Sums in float32 of what products of bf16 give.

use std::ops::Range;

use crate::element::Element;
use crate::rows::{on_rows, RowKernel};
use crate::team::Parts;
use crate::vector::Vector;

/// Numbers that count as a row: 32 rows of float32 fit a core's cache of a megabyte.
const WIDTH: usize = 4096;

/// Adds `numbers` to `sums`; lengths are equal, and multiples of 16.
///
/// # Panics
/// They are not.
pub fn add<E: Element>(sums: &mut [f32], numbers: &[E], num_threads: usize) {
    let len = sums.len();
    assert!(len.is_multiple_of(16) && numbers.len() == len, "lengths that do not fit");
    let kernel = Add { sums: Parts::of(sums), numbers };
    on_rows::<E>(&kernel, len.div_ceil(WIDTH), num_threads);
}

struct Add<'a, E> {
    sums: Parts<'a, f32>,
    numbers: &'a [E],
}

impl<E: Element> RowKernel<E> for Add<'_, E> {
    #[inline(always)]
    #[allow(unsafe_code)]
    fn rows<V: Vector<Element = E>>(&self, rows: Range<usize>) {
        let (start, end) = (rows.start * WIDTH, self.numbers.len().min(rows.end * WIDTH));
        // Sound: rows are drawn once.
        let sums = unsafe { self.sums.part(start, end - start) };
        let numbers = &self.numbers[start..end];
        for c in (0..sums.len()).step_by(V::LANES) {
            V::store(V::add(V::load(&sums[c..]), V::widen(&numbers[c..])), &mut sums[c..]);
        }
    }
}
