"""Triton kernels of triptych, and their plain-PyTorch twins in `reference`.

The functions here always run a Triton kernel: on a GPU, or on CPU tensors
when ``TRITON_INTERPRET=1`` was set before the first of them was asked for.
Importing the package imports neither torch nor triton; asking for a function does.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triptych_kernels.chunked_loss import summed_cross_entropy
    from triptych_kernels.flash_attention import attention
    from triptych_kernels.gated import geglu, relu2, swiglu
    from triptych_kernels.linear_loss import (
        linear_cross_entropy,
        linear_logprobs,
        linear_statistics,
    )
    from triptych_kernels.normalization import rms_norm
    from triptych_kernels.optimizer import adamw
    from triptych_kernels.orthogonal import orthogonalize
    from triptych_kernels.paged_attention import decode_attention
    from triptych_kernels.rotary import rope

__all__ = [
    "adamw",
    "attention",
    "decode_attention",
    "geglu",
    "linear_cross_entropy",
    "linear_logprobs",
    "linear_statistics",
    "orthogonalize",
    "relu2",
    "rms_norm",
    "rope",
    "summed_cross_entropy",
    "swiglu",
]

# No module bears a function's name: importing a submodule sets the package's
# attribute of that name to the module, and would hide the function.
_MODULE_OF = {
    "adamw": "optimizer",
    "attention": "flash_attention",
    "decode_attention": "paged_attention",
    "geglu": "gated",
    "linear_cross_entropy": "linear_loss",
    "linear_logprobs": "linear_loss",
    "linear_statistics": "linear_loss",
    "orthogonalize": "orthogonal",
    "relu2": "gated",
    "rms_norm": "normalization",
    "rope": "rotary",
    "summed_cross_entropy": "chunked_loss",
    "swiglu": "gated",
}


def __getattr__(name: str) -> Any:
    """Imports the kernel's module when its function is first asked for."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
    function = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = function
    return function


def __dir__() -> list[str]:
    return sorted(__all__)
