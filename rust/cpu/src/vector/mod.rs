//! Vectors of float32, and products of what tensors hold.
//!
//! A kernel is written once over [`Vector`] and compiled for an instruction set and a type of
//! elements. All of it is inlined into [`Vector::run`], the only function that has the
//! instructions' target features.

#[macro_use]
mod shared;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
mod widened;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::{Avx512, Avx512Bf16};
#[cfg(target_arch = "aarch64")]
pub use neon::Neon;
pub use scalar::Scalar;
pub use widened::Widened;

/// Something to do with vectors; `run` is inlined whole.
pub trait Work {
    /// Does it.
    fn run(self);
}

/// An instruction set and a type of elements.
pub trait Vector: Copy + Send + Sync + 'static {
    /// A number as tensors hold it: `f32`, or the bits of a bf16.
    type Element: Copy + Default + Send + Sync + 'static;
    /// What a lane multiplies by one instruction: `PER_WORD` elements.
    type Word: Copy + Default + Send + Sync + 'static;
    /// `LANES` of float32.
    type Floats: Copy;
    /// `LANES` words.
    type Elements: Copy;
    /// Numbers in a vector; divides [`MOST_LANES`].
    const LANES: usize;
    /// Elements in a word.
    const PER_WORD: usize;
    /// Vectors that the processor holds at once.
    const REGISTERS: usize;

    /// Whether this processor has the instructions.
    fn is_here() -> bool;
    /// Does `work` with the instructions.
    ///
    /// # Panics
    /// This processor lacks them.
    fn run(work: impl Work);

    /// The same number in all lanes.
    fn splat(x: f32) -> Self::Floats;
    /// The first `LANES` numbers.
    fn load(from: &[f32]) -> Self::Floats;
    /// Writes the first `LANES` numbers.
    fn store(x: Self::Floats, to: &mut [f32]);
    /// x + y
    fn add(x: Self::Floats, y: Self::Floats) -> Self::Floats;
    /// x - y
    fn sub(x: Self::Floats, y: Self::Floats) -> Self::Floats;
    /// x * y
    fn mul(x: Self::Floats, y: Self::Floats) -> Self::Floats;
    /// x / y
    fn div(x: Self::Floats, y: Self::Floats) -> Self::Floats;
    /// The greater of each lane.
    fn max(x: Self::Floats, y: Self::Floats) -> Self::Floats;
    /// x * y + z, rounded once where the instruction does.
    fn fma(x: Self::Floats, y: Self::Floats, z: Self::Floats) -> Self::Floats;
    /// 2 to the power of each lane, to 1e-7 of it; 0 far below.
    fn exp2(x: Self::Floats) -> Self::Floats;
    /// Sum of the lanes.
    fn sum(x: Self::Floats) -> f32;
    /// Greatest of the lanes.
    fn greatest(x: Self::Floats) -> f32;
    /// `to + word * words`, lane by lane; a word's products are summed.
    fn multiply_add(to: Self::Floats, word: Self::Word, words: &[Self::Word]) -> Self::Floats;

    /// Reads `LANES * PER_WORD` elements, to be multiplied by `dot`.
    fn elements(from: &[Self::Element]) -> Self::Elements;
    /// `to + x * y`; a word's products are summed.
    fn dot(to: Self::Floats, x: Self::Elements, y: Self::Elements) -> Self::Floats;
    /// Asks memory for the first of some things, which are read later.
    fn ask<T>(from: &[T]);

    /// The word of elements `part(0)`, and `part(1)` if there are two.
    fn word(part: impl Fn(usize) -> Self::Element) -> Self::Word;
    /// An element's number.
    fn number(x: Self::Element) -> f32;
    /// The element nearest to a number.
    fn element(x: f32) -> Self::Element;
    /// Reads `LANES` elements.
    fn widen(from: &[Self::Element]) -> Self::Floats;
    /// Writes `LANES` elements, rounded to the nearest.
    fn narrow(x: Self::Floats, to: &mut [Self::Element]);
    /// `LANES` numbers of one row as `LANES / PER_WORD` words.
    fn words_of_row(x: Self::Floats, to: &mut [Self::Word]);
    /// `LANES` numbers of the first `PER_WORD` rows as words, a row's number being one part of each.
    fn words_of_rows(x: [Self::Floats; MOST_PER_WORD], to: &mut [Self::Word]);
}

/// Whether `ATEN_CPU_CAPABILITY`, by which torch is kept to less than the processor has, is one of some names.
#[cfg(target_arch = "x86_64")]
fn kept_to(names: &[&str]) -> bool {
    use std::sync::LazyLock;
    static NAME: LazyLock<String> =
        LazyLock::new(|| std::env::var("ATEN_CPU_CAPABILITY").unwrap_or_default().to_lowercase());
    names.contains(&NAME.as_str())
}

/// Lanes of the widest vectors there are.
pub const MOST_LANES: usize = 16;

/// Elements of the widest word there is.
pub const MOST_PER_WORD: usize = 2;

/// log2(e): powers of 2 are what processors compute.
pub const LOG2_E: f32 = std::f32::consts::LOG2_E;

/// 2^-126 is the least power that is no subnormal number; where bits are made by hand, what is less gives that,
/// 1e-38, in place of 0.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const LEAST_NORMAL_EXPONENT: f32 = -126.0;
/// Above it the bits of a power would run over.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const MOST_EXPONENT: f32 = 127.0;

/// 2^x within half of 0: the fit of degree 6 whose greatest relative error is least, 2e-9, with 1 at 0. In
/// float32 it is off by 8e-8 at most; the Taylor series of that degree by 2.2e-7.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const POWERS: [f32; 7] = [
    1.0,
    std::f32::consts::LN_2,
    0.240_226_48,
    0.055_503_324,
    0.009_618_437,
    0.001_339_887_5,
    0.000_153_533_62,
];

/// Beyond it tanh is 1 in float32, and the series below leaves it.
const MOST_TANH: f32 = 7.905_311;

/// tanh(x) = x P(x^2) / Q(x^2): the minimax fit that Eigen and XLA use, coefficients of the least powers last.
const TANH_OVER: [f32; 7] = [
    -2.760_768_5e-16,
    2.000_188e-13,
    -8.604_672e-11,
    5.122_297e-8,
    1.485_722_4e-5,
    6.372_619_3e-4,
    4.893_524_6e-3,
];
const TANH_UNDER: [f32; 4] = [1.198_258_4e-6, 1.185_347_1e-4, 2.268_434_6e-3, 4.893_525e-3];

/// Hyperbolic tangent of each lane, to 5e-7 of it; NaN stays NaN.
#[inline(always)]
pub fn tanh<V: Vector>(x: V::Floats) -> V::Floats {
    let (zero, bound) = (V::splat(0.0), V::splat(-MOST_TANH));
    let x = V::max(bound, x);
    let x = V::sub(zero, V::max(bound, V::sub(zero, x))); // the less of x and the bound
    let square = V::mul(x, x);
    let over = V::mul(x, polynomial::<V>(square, &TANH_OVER));
    V::div(over, polynomial::<V>(square, &TANH_UNDER))
}

#[inline(always)]
fn polynomial<V: Vector>(x: V::Floats, coefficients: &[f32]) -> V::Floats {
    let mut sum = V::splat(coefficients[0]);
    for coefficient in &coefficients[1..] {
        sum = V::fma(sum, x, V::splat(*coefficient));
    }
    sum
}
