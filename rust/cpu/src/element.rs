//! Types of elements, and the vectors that compute with each here.

#[cfg(target_arch = "aarch64")]
use crate::vector::Neon;
#[cfg(target_arch = "x86_64")]
use crate::vector::{Avx2, Avx512, Avx512Bf16};
use crate::vector::{Scalar, Vector, Widened, Work};

/// A type that tensors hold and kernels compute with.
pub trait Element: Copy + Default + Send + Sync + 'static {
    /// Runs `kernel` over the widest vectors that this processor has, or one number at a time.
    fn with_vectors(kernel: impl Kernel<Self>);
}

/// A computation before it is known what it is compiled for.
pub trait Kernel<E> {
    /// Does it with the vectors `V`; inlined whole.
    fn compute<V: Vector<Element = E>>(self);
}

/// What a kernel over bf16 reads and writes: that, or float32.
pub trait Number: Copy + Send + Sync + 'static {
    /// Reads as many as there are lanes.
    fn read<V: Vector<Element = u16>>(from: &[Self]) -> V::Floats;
    /// Writes as many.
    fn write<V: Vector<Element = u16>>(x: V::Floats, to: &mut [Self]);
}

impl Number for f32 {
    #[inline(always)]
    fn read<V: Vector<Element = u16>>(from: &[Self]) -> V::Floats {
        V::load(from)
    }
    #[inline(always)]
    fn write<V: Vector<Element = u16>>(x: V::Floats, to: &mut [Self]) {
        V::store(x, to);
    }
}

impl Number for u16 {
    #[inline(always)]
    fn read<V: Vector<Element = u16>>(from: &[Self]) -> V::Floats {
        V::widen(from)
    }
    #[inline(always)]
    fn write<V: Vector<Element = u16>>(x: V::Floats, to: &mut [Self]) {
        V::narrow(x, to);
    }
}

/// A kernel over given vectors.
struct Compiled<V, K>(std::marker::PhantomData<V>, K);

impl<V: Vector, K: Kernel<V::Element>> Work for Compiled<V, K> {
    #[inline(always)]
    fn run(self) {
        self.1.compute::<V>();
    }
}

/// Runs `kernel` with the instructions of `V`.
pub(crate) fn run<V: Vector>(kernel: impl Kernel<V::Element>) {
    V::run(Compiled(std::marker::PhantomData::<V>, kernel));
}

/// Whether this processor has vectors, which make kernels fast.
pub fn has_vectors() -> bool {
    #[cfg(target_arch = "x86_64")]
    return Avx512::is_here() || Avx2::is_here();
    #[cfg(not(target_arch = "x86_64"))]
    cfg!(target_arch = "aarch64")
}

/// Returns having run `kernel` with the first of some vectors that this processor has.
macro_rules! return_by_first {
    ($kernel:ident: $($vectors:ty),*) => {
        $(
            if <$vectors>::is_here() {
                return run::<$vectors>($kernel);
            }
        )*
    };
}

impl Element for f32 {
    fn with_vectors(kernel: impl Kernel<Self>) {
        #[cfg(target_arch = "x86_64")]
        return_by_first!(kernel: Avx512, Avx2);
        #[cfg(target_arch = "aarch64")]
        return_by_first!(kernel: Neon);
        run::<Scalar>(kernel);
    }
}

impl Element for u16 {
    fn with_vectors(kernel: impl Kernel<Self>) {
        #[cfg(target_arch = "x86_64")]
        return_by_first!(kernel: Avx512Bf16, Widened<Avx512>, Widened<Avx2>);
        #[cfg(target_arch = "aarch64")]
        return_by_first!(kernel: Widened<Neon>);
        run::<Widened<Scalar>>(kernel);
    }
}
