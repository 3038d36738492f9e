//! Types of elements, and the vectors that compute with each here.

use crate::vector::{Vector, Work};
#[cfg(target_arch = "x86_64")]
use crate::vector::{Avx512, Avx512Bf16};

/// A type that tensors hold and kernels compute with.
pub trait Element: Copy + Default + Send + Sync + 'static {
    /// Whether this processor has vectors for it.
    fn has_vectors() -> bool;

    /// Runs `kernel` over them.
    ///
    /// # Panics
    /// There are none.
    fn with_vectors(kernel: impl Kernel<Self>);
}

/// A computation before it is known what it is compiled for.
pub trait Kernel<E> {
    /// Does it with the vectors `V`; inlined whole.
    fn compute<V: Vector<Element = E>>(self);
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

#[cfg(target_arch = "x86_64")]
impl Element for f32 {
    fn has_vectors() -> bool {
        Avx512::is_here()
    }
    fn with_vectors(kernel: impl Kernel<Self>) {
        run::<Avx512>(kernel);
    }
}

#[cfg(target_arch = "x86_64")]
impl Element for u16 {
    fn has_vectors() -> bool {
        Avx512Bf16::is_here()
    }
    fn with_vectors(kernel: impl Kernel<Self>) {
        run::<Avx512Bf16>(kernel);
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod elsewhere {
    use super::{Element, Kernel};

    /// No vectors of this processor are written for.
    macro_rules! without_vectors {
        ($element:ty) => {
            impl Element for $element {
                fn has_vectors() -> bool {
                    false
                }
                fn with_vectors(_: impl Kernel<Self>) {
                    unreachable!("a kernel without vectors")
                }
            }
        };
    }
    without_vectors!(f32);
    without_vectors!(u16);
}
