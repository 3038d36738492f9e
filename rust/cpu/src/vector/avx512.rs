//! AVX-512, for float32 and for bf16 with its own product instruction.
//!
//! Every intrinsic is called from a function that is inlined into `run`, which has the
//! features and is entered only after the processor was asked for them: that makes the
//! calls sound. Loads and stores go through slices whose length is checked.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m256i, __m512, __m512bh, __m512i, _mm256_loadu_si256, _mm256_storeu_si256, _mm512_add_epi32,
    _mm512_add_ps, _mm512_and_si512, _mm512_castps_si512, _mm512_castsi512_ps, _mm512_cmp_ps_mask,
    _mm512_cvtepi32_epi16, _mm512_cvtepu16_epi32, _mm512_cvtneps_pbh, _mm512_div_ps, _mm512_dpbf16_ps,
    _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_mov_epi32, _mm512_max_ps,
    _mm512_mul_ps, _mm512_or_si512, _mm512_reduce_add_ps, _mm512_reduce_max_ps, _mm512_roundscale_ps,
    _mm512_scalef_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_slli_epi32, _mm512_srli_epi32,
    _mm512_storeu_ps, _mm512_storeu_si512, _mm512_sub_ps, _mm_prefetch, _CMP_UNORD_Q, _MM_HINT_T1,
};
use std::mem::transmute;

use super::widened::FromBf16;
use super::{kept_to, Vector, Work, MOST_LANES, MOST_PER_WORD, POWERS};

const LANES: usize = MOST_LANES;

/// AVX-512 over float32.
#[derive(Clone, Copy)]
pub struct Avx512;

/// AVX-512 over bf16, two products a lane and instruction, summed in float32.
#[derive(Clone, Copy)]
pub struct Avx512Bf16;

/// What both share.
macro_rules! float_arithmetic {
    () => {
        arithmetic!(__m512: _mm512_set1_ps _mm512_loadu_ps _mm512_storeu_ps _mm512_add_ps _mm512_sub_ps
            _mm512_mul_ps _mm512_div_ps _mm512_max_ps _mm512_fmadd_ps);
        #[inline(always)]
        fn sum(x: __m512) -> f32 {
            unsafe { _mm512_reduce_add_ps(x) }
        }
        #[inline(always)]
        fn greatest(x: __m512) -> f32 {
            unsafe { _mm512_reduce_max_ps(x) }
        }
    };
}

/// 2^-200 is 0 in float32, and what is less must not become NaN.
const LEAST_EXPONENT: f32 = -200.0;

/// 2^x as 2^round(x) * 2^rest.
#[inline(always)]
fn exp2(x: __m512) -> __m512 {
    unsafe {
        let x = _mm512_max_ps(_mm512_set1_ps(LEAST_EXPONENT), x); // in this order NaN stays NaN
        let whole = _mm512_roundscale_ps::<0>(x);
        let rest = _mm512_sub_ps(x, whole);
        let mut power = _mm512_set1_ps(POWERS[6]);
        for coefficient in POWERS[..6].iter().rev() {
            power = _mm512_fmadd_ps(power, rest, _mm512_set1_ps(*coefficient));
        }
        _mm512_scalef_ps(power, whole)
    }
}

impl Vector for Avx512 {
    type Element = f32;
    type Word = f32;
    type Floats = __m512;
    type Elements = __m512;
    const LANES: usize = LANES;
    const PER_WORD: usize = 1;
    const REGISTERS: usize = 32;

    fn is_here() -> bool {
        !kept_to(&["default", "avx2"])
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
    }
    fn run(work: impl Work) {
        #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl")]
        fn with_features(work: impl Work) {
            work.run();
        }
        assert!(Self::is_here(), "AVX-512 is missing");
        // Sound, since the processor has just said that it has them.
        unsafe { with_features(work) }
    }

    float_arithmetic!();
    float32_elements!(__m512);
    ask!();
}

