"""The operators of triptych.ops by the kernels, and under torch.compile."""

import pytest
import torch

from triptych import ops

NAMES = ("cpu", "reference", "triton")


def make_tables(*shape):
    return ops.rotary_tables(torch.arange(6).view(shape), 8, 100.0)


CALLS = {
    "rms_norm": lambda x, w: ops.rms_norm(x, w, 1e-5),
    "rms_norm of gemma": lambda x, w: ops.rms_norm(x, w, 1e-5, casting="gemma"),
    "add_rms_norm": lambda x, w: sum(ops.add_rms_norm(x, 2 * x, w, 1e-5)),
    "rotate": lambda x, w: ops.rotate(x * w, *make_tables(6)),
    "rotate a batch": lambda x, w: ops.rotate(
        (x * w).view(2, 3, 2, 8), *make_tables(2, 3)
    ),
    "rope": lambda x, w: ops.rope(x * w, x[:, :1], *make_tables(6))[0],
    "swiglu": lambda x, w: ops.swiglu(x, x * w),
    "geglu": lambda x, w: ops.geglu(x, x * w, approximate="tanh"),
    "relu2": lambda x, w: ops.relu2(x * w),
    "attention": lambda x, w: ops.attention(x, x * w, x),
}


def run(call):
    """Output, and gradients of x and the weight."""
    torch.manual_seed(0)
    x, weight = torch.randn(6, 2, 8, requires_grad=True), torch.randn(8)
    weight.requires_grad_()
    out = call(x, weight)
    out.square().sum().backward()
    return out.detach(), x.grad, weight.grad


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_every_implementation_gives_the_same(monkeypatch, call):
    results = []
    for name in NAMES:
        monkeypatch.setenv("TRIPTYCH_OPS", name)
        results.append(run(call))
    for found in results[1:]:
        for f, e in zip(found, results[0], strict=True):
            torch.testing.assert_close(f, e)


@pytest.mark.parametrize("name", [None, "triton"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_torch_compile_makes_one_graph(monkeypatch, call, name):
    if name is None:
        monkeypatch.delenv("TRIPTYCH_OPS", raising=False)
        if call is CALLS["attention"]:
            pytest.skip("documents are read on the CPU, which no graph can do")
    else:
        monkeypatch.setenv("TRIPTYCH_OPS", name)
    torch.compiler.reset()
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    for f, e in zip(run(compiled), run(call), strict=True):
        torch.testing.assert_close(f, e)
