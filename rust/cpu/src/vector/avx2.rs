//! AVX2 with fused multiply-add, for float32: what x86 processors without AVX-512 have.
//!
//! Sound for the same reasons as `avx512`.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m256, _mm256_add_epi32, _mm256_add_ps, _mm256_and_si256, _mm256_blendv_epi8, _mm256_castps256_ps128,
    _mm256_castps_si256, _mm256_castsi256_ps, _mm256_castsi256_si128, _mm256_cmp_ps, _mm256_cvtepu16_epi32,
    _mm256_cvtps_epi32, _mm256_div_ps, _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_max_ps, _mm256_min_ps, _mm256_mul_ps, _mm256_or_si256, _mm256_packus_epi32,
    _mm256_permute4x64_epi64, _mm256_round_ps, _mm256_set1_epi32, _mm256_set1_ps, _mm256_slli_epi32,
    _mm256_srli_epi32, _mm256_storeu_ps, _mm256_sub_ps, _mm_add_ps, _mm_cvtss_f32, _mm_loadu_si128,
    _mm_max_ps, _mm_movehl_ps, _mm_prefetch, _mm_shuffle_ps, _mm_storeu_si128, _CMP_UNORD_Q,
    _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT, _MM_HINT_T1,
};

use super::widened::FromBf16;
use super::{kept_to, Vector, Work, LEAST_NORMAL_EXPONENT, MOST_EXPONENT, MOST_PER_WORD, POWERS};

const LANES: usize = 8;

/// AVX2 over float32.
#[derive(Clone, Copy)]
pub struct Avx2;

#[inline(always)]
fn exp2(x: __m256) -> __m256 {
    unsafe {
        // In this order NaN stays NaN.
        let x = _mm256_max_ps(_mm256_set1_ps(LEAST_NORMAL_EXPONENT), x);
        let x = _mm256_min_ps(_mm256_set1_ps(MOST_EXPONENT), x);
        let whole = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x);
        let rest = _mm256_sub_ps(x, whole);
        let mut power = _mm256_set1_ps(POWERS[6]);
        for coefficient in POWERS[..6].iter().rev() {
            power = _mm256_fmadd_ps(power, rest, _mm256_set1_ps(*coefficient));
        }
        let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(whole), _mm256_set1_epi32(127));
        _mm256_mul_ps(power, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
    }
}

impl Vector for Avx2 {
    type Element = f32;
    type Word = f32;
    type Floats = __m256;
    type Elements = __m256;
    const LANES: usize = LANES;
    const PER_WORD: usize = 1;
    const REGISTERS: usize = 16;

    fn is_here() -> bool {
        !kept_to(&["default"]) && is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
    }
    fn run(work: impl Work) {
        #[target_feature(enable = "avx2,fma")]
        fn with_features(work: impl Work) {
            work.run();
        }
        assert!(Self::is_here(), "AVX2 is missing");
        // Sound, since the processor has just said that it has them.
        unsafe { with_features(work) }
    }

    arithmetic!(__m256: _mm256_set1_ps _mm256_loadu_ps _mm256_storeu_ps _mm256_add_ps _mm256_sub_ps _mm256_mul_ps
        _mm256_div_ps _mm256_max_ps _mm256_fmadd_ps);
    float32_elements!(__m256);
    ask!();

    #[inline(always)]
    fn sum(x: __m256) -> f32 {
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ps(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }
    #[inline(always)]
    fn greatest(x: __m256) -> f32 {
        unsafe {
            let four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ps(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }
}

impl FromBf16 for Avx2 {
    #[inline(always)]
    fn widen_bf16(from: &[u16]) -> __m256 {
        unsafe {
            let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(from[..LANES].as_ptr().cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
        }
    }
    #[inline(always)]
    fn narrow_bf16(x: __m256, to: &mut [u16]) {
        unsafe {
            let bits = _mm256_castps_si256(x);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF)));
            let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
            let is_nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
            let upper = _mm256_srli_epi32::<16>(_mm256_blendv_epi8(rounded, quiet, is_nan));
            // Packed within each half of the vector: the first and the third quarter are what is wanted.
            let packed = _mm256_permute4x64_epi64::<0b1000>(_mm256_packus_epi32(upper, upper));
            _mm_storeu_si128(to[..LANES].as_mut_ptr().cast(), _mm256_castsi256_si128(packed));
        }
    }
}
