"""What a CPU computes of float64 is float64: gradients pass torch's own check."""

from __future__ import annotations

import pytest
import torch

from triptych import ops

pytestmark = pytest.mark.usefixtures("one_thread")


def drawn(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


LOSSES = [
    {},
    {"softcap": 2.0},
    {"z_loss": 0.1, "label_smoothing": 0.1, "reduction": "sum"},
    {"weights": torch.tensor([0.5, 0.0, 2.0, 1.0, 0.1])},
    {"softcap": 3.0, "label_smoothing": 0.2, "reduction": "none"},
]


@pytest.mark.parametrize("options", LOSSES)
def test_losses_of_float64_are_float64(options):
    torch.manual_seed(0)
    hidden, weight = drawn(5, 4), drawn(7, 4)
    targets = torch.tensor([1, 2, -100, 6, 0])

    def loss(hidden, weight):
        return ops.linear_cross_entropy(hidden, weight, targets, **options)

    assert loss(hidden, weight).dtype == torch.float64
    assert torch.autograd.gradcheck(loss, (hidden, weight))


@pytest.mark.parametrize("options", [{}, {"softcap": 3.0, "temperature": 0.7}])
@pytest.mark.parametrize("operator", [ops.linear_logprobs, ops.linear_statistics])
def test_numbers_of_a_token_of_float64_are_float64(operator, options):
    torch.manual_seed(0)
    targets = torch.tensor([1, 2, -100, 6, 0])
    inputs = drawn(5, 4), drawn(7, 4)
    assert torch.autograd.gradcheck(lambda *x: operator(*x, targets, **options), inputs)


@pytest.mark.parametrize("options", [{}, {"softcap": 2.0}, {"window": 2}])
def test_attention_of_float64_is_float64(options):
    torch.manual_seed(0)
    inputs = drawn(6, 4, 8), drawn(6, 2, 8), drawn(6, 2, 8), drawn(4)
    documents = torch.tensor([0, 2, 2, 5, 6], dtype=torch.int32)

    def mixed(q, k, v, sinks):
        sinks = sinks if "softcap" in options else None
        return ops.attention(q, k, v, cu_seqlens=documents, sinks=sinks, **options)

    assert torch.autograd.gradcheck(mixed, inputs)
    q, k, v, sinks = inputs
    newest = ops.decode_attention(
        q[-1:], k[None], v[None], torch.tensor([6]), softcap=2.0, sinks=sinks
    )
    whole = ops.attention(q, k, v, softcap=2.0, sinks=sinks)
    torch.testing.assert_close(newest, whole[-1:], atol=1e-14, rtol=0)


@pytest.mark.parametrize("casting", ["none", "llama", "gemma"])
def test_norms_and_rotations_of_float64_are_float64(casting):
    torch.manual_seed(0)
    x, residual, weight = drawn(3, 8), drawn(3, 8), drawn(8)

    def normed(*inputs):
        return ops.add_rms_norm(*inputs, 1e-6, casting=casting)

    assert torch.autograd.gradcheck(normed, (x, residual, weight))
    tables = ops.rotary_tables(torch.arange(3), 8, 100.0)
    turned = (drawn(3, 2, 8), drawn(3, 1, 8))
    assert torch.autograd.gradcheck(lambda q, k: ops.rope(q, k, *tables), turned)
