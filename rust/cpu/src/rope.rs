//! Pairs of a head's dimensions, turned by the angles of their token (Su et al. 2021).

use std::ops::Range;

use crate::element::Element;
use crate::rows::{on_rows, RowKernel};
use crate::team::Parts;
use crate::vector::Vector;

/// Cosines and sines, (tokens, half of the head dim) each.
#[derive(Debug, Clone, Copy)]
pub struct Angles<'a> {
    /// Cosines.
    pub cos: &'a [f32],
    /// Sines; negated by `sign` -1, which turns back.
    pub sin: &'a [f32],
    /// Half of the head dim; a multiple of 16.
    pub half: usize,
    /// 1 or -1.
    pub sign: f32,
}

impl Angles<'_> {
    /// What stands against turning `len` numbers; `None` if nothing does.
    pub fn obstacle(&self, len: usize) -> Option<String> {
        let tokens = self.cos.len() / self.half.max(1);
        let whole = self.half > 0 && self.half.is_multiple_of(16) && tokens * self.half == self.cos.len();
        let fits =
            whole && self.sin.len() == self.cos.len() && len.is_multiple_of((2 * self.half * tokens).max(1));
        let lens =
            format!("{len} numbers, {} cosines, {} sines of {}", self.cos.len(), self.sin.len(), self.half);
        (!fits).then_some(lens)
    }
}

/// Writes `x` (tokens, heads, head dim) turned; dimension i is paired with i + half.
///
/// # Panics
/// `Angles::obstacle` names something.
pub fn turn<E: Element>(x: &[E], turned: &mut [E], angles: Angles, num_threads: usize) {
    assert!(angles.obstacle(x.len()).is_none() && x.len() == turned.len(), "lengths that do not fit");
    let num_tokens = angles.cos.len() / angles.half;
    let kernel = Turn { x, turned: Parts::of(turned), angles, width: x.len() / num_tokens.max(1) };
    on_rows::<E>(&kernel, num_tokens, num_threads);
}

struct Turn<'a, E> {
    x: &'a [E],
    turned: Parts<'a, E>,
    angles: Angles<'a>,
    width: usize,
}

impl<E: Element> RowKernel<E> for Turn<'_, E> {
    #[inline(always)]
    #[allow(unsafe_code)]
    fn rows<V: Vector<Element = E>>(&self, rows: Range<usize>) {
        let half = self.angles.half;
        for token in rows {
            let start = token * self.width;
            // Sound: a token is drawn once.
            let to = unsafe { self.turned.part(start, self.width) };
            let heads = self.x[start..start + self.width].chunks_exact(2 * half);
            for (head, to) in heads.zip(to.chunks_exact_mut(2 * half)) {
                self.head::<V>(head, to, token * half);
            }
        }
    }
}

impl<E: Element> Turn<'_, E> {
    #[inline(always)]
    fn head<V: Vector<Element = E>>(&self, head: &[E], to: &mut [E], at: usize) {
        let half = self.angles.half;
        for c in (0..half).step_by(V::LANES) {
            let (a, b) = (V::widen(&head[c..]), V::widen(&head[half + c..]));
            let cos = V::load(&self.angles.cos[at + c..]);
            let sin = V::mul(V::load(&self.angles.sin[at + c..]), V::splat(self.angles.sign));
            V::narrow(V::sub(V::mul(a, cos), V::mul(b, sin)), &mut to[c..]);
            V::narrow(V::fma(b, cos, V::mul(a, sin)), &mut to[half + c..]);
        }
    }
}
