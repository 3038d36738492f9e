"""Are the kernels right on this device? Cases against float64, and bits.

A case is plain data, so that it can travel to a process of its own: compiling is what
takes the time, and many processes compile at once. Errors are relative, in the
Frobenius norm; the limits are those of tests/kernels/tolerances.py.
"""

import os
import sys
import traceback
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "kernels"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests/kernels"))

import layer_checks
from processes import in_processes

from tolerances import FACTOR, FLOOR, TOLERANCES, relative_error
from triptych_kernels import (
    attention,
    linear_cross_entropy,
    linear_logprobs,
    linear_statistics,
    reference,
)

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

# Documents of one token, of none, that end inside a tile, and of many tiles.
BOUNDARIES = {"cuda": (0, 1, 1, 2, 131, 700, 1500), "cpu": (0, 1, 1, 2, 35, 70)}
ATTENTION_OPTIONS = {
    "causal": {},
    "full": {"causal": False},
    "window": {"window": 100},
    "softcap": {"softcap": 2.0},
    "window+softcap": {"window": 70, "softcap": 1.5, "scale": 0.1},
}
HEAD_DIMS = (64, 128, 256)
# (tokens, hidden size, vocabulary): nothing whole; whole tiles; a large vocabulary.
LOSS_SHAPES = {
    "cuda": ((1, 64, 2), (333, 100, 1003), (512, 256, 4096), (300, 512, 50257)),
    "cpu": ((1, 64, 2), (70, 33, 129)),
}
NO_GRADIENT = ("decode", "adamw")
LOSS_OPTIONS = {
    "plain": {},
    "smoothing+z+cap": {"label_smoothing": 0.1, "z_loss": 1e-3, "softcap": 5.0},
}


def cases(device):
    """Every check as (name, arguments)."""
    small = device == "cpu"
    for dtype in DTYPES:
        for head_dim in (64,) if small else HEAD_DIMS:
            for option in ATTENTION_OPTIONS:
                yield "attention", (device, dtype, head_dim, option)
        for shape in LOSS_SHAPES[device]:
            for option in LOSS_OPTIONS:
                yield "loss", (device, dtype, shape, option)
        yield "logprobs", (device, dtype)
        yield "statistics", (device, dtype)
        for name in layer_checks.NAMES:
            yield "layer", (device, dtype, name)
        yield "attention bits", (device, dtype, 64)
        yield "loss bits", (device, dtype)
    yield "compiled graph", (device,)


def check_all(device, jobs):
    """Rows (check, case, errors, passed), the worst last."""
    listed = list(cases(device))
    if jobs == 1:
        rows = [check_one(*case) for case in listed]
    else:
        rows = in_processes(check_one, listed, jobs, died)
    return sorted(rows, key=lambda row: not row["passed"])


def died(name, arguments):
    """The row of a case whose process ended."""
    row = {"check": name, "case": " ".join(map(str, arguments[1:]))}
    return {**row, "passed": False, "error": "the process of this case died"}


def check_one(name, arguments):
    """One row; an exception is a failure with its last lines."""
    if arguments[0] == "cpu":
        assert os.environ.get("TRITON_INTERPRET") == "1"
        __import__("bf16_interpreter").install()
    torch.manual_seed(0)
    row = {"check": name, "case": " ".join(map(str, arguments[1:]))}
    try:
        with torch.device(arguments[0]):
            return {**row, **CHECKS[name](*arguments)}
    except Exception:
        return {**row, "passed": False, "error": traceback.format_exc()[-1500:]}


def gradients_of(function, leaves, upstream):
    """Output and gradients of a function of `leaves`."""
    leaves = [x.detach().clone().requires_grad_() for x in leaves]
    out = function(*leaves)
    out.backward(torch.ones_like(out) if upstream is None else upstream.to(out.dtype))
    return [out.detach(), *(x.grad for x in leaves)]


def compared(names, found, wide, own, dtype):
    """Errors by name, torch's own beside them, and whether all are within limits."""
    errors = [relative_error(f, w) for f, w in zip(found, wide, strict=True)]
    owns = [relative_error(o, w) for o, w in zip(own, wide, strict=True)]
    limits = [limit(own, dtype) for own in owns]
    # A NaN is no error below a limit.
    passed = all(e <= most for e, most in zip(errors, limits, strict=True))
    return {
        "passed": passed,
        "errors": dict(zip(names, errors, strict=True)),
        "torch_errors": dict(zip(names, owns, strict=True)),
    }


