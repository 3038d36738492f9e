//! bf16 by vectors of float32: for processors without a product of bf16.
//!
//! Elements are widened as they are read, and a word is a float32. What the kernels compute is rounded to
//! bf16 where tensors take it up, and nowhere before: a weight of attention keeps its digits.

use std::marker::PhantomData;

use super::{Vector, Work, MOST_PER_WORD};

/// Vectors of float32 that come from bf16 in memory and go back.
pub trait FromBf16: Vector<Element = f32, Word = f32> {
    /// Reads `LANES` elements.
    fn widen_bf16(from: &[u16]) -> Self::Floats;
    /// Writes `LANES` elements: the nearest to each, the even one of two as near; a NaN stays one.
    fn narrow_bf16(x: Self::Floats, to: &mut [u16]);
}

/// bf16 in memory, and the vectors `V` between.
pub struct Widened<V>(PhantomData<V>);

impl<V> Clone for Widened<V> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<V> Copy for Widened<V> {}

/// What is `V`'s own.
macro_rules! as_of_floats {
    ($($name:ident($($x:ident),*);)*) => {
        $(
            #[inline(always)]
            fn $name($($x: V::Floats),*) -> V::Floats {
                V::$name($($x),*)
            }
        )*
    };
}

impl<V: FromBf16> Vector for Widened<V> {
    type Element = u16;
    type Word = f32;
    type Floats = V::Floats;
    type Elements = V::Floats;
    const LANES: usize = V::LANES;
    const PER_WORD: usize = 1;
    const REGISTERS: usize = V::REGISTERS;

    fn is_here() -> bool {
        V::is_here()
    }
    fn run(work: impl Work) {
        V::run(work);
    }

    as_of_floats! {
        add(x, y);
        sub(x, y);
        mul(x, y);
        div(x, y);
        max(x, y);
        fma(x, y, z);
        exp2(x);
    }
    #[inline(always)]
    fn splat(x: f32) -> V::Floats {
        V::splat(x)
    }
    #[inline(always)]
    fn load(from: &[f32]) -> V::Floats {
        V::load(from)
    }
    #[inline(always)]
    fn store(x: V::Floats, to: &mut [f32]) {
        V::store(x, to);
    }
    #[inline(always)]
    fn sum(x: V::Floats) -> f32 {
        V::sum(x)
    }
    #[inline(always)]
    fn greatest(x: V::Floats) -> f32 {
        V::greatest(x)
    }
    #[inline(always)]
    fn multiply_add(to: V::Floats, word: f32, words: &[f32]) -> V::Floats {
        V::multiply_add(to, word, words)
    }
    #[inline(always)]
    fn elements(from: &[u16]) -> V::Floats {
        Self::widen(from)
    }
    #[inline(always)]
    fn dot(to: V::Floats, x: V::Floats, y: V::Floats) -> V::Floats {
        V::fma(x, y, to)
    }
    #[inline(always)]
    fn ask<T>(from: &[T]) {
        V::ask(from);
    }
    #[inline(always)]
    fn word(part: impl Fn(usize) -> u16) -> f32 {
        wide(part(0))
    }
    #[inline(always)]
    fn number(x: u16) -> f32 {
        wide(x)
    }
    #[inline(always)]
    fn element(x: f32) -> u16 {
        nearest(x)
    }
    #[inline(always)]
    fn widen(from: &[u16]) -> V::Floats {
        V::widen_bf16(from)
    }
    #[inline(always)]
    fn narrow(x: V::Floats, to: &mut [u16]) {
        V::narrow_bf16(x, to);
    }
    #[inline(always)]
    fn words_of_row(x: V::Floats, to: &mut [f32]) {
        V::store(x, to);
    }
    #[inline(always)]
    fn words_of_rows(x: [V::Floats; MOST_PER_WORD], to: &mut [f32]) {
        V::store(x[0], to);
    }
}

#[inline(always)]
pub(super) fn wide(x: u16) -> f32 {
    f32::from_bits(u32::from(x) << 16)
}

/// The nearest bf16, as [`FromBf16`] has it.
#[inline(always)]
pub(super) fn nearest(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1));
    let quiet = bits | 0x0040_0000;
    let bits = if x.is_nan() { quiet } else { rounded };
    (bits >> 16) as u16
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "x86_64")]
    use super::super::{Avx2, Avx512, Avx512Bf16};
    use super::super::{Scalar, MOST_LANES};
    use super::*;
    use crate::element::{run, Element, Kernel};

    /// Numbers to bf16 and back by vectors.
    struct There<'a>(&'a [f32], &'a mut [u16], &'a mut [f32]);

    impl Kernel<u16> for There<'_> {
        #[inline(always)]
        fn compute<V: Vector<Element = u16>>(self) {
            for c in (0..self.0.len()).step_by(V::LANES) {
                V::narrow(V::load(&self.0[c..]), &mut self.1[c..]);
                V::store(V::widen(&self.1[c..]), &mut self.2[c..]);
            }
        }
    }

    /// Numbers in all lanes but the first, which holds 1.
    fn check(there: impl Fn(There)) {
        let bf16 = |x: f32| {
            let (mut numbers, mut narrow, mut back) = ([x; MOST_LANES], [0; MOST_LANES], [0.0; MOST_LANES]);
            numbers[0] = 1.0;
            there(There(&numbers, &mut narrow, &mut back));
            assert_eq!((narrow[0], back[0]), (0x3F80, 1.0));
            assert!(narrow[1..].iter().all(|bits| *bits == narrow[1]), "lanes differ");
            assert!(back[1..].iter().all(|x| x.to_bits() == u32::from(narrow[1]) << 16));
            narrow[1]
        };
        for (from, to) in [
            (0x3F80_8000, 0x3F80), // halfway: even
            (0x3F81_8000, 0x3F82), // halfway: even
            (0x3F80_8001, 0x3F81),
            (0x3F80_7FFF, 0x3F80),
            (0xBF81_8000, 0xBF82),
            (0x7F7F_FFFF, 0x7F80), // beyond the largest
            (0x7F80_0000, 0x7F80),
            (0x8000_0000, 0x8000),
        ] {
            assert_eq!(bf16(f32::from_bits(from)), to, "{from:x}");
        }
        for nan in [0x7FC0_0000, 0x7F80_0001, 0xFFFF_FFFF] {
            assert!(wide(bf16(f32::from_bits(nan))).is_nan(), "{nan:x}");
        }
    }

    #[test]
    fn a_number_becomes_the_nearest_bf16_the_even_one_of_two_and_nan_stays_one() {
        check(|there| u16::with_vectors(there));
        check(|there| run::<Widened<Scalar>>(there));
        #[cfg(target_arch = "x86_64")]
        {
            let kinds: [(bool, fn(There)); 3] = [
                (Avx2::is_here(), |there| run::<Widened<Avx2>>(there)),
                (Avx512::is_here(), |there| run::<Widened<Avx512>>(there)),
                (Avx512Bf16::is_here(), |there| run::<Avx512Bf16>(there)),
            ];
            kinds.into_iter().filter(|(is_here, _)| *is_here).for_each(|(_, run)| check(run));
        }
    }
}
