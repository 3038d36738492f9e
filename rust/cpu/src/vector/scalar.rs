//! One number at a time on any processor: the slow twin of every other vector.

use super::widened::{nearest, wide, FromBf16};
use super::{Vector, Work, MOST_PER_WORD};

/// Plain Rust over `f32`.
#[derive(Clone, Copy)]
pub struct Scalar;

impl Vector for Scalar {
    type Element = f32;
    type Word = f32;
    type Floats = f32;
    type Elements = f32;
    const LANES: usize = 1;
    const PER_WORD: usize = 1;
    const REGISTERS: usize = 16;

    fn is_here() -> bool {
        true
    }
    fn run(work: impl Work) {
        work.run();
    }
    fn splat(x: f32) -> f32 {
        x
    }
    fn load(from: &[f32]) -> f32 {
        from[0]
    }
    fn store(x: f32, to: &mut [f32]) {
        to[0] = x;
    }
    fn add(x: f32, y: f32) -> f32 {
        x + y
    }
    fn sub(x: f32, y: f32) -> f32 {
        x - y
    }
    fn mul(x: f32, y: f32) -> f32 {
        x * y
    }
    fn div(x: f32, y: f32) -> f32 {
        x / y
    }
    fn max(x: f32, y: f32) -> f32 {
        // As of the instructions: `y` where one is not a number.
        if x > y {
            x
        } else {
            y
        }
    }
    fn fma(x: f32, y: f32, z: f32) -> f32 {
        x * y + z
    }
    fn exp2(x: f32) -> f32 {
        x.exp2()
    }
    fn sum(x: f32) -> f32 {
        x
    }
    fn greatest(x: f32) -> f32 {
        x
    }
    fn ask<T>(_: &[T]) {}
    float32_elements!(f32);
}

impl FromBf16 for Scalar {
    fn widen_bf16(from: &[u16]) -> f32 {
        wide(from[0])
    }
    fn narrow_bf16(x: f32, to: &mut [u16]) {
        to[0] = nearest(x);
    }
}
