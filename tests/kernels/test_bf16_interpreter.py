"""The interpreter's bfloat16, once repaired, is torch's."""

import pytest
import torch
import triton
import triton.language as tl

from bf16_interpreter import decode, encode

pytestmark = pytest.mark.cpu_only


@triton.jit
def _round_trip(x_ptr, y_ptr, z_ptr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i).to(tl.bfloat16)
    tl.store(y_ptr + i, x)
    tl.store(z_ptr + i, x * x)


def test_conversion_and_product_round_to_nearest_even_as_torch_does():
    x = torch.randn(1024).exp() * torch.tensor([1.0, -1e-38]).repeat(512)
    x[:4] = torch.tensor([float("inf"), float("nan"), 0.0, 3.4e38])
    y, z = torch.empty(2, 1024, dtype=torch.bfloat16)
    _round_trip[(1,)](x, y, z, BLOCK=1024)
    expected = x.bfloat16()
    torch.testing.assert_close(y, expected, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(z, expected * expected, rtol=0, atol=0, equal_nan=True)


def test_every_bfloat16_survives_decoding_and_encoding():
    bits = torch.arange(65536).numpy().astype("uint16")
    back = encode(decode(bits))
    nan = torch.tensor(decode(bits)).isnan().numpy()
    assert (back[~nan] == bits[~nan]).all()
