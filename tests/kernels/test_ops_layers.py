"""The operators of triptych.ops by the kernels, and under torch.compile."""

import pytest
import torch

from triptych import ops

# NumPy's, of 0 * inf in rows that are then set to 0.
pytestmark = pytest.mark.filterwarnings("ignore:invalid value")
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
    "linear_statistics": lambda x, w: sum(
        ops.linear_statistics(
            x[:, 0], x[:5, 1] * w, torch.tensor([0, 1, 2, 3, 4, -100])
        )
    ),
    "swiglu": lambda x, w: ops.swiglu(x, x * w),
    "geglu": lambda x, w: ops.geglu(x, x * w, approximate="tanh"),
    "relu2": lambda x, w: ops.relu2(x * w),
    "attention": lambda x, w: ops.attention(x, x * w, x),
    "attention of a pair": lambda x, w: ops.attention(
        x, x * w, x, pairs=torch.tensor([[2, 4]])
    ),
    "attention with sinks": lambda x, w: ops.attention(x, x * w, x, sinks=w[:2]),
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
            assert (f - e).norm() <= 3e-6 * e.norm()


def test_attention_drops_the_same_weights_by_kernel_and_by_twin(monkeypatch):
    results = []
    for name in ("reference", "triton"):
        monkeypatch.setenv("TRIPTYCH_OPS", name)
        results.append(run(lambda x, w: ops.attention(x, x * w, x, dropout=0.3)))
    for expected, found in zip(*results, strict=True):
        assert (found - expected).norm() <= 3e-6 * expected.norm()
    without = run(lambda x, w: ops.attention(x, x * w, x))
    assert (results[0][0] - without[0]).norm() > 0.1 * without[0].norm()


@pytest.mark.parametrize("name", [None, "triton"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_torch_compile_makes_one_graph(monkeypatch, call, name):
    if name is None:
        monkeypatch.delenv("TRIPTYCH_OPS", raising=False)
        asks = ("attention", "linear")
        if any(call is CALLS[key] for key in CALLS if key.startswith(asks)):
            pytest.skip("documents and ids are read on the CPU, as no graph can")
    else:
        monkeypatch.setenv("TRIPTYCH_OPS", name)
    torch.compiler.reset()
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    for f, e in zip(run(compiled), run(call), strict=True):
        torch.testing.assert_close(f, e)
