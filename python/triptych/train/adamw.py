"""Optimisers of torch that do not load torch's compiler.

`torch.optim.Optimizer` marks its methods as not to be compiled, and `step` as where a graph
breaks, for which it imports torch._dynamo when they are first called: with sympy and triton
3 s and 110 MB of a run that compiles nothing. Here they are as they were before the mark.
"""

from __future__ import annotations

from inspect import unwrap
from typing import Any

import torch


class Unmarked(torch.optim.Optimizer):
    """Methods of `Optimizer` without the mark."""

    add_param_group = unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = unwrap(torch.optim.Optimizer.zero_grad)
    state_dict = unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = unwrap(torch.optim.Optimizer.load_state_dict)


class AdamW(Unmarked, torch.optim.AdamW):
    """AdamW (Loshchilov & Hutter 2019) as torch computes it, bit for bit."""

    step: Any = torch.no_grad()(unwrap(torch.optim.AdamW.step))