def limit(own, dtype):
    """The tests' limit, which gives way to torch's own error where that is larger."""
    return min(max(TOLERANCES[dtype], own), max(FACTOR * own, FLOOR[dtype]))


def packed_inputs(device, dtype, head_dim):
    boundaries = BOUNDARIES[device]
    tokens = boundaries[-1]
    q, k, v, upstream = (
        torch.randn(tokens, heads, head_dim).to(DTYPES[dtype]) for heads in (4, 2, 2, 4)
    )
    return (q, k, v), upstream, torch.tensor(boundaries, dtype=torch.int32)


def check_attention(device, dtype, head_dim, option):
    leaves, upstream, cu = packed_inputs(device, dtype, head_dim)
    options = {"cu_seqlens": cu, **ATTENTION_OPTIONS[option]}
    found = gradients_of(lambda *x: attention(*x, **options), leaves, upstream)
    doubles = [x.double() for x in leaves]
    twin = lambda *x: reference.attention(*x, **options)  # noqa: E731
    wide = gradients_of(twin, doubles, upstream)
    own = gradients_of(lambda *x: own_attention(*x, **options), leaves, upstream)
    return compared(("o", "dq", "dk", "dv"), found, wide, own, DTYPES[dtype])


def own_attention(
    q, k, v, *, cu_seqlens, causal=True, window=None, softcap=None, scale=None
):
    """Attention as one writes it in torch, in the inputs' dtype."""
    seen = reference._seen(q.shape[0], cu_seqlens, causal, window, q.device)
    repeats = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(repeats, 1).transpose(0, 1) for x in (k, v))
    scores = q.transpose(0, 1) @ k.mT * (scale or q.shape[2] ** -0.5)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    p = scores.masked_fill(~seen, float("-inf")).softmax(-1)
    return (p @ v).transpose(0, 1)


def loss_inputs(dtype, shape):
    tokens, hidden_size, vocab_size = shape
    hidden = torch.randn(tokens, hidden_size).to(DTYPES[dtype])
    weight = (torch.randn(vocab_size, hidden_size) * hidden_size**-0.5).to(hidden.dtype)
    targets = torch.randint(0, vocab_size, (tokens,))
    targets[3:7] = -100
    return (hidden, weight), targets


def check_loss(device, dtype, shape, option):
    leaves, targets = loss_inputs(dtype, shape)
    functions = (linear_cross_entropy, reference.linear_cross_entropy, own_loss)
    results = three_gradients(functions, leaves, None, targets, LOSS_OPTIONS[option])
    return compared(("loss", "dH", "dW"), *results, DTYPES[dtype])


def own_logits(hidden, weight, softcap):
    """Made in the inputs' dtype; fp32."""
    logits = hidden @ weight.T
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    return logits.float()


def own_loss(hidden, weight, targets, *, z_loss=0.0, softcap=None, label_smoothing=0.0):
    """Cross-entropy as one writes it in torch, logits in the inputs' dtype."""
    logits, counted = own_logits(hidden, weight, softcap), targets != -100
    loss = torch.nn.functional.cross_entropy(
        logits, targets, label_smoothing=label_smoothing
    )
    square = logits.logsumexp(-1).square() * counted
    return loss + z_loss * square.sum() / counted.sum()


def check_logprobs(device, dtype):
    leaves, targets = loss_inputs(dtype, (70, 40, 513))
    options = {"temperature": 0.7, "softcap": 4.0}
    functions = (linear_logprobs, reference.linear_logprobs, own_logprobs)
    results = three_gradients(functions, leaves, torch.randn(70), targets, options)
    return compared(("logp", "dH", "dW"), *results, DTYPES[dtype])


def own_logprobs(hidden, weight, targets, *, temperature, softcap):
    logits = own_logits(hidden, weight, softcap) / temperature
    return -torch.nn.functional.cross_entropy(logits, targets, reduction="none")


def check_statistics(device, dtype):
    """The four numbers a token, and gradients of a weighted sum of them."""
    leaves, targets = loss_inputs(dtype, (70, 40, 513))
    functions = (linear_statistics, reference.linear_statistics, own_statistics)
    stacked = [
        lambda *x, f=f, **more: torch.stack(tuple(f(*x, **more))) for f in functions
    ]
    options = {"softcap": 4.0}
    results = three_gradients(stacked, leaves, torch.randn(4, 70), targets, options)
    return compared(("four", "dH", "dW"), *results, DTYPES[dtype])


def own_statistics(hidden, weight, targets, *, softcap):
    logits = own_logits(hidden, weight, softcap)
    logps, counted = logits.log_softmax(-1), targets != -100
    four = (
        -torch.nn.functional.cross_entropy(logits, targets, reduction="none"),
        logits.logsumexp(-1),
        -(logps.exp() * logps).sum(-1),
        logits.mean(-1),
    )
    return [x * counted for x in four]


