"""Inputs of operators, and what they give with its gradients."""

import torch


def numbers(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(dtype)


def results(function, *inputs):
    """What it gives, and gradients for an upstream that is the same each time."""
    inputs = [x.detach().requires_grad_() for x in inputs]
    output = function(*inputs)
    upstream = numbers(*output.shape, seed=9).to(output.dtype)
    return output.detach(), *torch.autograd.grad(output, inputs, upstream)
