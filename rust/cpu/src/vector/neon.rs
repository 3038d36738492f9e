//! NEON, for float32: what every processor of ARM's 64 bits has.
//!
//! Sound since no aarch64 processor lacks it; loads and stores go through slices whose length is checked.
#![allow(unsafe_code)]

use std::arch::aarch64::{
    float32x4_t, vaddq_f32, vaddq_s32, vaddq_u32, vaddvq_f32, vandq_u32, vbslq_f32, vbslq_u32, vceqq_f32,
    vcgtq_f32, vcvtq_s32_f32, vdivq_f32, vdupq_n_f32, vdupq_n_s32, vdupq_n_u32, vfmaq_f32, vld1_u16,
    vld1q_f32, vmaxq_f32, vmaxvq_f32, vminq_f32, vmulq_f32, vorrq_u32, vreinterpretq_f32_s32,
    vreinterpretq_f32_u32, vreinterpretq_u32_f32, vrndnq_f32, vshll_n_u16, vshlq_n_s32, vshrn_n_u32,
    vshrq_n_u32, vst1_u16, vst1q_f32, vsubq_f32,
};
use std::arch::asm;

use super::widened::FromBf16;
use super::{Vector, Work, LEAST_NORMAL_EXPONENT, MOST_EXPONENT, MOST_PER_WORD, POWERS};

const LANES: usize = 4;

/// NEON over float32.
#[derive(Clone, Copy)]
pub struct Neon;

#[inline(always)]
fn exp2(x: float32x4_t) -> float32x4_t {
    unsafe {
        // Both keep NaN.
        let x = vmaxq_f32(vdupq_n_f32(LEAST_NORMAL_EXPONENT), x);
        let x = vminq_f32(vdupq_n_f32(MOST_EXPONENT), x);
        let whole = vrndnq_f32(x);
        let rest = vsubq_f32(x, whole);
        let mut power = vdupq_n_f32(POWERS[6]);
        for coefficient in POWERS[..6].iter().rev() {
            power = vfmaq_f32(vdupq_n_f32(*coefficient), power, rest);
        }
        let exponent = vaddq_s32(vcvtq_s32_f32(whole), vdupq_n_s32(127));
        vmulq_f32(power, vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent)))
    }
}

/// The second where one is not a number, as other processors have it.
#[inline(always)]
unsafe fn max(x: float32x4_t, y: float32x4_t) -> float32x4_t {
    unsafe { vbslq_f32(vcgtq_f32(x, y), x, y) }
}

#[inline(always)]
unsafe fn fma(x: float32x4_t, y: float32x4_t, z: float32x4_t) -> float32x4_t {
    unsafe { vfmaq_f32(z, x, y) }
}

impl Vector for Neon {
    type Element = f32;
    type Word = f32;
    type Floats = float32x4_t;
    type Elements = float32x4_t;
    const LANES: usize = LANES;
    const PER_WORD: usize = 1;
    const REGISTERS: usize = 32;

    fn is_here() -> bool {
        true
    }
    fn run(work: impl Work) {
        work.run();
    }

    arithmetic!(float32x4_t: vdupq_n_f32 vld1q_f32 vst1q_f32 vaddq_f32 vsubq_f32 vmulq_f32 vdivq_f32 max fma);
    float32_elements!(float32x4_t);

    #[inline(always)]
    fn ask<T>(from: &[T]) {
        // Sound: the instruction reads nothing, wherever it points.
        unsafe {
            asm!("prfm pldl2keep, [{}]", in(reg) from.as_ptr(), options(nostack, readonly, preserves_flags));
        }
    }
    #[inline(always)]
    fn sum(x: float32x4_t) -> f32 {
        unsafe { vaddvq_f32(x) }
    }
    #[inline(always)]
    fn greatest(x: float32x4_t) -> f32 {
        unsafe { vmaxvq_f32(x) }
    }
}

impl FromBf16 for Neon {
    #[inline(always)]
    fn widen_bf16(from: &[u16]) -> float32x4_t {
        unsafe { vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from[..LANES].as_ptr()))) }
    }
    #[inline(always)]
    fn narrow_bf16(x: float32x4_t, to: &mut [u16]) {
        unsafe {
            let bits = vreinterpretq_u32_f32(x);
            let odd = vandq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(1));
            let rounded = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7FFF)));
            let quiet = vorrq_u32(bits, vdupq_n_u32(0x0040_0000));
            let is_number = vceqq_f32(x, x);
            vst1_u16(to[..LANES].as_mut_ptr(), vshrn_n_u32::<16>(vbslq_u32(is_number, rounded, quiet)));
        }
    }
}
