//! What instruction sets have in common, by the names of their intrinsics.
//!
//! Each intrinsic is called from a function that is inlined into `Vector::run`, as `avx512` says.

/// Arithmetic of float32 in vectors of a type.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! arithmetic {
    ($floats:ty: $set:ident $load:ident $store:ident $add:ident $sub:ident $mul:ident $div:ident $max:ident
        $fma:ident) => {
        #[inline(always)]
        fn splat(x: f32) -> $floats {
            unsafe { $set(x) }
        }
        #[inline(always)]
        fn load(from: &[f32]) -> $floats {
            unsafe { $load(from[..LANES].as_ptr()) }
        }
        #[inline(always)]
        fn store(x: $floats, to: &mut [f32]) {
            unsafe { $store(to[..LANES].as_mut_ptr(), x) }
        }
        #[inline(always)]
        fn add(x: $floats, y: $floats) -> $floats {
            unsafe { $add(x, y) }
        }
        #[inline(always)]
        fn sub(x: $floats, y: $floats) -> $floats {
            unsafe { $sub(x, y) }
        }
        #[inline(always)]
        fn mul(x: $floats, y: $floats) -> $floats {
            unsafe { $mul(x, y) }
        }
        #[inline(always)]
        fn div(x: $floats, y: $floats) -> $floats {
            unsafe { $div(x, y) }
        }
        #[inline(always)]
        fn max(x: $floats, y: $floats) -> $floats {
            unsafe { $max(x, y) }
        }
        #[inline(always)]
        fn fma(x: $floats, y: $floats, z: $floats) -> $floats {
            unsafe { $fma(x, y, z) }
        }
        #[inline(always)]
        fn exp2(x: $floats) -> $floats {
            exp2(x)
        }
    };
}

/// Elements of float32: a word is one, and they are multiplied as they are.
macro_rules! float32_elements {
    ($floats:ty) => {
        #[inline(always)]
        fn multiply_add(to: $floats, word: f32, words: &[f32]) -> $floats {
            Self::fma(Self::splat(word), Self::load(words), to)
        }
        #[inline(always)]
        fn elements(from: &[f32]) -> $floats {
            Self::load(from)
        }
        #[inline(always)]
        fn dot(to: $floats, x: $floats, y: $floats) -> $floats {
            Self::fma(x, y, to)
        }
        #[inline(always)]
        fn word(part: impl Fn(usize) -> f32) -> f32 {
            part(0)
        }
        #[inline(always)]
        fn number(x: f32) -> f32 {
            x
        }
        #[inline(always)]
        fn element(x: f32) -> f32 {
            x
        }
        #[inline(always)]
        fn widen(from: &[f32]) -> $floats {
            Self::load(from)
        }
        #[inline(always)]
        fn narrow(x: $floats, to: &mut [f32]) {
            Self::store(x, to);
        }
        #[inline(always)]
        fn words_of_row(x: $floats, to: &mut [f32]) {
            Self::store(x, to);
        }
        #[inline(always)]
        fn words_of_rows(x: [$floats; MOST_PER_WORD], to: &mut [f32]) {
            Self::store(x[0], to);
        }
    };
}

/// Asks the second nearest cache for what is read later.
#[cfg(target_arch = "x86_64")]
macro_rules! ask {
    () => {
        #[inline(always)]
        fn ask<T>(from: &[T]) {
            // Sound: the instruction reads nothing, wherever it points.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(from.as_ptr().cast()) }
        }
    };
}