def three_gradients(functions, leaves, upstream, targets, options):
    """Outputs and gradients of the kernel, of its twin in float64 and of torch's own."""
    inputs = (leaves, [x.double() for x in leaves], leaves)
    return [
        gradients_of(lambda h, w, f=f: f(h, w, targets, **options), x, upstream)
        for f, x in zip(functions, inputs, strict=True)
    ]


def check_layer(device, dtype, name):
    """Output and, where there are any, gradients; twice the same in every bit."""
    kernel, twin, own, leaves = layer_checks.three(name, device)
    leaves = [x.to(DTYPES[dtype]) for x in leaves]
    differentiable = name.split()[0] not in NO_GRADIENT
    run = gradients_of if differentiable else output_of
    upstream = torch.randn(kernel(*leaves).shape)
    found, again = (run(kernel, leaves, upstream) for _ in range(2))
    wide = run(twin, [x.double() for x in leaves], upstream)
    names = ("out", *(f"d{i}" for i in range(len(leaves))))[: len(found)]
    row = compared(names, found, wide, run(own, leaves, upstream), DTYPES[dtype])
    same = all_equal(found, again)
    return {**row, "passed": row["passed"] and same, "same_twice": same}


def output_of(function, leaves, upstream):
    return [function(*leaves)]


def check_attention_bits(device, dtype, head_dim):
    """Twenty runs the same; the longest document the same alone."""
    leaves, upstream, cu = packed_inputs(device, dtype, head_dim)
    run = lambda: gradients_of(  # noqa: E731
        lambda *x: attention(*x, cu_seqlens=cu), leaves, upstream
    )
    first = run()
    repeats = 20 if device == "cuda" else 1
    same = all(all_equal(first, run()) for _ in range(repeats))
    start, end = BOUNDARIES[device][-2:]
    alone = gradients_of(attention, [x[start:end] for x in leaves], upstream[start:end])
    placed = all_equal([x[start:end] for x in first], alone)
    return {"passed": same and placed, "same_twice": same, "same_alone": placed}


def check_loss_bits(device, dtype):
    """Twenty runs the same; log-probabilities and dH the same in half the batch."""
    shape = (700, 128, 5003) if device == "cuda" else (70, 33, 200)
    (hidden, weight), targets = loss_inputs(dtype, shape)
    half = shape[0] // 2

    def run(rows):
        function = lambda h, w: linear_logprobs(h, w, targets[rows])  # noqa: E731
        return gradients_of(function, (hidden[rows], weight), None)

    first = run(slice(None))
    repeats = 20 if device == "cuda" else 1
    same = all(all_equal(first, run(slice(None))) for _ in range(repeats))
    part = run(slice(0, half))
    alone = dtype == "fp16" or all_equal([x[:half] for x in first[:2]], part[:2])
    return {"passed": same and alone, "same_twice": same, "same_alone": alone}


def check_compiled_graph(device):
    """One graph of a layer's attention and the loss, equal to eager in every bit."""
    backend = "inductor" if device == "cuda" else "aot_eager"
    (q, k, v), upstream, cu = packed_inputs(device, "bf16", 64)
    eager = gradients_of(lambda *x: attention(*x, cu_seqlens=cu), (q, k, v), upstream)
    graph = torch.compile(attention, fullgraph=True, backend=backend)
    found = gradients_of(lambda *x: graph(*x, cu_seqlens=cu), (q, k, v), upstream)
    leaves, targets = loss_inputs("bf16", (70, 40, 513))
    loss = gradients_of(lambda h, w: linear_cross_entropy(h, w, targets), leaves, None)
    graph = torch.compile(linear_cross_entropy, fullgraph=True, backend=backend)
    compiled = gradients_of(lambda h, w: graph(h, w, targets), leaves, None)
    close = [relative_error(c, e.double()) for c, e in zip(compiled, loss, strict=True)]
    # Inductor may sum the (N,) losses in another order.
    passed = all_equal(eager, found) and max(close) <= 1e-6
    return {"passed": passed, "errors": {"loss": max(close)}}


def all_equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


CHECKS = {
    "attention": check_attention,
    "loss": check_loss,
    "logprobs": check_logprobs,
    "layer": check_layer,
    "statistics": check_statistics,
    "attention bits": check_attention_bits,
    "loss bits": check_loss_bits,
    "compiled graph": check_compiled_graph,
}