impl FromBf16 for Avx512 {
    #[inline(always)]
    fn widen_bf16(from: &[u16]) -> __m512 {
        unsafe {
            let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from[..LANES].as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
        }
    }
    #[inline(always)]
    fn narrow_bf16(x: __m512, to: &mut [u16]) {
        unsafe {
            let bits = _mm512_castps_si512(x);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
            let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x0040_0000));
            let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
            let upper = _mm512_srli_epi32::<16>(_mm512_mask_mov_epi32(rounded, is_nan, quiet));
            _mm256_storeu_si256(to[..LANES].as_mut_ptr().cast(), _mm512_cvtepi32_epi16(upper));
        }
    }
}

impl Vector for Avx512Bf16 {
    type Element = u16;
    type Word = u32;
    type Floats = __m512;
    type Elements = __m512i;
    const LANES: usize = LANES;
    const PER_WORD: usize = 2;
    const REGISTERS: usize = 32;

    fn is_here() -> bool {
        Avx512::is_here() && is_x86_feature_detected!("avx512bf16")
    }
    fn run(work: impl Work) {
        #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512bf16")]
        fn with_features(work: impl Work) {
            work.run();
        }
        assert!(Self::is_here(), "AVX-512 BF16 is missing");
        // Sound, since the processor has just said that it has them.
        unsafe { with_features(work) }
    }

    float_arithmetic!();

    #[inline(always)]
    fn multiply_add(to: __m512, word: u32, words: &[u32]) -> __m512 {
        unsafe {
            let many = _mm512_loadu_si512(words[..LANES].as_ptr().cast());
            let one = _mm512_set1_epi32(word.cast_signed());
            _mm512_dpbf16_ps(to, transmute::<__m512i, __m512bh>(one), transmute::<__m512i, __m512bh>(many))
        }
    }
    #[inline(always)]
    fn elements(from: &[u16]) -> __m512i {
        unsafe { _mm512_loadu_si512(from[..2 * LANES].as_ptr().cast()) }
    }
    #[inline(always)]
    fn dot(to: __m512, x: __m512i, y: __m512i) -> __m512 {
        unsafe { _mm512_dpbf16_ps(to, transmute::<__m512i, __m512bh>(x), transmute::<__m512i, __m512bh>(y)) }
    }
    ask!();
    #[inline(always)]
    fn word(part: impl Fn(usize) -> u16) -> u32 {
        u32::from(part(0)) | u32::from(part(1)) << 16
    }
    #[inline(always)]
    fn number(x: u16) -> f32 {
        f32::from_bits(u32::from(x) << 16)
    }
    #[inline(always)]
    fn element(x: f32) -> u16 {
        let mut found = [0; LANES];
        Self::narrow(Self::splat(x), &mut found);
        found[0]
    }
    #[inline(always)]
    fn widen(from: &[u16]) -> __m512 {
        Avx512::widen_bf16(from)
    }
    #[inline(always)]
    fn narrow(x: __m512, to: &mut [u16]) {
        unsafe { _mm256_storeu_si256(to[..LANES].as_mut_ptr().cast(), rounded(x)) }
    }
    #[inline(always)]
    fn words_of_row(x: __m512, to: &mut [u32]) {
        unsafe { _mm256_storeu_si256(to[..LANES / 2].as_mut_ptr().cast(), rounded(x)) }
    }
    #[inline(always)]
    fn words_of_rows(x: [__m512; MOST_PER_WORD], to: &mut [u32]) {
        unsafe {
            let low = _mm512_cvtepu16_epi32(rounded(x[0]));
            let high = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(rounded(x[1])));
            _mm512_storeu_si512(to[..LANES].as_mut_ptr().cast(), _mm512_or_si512(low, high));
        }
    }
}

/// bf16 of each lane, to the nearest.
#[inline(always)]
fn rounded(x: __m512) -> __m256i {
    unsafe { transmute(_mm512_cvtneps_pbh(x)) }
}
