"""The operators of triptych.ops by the kernels, and under torch.compile."""

import pytest
import torch

from triptych import ops
from triptych.errors import ConfigError

# NumPy's, of 0 * inf in rows that are then set to 0.
pytestmark = pytest.mark.filterwarnings("ignore:invalid value")
NAMES = ("cpu", "reference", "triton")


def make_tables(x, *shape):
    # The device by name: what is compiled does not see the one the tests are set to.
    positions = torch.arange(6, device=x.device).view(shape)
    return ops.rotary_tables(positions, 8, 100.0)


CALLS = {
    "rms_norm": lambda x, w: ops.rms_norm(x, w, 1e-5),
    "rms_norm of gemma": lambda x, w: ops.rms_norm(x, w, 1e-5, casting="gemma"),
    "add_rms_norm": lambda x, w: sum(ops.add_rms_norm(x, 2 * x, w, 1e-5)),
    "rotate": lambda x, w: ops.rotate(x * w, *make_tables(x, 6)),
    "rotate a batch": lambda x, w: ops.rotate(
        (x * w).view(2, 3, 2, 8), *make_tables(x, 2, 3)
    ),
    "rope": lambda x, w: ops.rope(x * w, x[:, :1], *make_tables(x, 6))[0],
    "linear_statistics": lambda x, w: sum(
        ops.linear_statistics(
            x[:, 0],
            x[:5, 1] * w,
            torch.tensor([0, 1, 2, 3, 4, -100], device=x.device),
        )
    ),
    "swiglu": lambda x, w: ops.swiglu(x, x * w),
    "geglu": lambda x, w: ops.geglu(x, x * w, approximate="tanh"),
    "relu2": lambda x, w: ops.relu2(x * w),
    "attention": lambda x, w: ops.attention(x, x * w, x),
    "attention of a pair": lambda x, w: ops.attention(
        x, x * w, x, pairs=torch.tensor([[2, 4]], device=x.device)
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


@pytest.mark.cpu_only
@pytest.mark.parametrize("name", NAMES)
def test_autocast_gives_attention_its_type_whoever_computes(monkeypatch, name):
    """As torch's own operator: or fp32 products would run without tensor cores, unsaid."""
    monkeypatch.setenv("TRIPTYCH_OPS", name)
    q, k, v = (torch.randn(6, 2, 8, requires_grad=True) for _ in range(3))
    with torch.autocast("cpu", torch.bfloat16):
        found = [ops.attention(*x) for x in ((q, k, v), (q, k.bfloat16(), v))]
    narrow = ops.attention(*(x.bfloat16() for x in (q, k, v)))
    for x in found:
        torch.testing.assert_close(x, narrow, rtol=2e-2, atol=2e-2)
        grads = torch.autograd.grad(x.sum(), (q, k, v))
        assert [grad.dtype for grad in grads] == [torch.float32] * 3


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
    else:
        monkeypatch.setenv("TRIPTYCH_OPS", name)
    torch.compiler.reset()
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    for f, e in zip(run(compiled), run(call), strict=True):
        torch.testing.assert_close(f, e)


DECODINGS = {
    "plain": {},
    "window": {"window": 4},
    "capped": {"softcap": 1.5, "scale": 0.4},
    "sinks": {"sinks": (0.5, -1.0, 2.0, 0.0)},
    "all": {"window": 5, "softcap": 2.0, "sinks": (0.5, -1.0, 2.0, 0.0)},
}


@pytest.mark.parametrize("paged", [False, True], ids=["in order", "paged"])
@pytest.mark.parametrize("options", DECODINGS.values(), ids=DECODINGS)
def test_every_implementation_decodes_the_same(monkeypatch, options, paged):
    lengths = torch.tensor([0, 1, 6, 11])
    q, keys = torch.randn(4, 4, 8), torch.randn(4, 12, 2, 8)
    values = torch.randn(4, 12, 2, 8)
    table = None
    if paged:
        order = torch.randperm(16)
        table = order.argsort().view(4, 4)
        keys, values = (x.view(16, 3, 2, 8)[order] for x in (keys, values))
    options = {
        name: torch.tensor(x) if name == "sinks" else x for name, x in options.items()
    }
    results = []
    for name in NAMES:
        monkeypatch.setenv("TRIPTYCH_OPS", name)
        results.append(
            ops.decode_attention(q, keys, values, lengths, page_table=table, **options)
        )
    assert results[0][0].eq(0.0).all()
    for found in results[1:]:
        assert (found - results[0]).norm() <= 3e-6 * results[0].norm()


@pytest.mark.parametrize("options", DECODINGS.values(), ids=DECODINGS)
@pytest.mark.parametrize("name", NAMES)
def test_what_lies_where_no_token_was_written_is_not_read(monkeypatch, name, options):
    monkeypatch.setenv("TRIPTYCH_OPS", name)
    lengths = torch.tensor([0, 1, 6, 11])
    q, keys = torch.randn(4, 4, 8), torch.randn(16, 3, 2, 8)
    values = torch.randn(16, 3, 2, 8)
    table = torch.randperm(16).view(4, 4)
    options = {
        key: torch.tensor(x) if key == "sinks" else x for key, x in options.items()
    }

    def decoded(garbage):
        unused = torch.arange(4) * 3 >= lengths[:, None]
        slots = torch.arange(12).expand(4, 12) >= lengths[:, None]
        free = torch.zeros(16, 3, dtype=torch.bool)
        free[table] = slots.view(4, 4, 3)
        filled = [x.masked_fill(free[..., None, None], garbage) for x in (keys, values)]
        pages = table.masked_fill(unused, 10**6 if garbage else 0)
        return ops.decode_attention(q, *filled, lengths, page_table=pages, **options)

    assert torch.equal(decoded(float("nan")), decoded(0.0))


@pytest.mark.parametrize("page", [-1, 2])
def test_a_page_that_is_none_is_refused_where_a_token_lies_in_it(page):
    q, keys = torch.randn(1, 4, 8), torch.randn(2, 5, 2, 8)
    table = torch.tensor([[0, page]])
    ops.decode_attention(q, keys, keys, torch.tensor([5]), page_table=table)
    with pytest.raises(ValueError, match=f"page_table: .* below 2, found {page}"):
        ops.decode_attention(q, keys, keys, torch.tensor([6]), page_table=table)


def test_a_decoding_of_wrong_shapes_is_refused():
    q, keys = torch.randn(2, 4, 8), torch.randn(2, 5, 2, 8)
    with pytest.raises(ValueError, match=r"lengths \(B,\), found .*\(3,\)"):
        ops.decode_attention(q, keys, keys, torch.ones(3, dtype=torch.int64))
    odd = torch.randn(2, 5, 3, 8)
    with pytest.raises(ValueError, match=r"divide heads \(4\), found 3"):
        ops.decode_attention(q, odd, odd, torch.ones(2, dtype=torch.int64))


@pytest.mark.parametrize("head_dim", [8, 32], ids=["by torch", "by the engine"])
@pytest.mark.parametrize(
    ("message", "spoilt"),
    [
        ("keys: expected a page for each of 2", {"keys": lambda x: x[:1]}),
        ("keys and values of q's torch.float32", {"keys": lambda x: x.bfloat16()}),
        (r"lengths: .* of torch.float32", {"lengths": lambda x: x.float()}),
        (r"sinks: expected \(4,\), found \(3,\)", {"sinks": lambda _: torch.ones(3)}),
        (
            r"page_table: expected \(2, max_pages\)",
            {"page_table": lambda _: torch.zeros(1, 2, dtype=torch.int32)},
        ),
        ("scale: expected a number", {"scale": lambda _: float("nan")}),
    ],
)
def test_a_decoding_that_cannot_be_says_what_was_expected(head_dim, message, spoilt):
    arguments = {
        "q": torch.randn(2, 4, head_dim),
        "keys": torch.randn(2, 5, 2, head_dim),
        "lengths": torch.ones(2, dtype=torch.int64),
    }
    for name, spoil in spoilt.items():
        arguments[name] = spoil(arguments.get(name))
    arguments["values"] = arguments["keys"]
    with pytest.raises(ValueError, match=message):
        ops.decode_attention(**arguments)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_sum_in_chunks_equals_the_other_implementations(monkeypatch, reduction):
    hidden, weight = torch.randn(20, 8), torch.randn(150, 8)
    targets, weights = torch.randint(0, 150, (20,)), torch.rand(20)
    targets[4:9] = -100
    found = {}
    for name in ("reference", "cpu", "triton", "chunked"):
        monkeypatch.setenv("TRIPTYCH_OPS", f"linear_cross_entropy={name}")
        leaves = [x.clone().requires_grad_() for x in (hidden, weight)]
        loss = ops.linear_cross_entropy(
            *leaves,
            targets,
            weights=weights,
            z_loss=1e-2,
            label_smoothing=0.1,
            softcap=5.0,
            reduction=reduction,
        )
        loss.backward()
        found[name] = loss.detach(), *(x.grad for x in leaves)
    expected = found.pop("reference")
    for results in found.values():
        for f, e in zip(results, expected, strict=True):
            torch.testing.assert_close(f, e)


@pytest.mark.parametrize("name", ["reference", "triton", "chunked"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_mean_loss_is_one_graph_by_any_implementation(monkeypatch, name, dynamic):
    monkeypatch.setenv("TRIPTYCH_OPS", f"linear_cross_entropy={name}")
    hidden, weight = torch.randn(7, 8), torch.randn(20, 8)
    targets = torch.tensor([0, 3, -100, 19, 5, -100, 1], device=hidden.device)
    compiled = torch.compile(
        ops.linear_cross_entropy, fullgraph=True, dynamic=dynamic, backend="aot_eager"
    )
    found = []
    for function in (ops.linear_cross_entropy, compiled):
        leaves = [x.clone().requires_grad_() for x in (hidden, weight)]
        loss = function(*leaves, targets)
        found.append((loss.detach(), *torch.autograd.grad(loss, leaves)))
    for eager, f in zip(*found, strict=True):
        torch.testing.assert_close(f, eager, rtol=1e-6, atol=1e-7)
    with pytest.raises(ValueError, match="at least one that counts, found none"):
        compiled(hidden, weight, torch.full_like(targets, -100))


def test_chunks_cannot_keep_each_tokens_loss_or_filter_gradients(monkeypatch):
    monkeypatch.setenv("TRIPTYCH_OPS", "linear_cross_entropy=chunked")
    given = torch.randn(4, 8), torch.randn(30, 8), torch.arange(4)
    with pytest.raises(ConfigError, match="`chunked`: it keeps no token's loss"):
        ops.linear_cross_entropy(*given, reduction="none")
    with pytest.raises(ConfigError, match="`chunked`: it has no gradient filter"):
        ops.linear_cross_entropy(*given, gradient_filter=0.1)


def test_the_gradient_filter_reaches_the_kernel_and_leaves_the_loss(monkeypatch):
    # Only the target is likely: all other tiles of the gradient may be left out.
    hidden, weight = torch.eye(4, 8), torch.zeros(300, 8)
    weight[:4, :4] = 30.0 * torch.eye(4)
    found = {}
    for name, share in (("cpu", 0.5), ("triton", 0.0), ("triton", 0.5)):
        monkeypatch.setenv("TRIPTYCH_OPS", name)
        x = weight.clone().requires_grad_()
        loss = ops.linear_cross_entropy(
            hidden, x, torch.tensor([0, 1, 2, 0]), gradient_filter=share
        )
        loss.backward()
        found[name, share] = loss.detach(), x.grad
    exact, kernel, filtered = found.values()
    assert torch.allclose(exact[0], filtered[0])
    assert torch.allclose(exact[1], kernel[1], atol=1e-6)
    assert kernel[1][200:].any()
    assert not filtered[1][200:].any()
    with pytest.raises(ValueError, match="probability below 1, found 1"):
        ops.linear_logprobs(hidden, weight, torch.arange(4), gradient_filter=1.0)
    with pytest.raises(ValueError, match="expected 0 with label_smoothing"):
        ops.linear_cross_entropy(
            hidden,
            weight,
            torch.arange(4),
            gradient_filter=0.1,
            label_smoothing=0.1,
        )


@pytest.mark.cpu_only
def test_tensors_without_numbers_give_shapes():
    q, hidden = torch.empty(5, 4, 16, device="meta"), torch.empty(5, 8, device="meta")
    weight, targets = hidden.new_empty(9, 8), hidden.new_empty(5, dtype=torch.int64)
    assert ops.attention(q, q, q).shape == q.shape
    loss = ops.linear_cross_entropy(hidden, weight, targets, reduction="sum")
    assert loss.device.type == "meta"
    assert ops.linear_cross_entropy(hidden, weight, targets).shape == ()
    assert ops.linear(hidden, weight).shape == (5, 9)
    assert ops.linear_logprobs(hidden, weight, targets).shape == (5,)
