"""Makes Triton's interpreter compute with bfloat16 as a GPU does.

Upstream (3.7 to 3.9) keeps bfloat16 as its uint16 bits and lets NumPy do arithmetic
on the bits: `tl.dot` and `+ - *` give garbage, and fp32 to bf16 truncates. `install`
decodes bfloat16 operands to fp32 before each operation and rounds results to nearest,
ties to even. For tests under TRITON_INTERPRET=1 only; compiled kernels never see it.
"""

import numpy as np
import triton.language as tl
from triton.runtime.interpreter import InterpreterBuilder, ReduceOps, TensorHandle


def decode(bits):
    """fp32 values of uint16 bfloat16 bits."""
    return np.left_shift(bits.astype(np.uint32), 16).view(np.float32)


def encode(values):
    """uint16 bfloat16 bits of fp32 values, nearest even; NaN stays NaN."""
    word = np.ascontiguousarray(values, np.float32).view(np.uint32)
    odd = (word >> 16) & 1
    rounded = ((word.astype(np.uint64) + 0x7FFF + odd) >> 16).astype(np.uint16)
    quiet = ((word >> 16) | 0x40).astype(np.uint16)
    return np.where(np.isnan(values), quiet, rounded).astype(np.uint16)


def is_bf16(handle):
    return (
        isinstance(handle, TensorHandle)
        and handle.dtype.scalar == tl.bfloat16
        and handle.data.dtype == np.uint16
    )


def widen(handle):
    return TensorHandle(decode(handle.data), tl.float32) if is_bf16(handle) else handle


def narrow(data):
    return TensorHandle(encode(data), tl.bfloat16)


def elementwise(original):
    """Wraps `op(self, *handles, numpy_function)`."""

    def wrapped(self, *args):
        *handles, function = args
        if function is np.where or not any(map(is_bf16, handles)):
            return original(self, *args)
        out = function(*(widen(h).data for h in handles))
        return TensorHandle(out, tl.int1) if out.dtype == np.bool_ else narrow(out)

    return wrapped


def cast(original):
    def wrapped(self, source, target):
        if target.scalar == source.dtype.scalar:
            return source
        if target.scalar == tl.bfloat16:
            return narrow(widen(source).data.astype(np.float32))
        wide = widen(source)
        if wide is not source and target.scalar == tl.float32:
            return wide
        return original(self, wide, target)

    return wrapped


def convert(original):
    """`create_fp_to_fp` takes a rounding mode too, which is nearest even here."""

    def wrapped(self, source, target, rounding):
        if tl.bfloat16 in (source.dtype.scalar, target.scalar):
            return self.cast_impl(source, target)
        return original(self, source, target, rounding)

    return wrapped


def product(original):
    def wrapped(self, a, b, accumulator, *rest):
        return original(self, widen(a), widen(b), accumulator, *rest)

    return wrapped


def refuse_reduction(original):
    """No kernel of ours reduces bfloat16; garbage would be worse than an error."""

    def wrapped(self, inputs):
        if any(is_bf16(x.handle) for x in inputs):
            raise NotImplementedError("reduce in fp32: the interpreter's bf16 is bits")
        return original(self, inputs)

    return wrapped


def install():
    """Patches the interpreter, once."""
    builder = InterpreterBuilder
    if getattr(builder, "bf16_installed", False):
        return
    builder.bf16_installed = True
    for name in ("unary_op", "binary_op", "ternary_op"):
        setattr(builder, name, elementwise(getattr(builder, name)))
    builder.cast_impl = cast(builder.cast_impl)
    builder.create_fp_to_fp = convert(builder.create_fp_to_fp)
    builder.create_dot = product(builder.create_dot)
    ReduceOps.apply_impl = refuse_reduction(ReduceOps.apply_impl)
