"""Layers by torch.compile: two pieces around attention, compiled once for all layers.

So compiling takes the time of one layer, whatever the depth. Attention itself is left out:
it looks at where documents end, which is data. Importing this module's work, `torch._dynamo`
and inductor, takes seconds and some 150 MB, so it happens when it is asked for.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from triptych.model.attention import Tables
from triptych.model.recompute import LayerCall
from triptych.model.transformer import Layer, Transformer

# Kernels are chosen without timing them, so that the next process chooses the same: a run
# that goes on has the same bits.
OPTIONS: dict[str, Any] = {"deterministic": True}


def compiled_layer() -> LayerCall:
    """Calls a layer like the layer itself, in compiled pieces.

    The number of tokens is dynamic from the first call on, so that rows of another length
    or documents that end elsewhere compile nothing anew.
    """
    enter = torch.compile(Layer.enter, fullgraph=True, options=OPTIONS)
    leave = torch.compile(Layer.leave, fullgraph=True, options=OPTIONS)
    vary = torch._dynamo.maybe_mark_dynamic

    def call(
        layer: Layer, x: Tensor, tables: Tables | None, cu_seqlens: Tensor
    ) -> Tensor:
        for tensor in (x, *(tables or ())):
            vary(tensor, 0)
        mixed = layer.self_attn.attend(*enter(layer, x, tables), cu_seqlens)
        vary(mixed, 0)
        output: Tensor = leave(layer, x, mixed)
        return output

    return call


def obstacle(model: Transformer) -> str:
    """Why `model` cannot be compiled here, as the end of a sentence; empty if nothing."""
    config = model.config
    if any(map(config.is_sparse, range(config.num_hidden_layers))):
        return "the tokens that an expert gets are data"
    device = model.output_weight.device.type
    return "" if device != "cpu" else cpp_obstacle()


def cpp_obstacle() -> str:
    """On a CPU inductor writes C++, and needs what compiles it."""
    usual = "clang++" if sys.platform == "darwin" else "g++"
    name = os.environ.get("CXX") or usual
    return "" if shutil.which(name) else f"there is no C++ compiler (`{name}`)"


@contextlib.contextmanager
def compiled_in_process() -> Iterator[None]:
    """Within it inductor starts no workers, which would stay with their memory."""
    from torch._inductor import config

    with config.patch(compile_threads=1):
        yield
