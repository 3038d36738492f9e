//! silu(gate) * up (Shazeer 2020, eq. 6), and its gradient.

use std::ops::Range;

use crate::element::Element;
use crate::rows::{on_rows, RowKernel};
use crate::team::Parts;
use crate::vector::{Vector, LOG2_E};

/// Numbers that count as a row.
const WIDTH: usize = 256;

/// Writes silu(`gate`) * `up`; lengths are equal, and multiples of 16.
///
/// # Panics
/// They are not.
pub fn swiglu<E: Element>(gate: &[E], up: &[E], gated: &mut [E], num_threads: usize) {
    check(gate.len(), &[up.len(), gated.len()]);
    let kernel = Forward { gate, up, gated: Parts::of(gated) };
    on_rows::<E>(&kernel, gate.len().div_ceil(WIDTH), num_threads);
}

/// Writes the gradients of `gate` and of `up` for that of the result, `upstream`.
///
/// # Panics
/// As [`swiglu`].
pub fn swiglu_slopes<E: Element>(inputs: [&[E]; 3], slopes: [&mut [E]; 2], num_threads: usize) {
    let ([gate, up, upstream], [of_gate, of_up]) = (inputs, slopes);
    check(gate.len(), &[up.len(), upstream.len(), of_gate.len(), of_up.len()]);
    let kernel = Backward { gate, up, upstream, of_gate: Parts::of(of_gate), of_up: Parts::of(of_up) };
    on_rows::<E>(&kernel, gate.len().div_ceil(WIDTH), num_threads);
}

fn check(len: usize, others: &[usize]) {
    assert!(len.is_multiple_of(16) && others.iter().all(|other| *other == len), "lengths that do not fit");
}

struct Forward<'a, E> {
    gate: &'a [E],
    up: &'a [E],
    gated: Parts<'a, E>,
}

impl<E: Element> RowKernel<E> for Forward<'_, E> {
    #[inline(always)]
    #[allow(unsafe_code)]
    fn rows<V: Vector<Element = E>>(&self, rows: Range<usize>) {
        let numbers = numbers(&rows, self.gate.len());
        // Sound: rows are drawn once.
        let to = unsafe { self.gated.part(numbers.start, numbers.len()) };
        let (gate, up) = (&self.gate[numbers.clone()], &self.up[numbers]);
        for c in (0..to.len()).step_by(V::LANES) {
            let g = V::widen(&gate[c..]);
            V::narrow(V::mul(V::mul(g, sigmoid::<V>(g)), V::widen(&up[c..])), &mut to[c..]);
        }
    }
}

struct Backward<'a, E> {
    gate: &'a [E],
    up: &'a [E],
    upstream: &'a [E],
    of_gate: Parts<'a, E>,
    of_up: Parts<'a, E>,
}

impl<E: Element> RowKernel<E> for Backward<'_, E> {
    #[inline(always)]
    #[allow(unsafe_code)]
    fn rows<V: Vector<Element = E>>(&self, rows: Range<usize>) {
        let numbers = numbers(&rows, self.gate.len());
        let (start, len) = (numbers.start, numbers.len());
        // Sound: rows are drawn once.
        let (of_gate, of_up) = unsafe { (self.of_gate.part(start, len), self.of_up.part(start, len)) };
        for c in (0..len).step_by(V::LANES) {
            let at = start + c;
            let (g, u) = (V::widen(&self.gate[at..]), V::widen(&self.up[at..]));
            let (y, s, one) = (V::widen(&self.upstream[at..]), sigmoid::<V>(g), V::splat(1.0));
            V::narrow(V::mul(y, V::mul(g, s)), &mut of_up[c..]);
            // d silu = s (1 + g (1 - s))
            let slope = V::mul(s, V::fma(g, V::sub(one, s), one));
            V::narrow(V::mul(V::mul(y, u), slope), &mut of_gate[c..]);
        }
    }
}

#[inline(always)]
fn numbers(rows: &Range<usize>, len: usize) -> Range<usize> {
    rows.start * WIDTH..len.min(rows.end * WIDTH)
}

#[inline(always)]
fn sigmoid<V: Vector>(x: V::Floats) -> V::Floats {
    let power = V::exp2(V::mul(x, V::splat(-LOG2_E)));
    V::div(V::splat(1.0), V::add(V::splat(1.0), power))
}
