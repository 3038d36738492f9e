"""Are the small kernels right on this device? Cases against float64, as in `checking`.

Each case is a function of leaves, its twin on float64, and the same as one writes it in
torch in the inputs' dtype.
"""

import torch
import torch.nn.functional as F

from triptych_kernels import (
    adamw,
    attention,
    decode_attention,
    geglu,
    reference,
    relu2,
    rms_norm,
    rope,
    swiglu,
)

NAMES = (
    "norm llama", "norm gemma", "norm none", "norm residual", "rope halves",
    "rope interleaved", "swiglu", "geglu", "geglu tanh", "relu2", "decode", "decode all",
    "adamw", "sinks", "pairs", "dropout",
)  # fmt: skip


def three(name, device):
    """(kernel, twin, torch's own), each of leaves, and the leaves in fp32."""
    small = device == "cpu"
    kind, _, feature = name.partition(" ")
    return CASES[kind](feature, small)


def norm(feature, small):
    rows, width = (9, 37) if small else (1000, 2048)
    leaves = [torch.randn(rows, width), torch.randn(width)]
    if feature == "residual":
        leaves.append(torch.randn(rows, width))
        wrap = lambda f: lambda x, w, r: sum(f(x, w, 1e-5, residual=r))  # noqa: E731
        own = lambda x, w, r: F.rms_norm(x + r, w.shape, w, 1e-5) + (x + r)  # noqa: E731
        return wrap(rms_norm), wrap(reference.rms_norm), own, leaves
    kernel, twin = (
        lambda x, w, f=f: f(x, w, 1e-5, casting=feature)
        for f in (rms_norm, reference.rms_norm)
    )

    def own(x, w):
        return F.rms_norm(x, w.shape, None, 1e-5) * (1 + w if feature == "gemma" else w)

    return kernel, twin, own, leaves


def turned(feature, small):
    tokens, heads, head_dim = (9, 3, 12) if small else (700, 16, 128)
    leaves = [torch.randn(tokens, n, head_dim) for n in (heads, 1)]
    angles = torch.rand(tokens, head_dim // 2) * 6.0
    options = {
        "tables": (angles.cos(), angles.sin()),
        "interleaved": feature == "interleaved",
    }
    kernel, twin = (
        lambda q, k, f=f: torch.cat(f(q, k, **options), 1)
        for f in (rope, reference.rope)
    )

    def own(q, k):
        cos, sin = (x.to(q.dtype)[:, None] for x in options["tables"])
        both = (reference._turned(x, cos, sin, options["interleaved"]) for x in (q, k))
        return torch.cat(tuple(both), 1)

    return kernel, twin, own, leaves


def gated(kernel, twin, own):
    def case(feature, small):
        shape = (9, 70) if small else (500, 1400)
        more = {"approximate": "tanh"} if feature else {}
        functions = [lambda g, u, f=f: f(g, u, **more) for f in (kernel, twin)]
        plain = lambda g, u: own(g, **more) * u  # noqa: E731
        return *functions, plain, [torch.randn(shape) * 2, torch.randn(shape)]

    return case


def decode(feature, small):
    page, lengths = (6, (0, 1, 17, 40)) if small else (16, (0, 1, 300, 4097, 2048))
    most = -(-max(lengths) // page)
    shape = (len(lengths) * most, page, 2, 64)
    leaves = [torch.randn(len(lengths), 8, 64), torch.randn(shape), torch.randn(shape)]
    table = torch.randperm(shape[0]).view(len(lengths), most)
    options = {"page_table": table}
    if feature == "all":
        options |= {"window": 100, "softcap": 3.0, "sinks": torch.linspace(-1, 2, 8)}
    lengths = torch.tensor(lengths)
    kernel, twin = (
        lambda *x, f=f: f(*x, lengths, **options)
        for f in (decode_attention, reference.decode_attention)
    )
    return kernel, twin, twin, leaves


def step(feature, small):
    size = 100 if small else 1_000_003
    leaves = [torch.randn(size), torch.randn(size)]
    averages = torch.randn(size), torch.rand(size)

    def stepping(function):
        def stepped(param, grad):
            states = [x.to(param.dtype, copy=True) for x in averages]
            param = param.detach().clone()
            function(param, grad.detach(), *states, step=3, lr=0.01)
            return torch.cat((param, *states))

        return stepped

    return stepping(adamw), stepping(reference.adamw), stepping(reference.adamw), leaves


def packed(feature_options):
    def case(feature, small):
        tokens = 90 if small else 1500
        leaves = [torch.randn(tokens, heads, 64) for heads in (4, 2, 2)]
        options = feature_options(tokens)
        if "sinks" in options:  # learned, so the last of the leaves
            leaves.append(options.pop("sinks"))
        kernel, twin = (
            lambda q, k, v, *sinks, f=f: f(q, k, v, sinks=(*sinks, None)[0], **options)
            for f in (attention, reference.attention)
        )
        return kernel, twin, twin, leaves

    return case


CASES = {
    "norm": norm,
    "rope": turned,
    "swiglu": gated(swiglu, reference.swiglu, F.silu),
    "geglu": gated(geglu, reference.geglu, F.gelu),
    "relu2": gated(relu2, reference.relu2, lambda g: F.relu(g).square()),
    "decode": decode,
    "adamw": step,
    "sinks": packed(lambda tokens: {"sinks": torch.linspace(-1.0, 2.0, 4)}),
    "dropout": packed(lambda _: {"dropout": 0.2, "seed": torch.tensor(5)}),
    "pairs": packed(lambda n: {"pairs": torch.tensor([[n // 3, n // 2]])}),
}
