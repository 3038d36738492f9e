"""Packed attention as ours and as others compute it, and shapes to time it at."""

import inspect
from itertools import pairwise

import timing
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from triptych_kernels import attention
from triptych_kernels.flash_attention import tile_table

NINE = (5003, 4096, 3001, 2048, 1111, 701, 299, 124, 1)  # 16,384 tokens

# Two responses of 1,024 tokens over a prompt of 2,048: where they start, packed; and
# beside it the same eight responses, each with the prompt before it.
FOUR_PAIRS = [[n * 4096 + 2048, n * 4096 + 3072] for n in range(4)]

# name: (lengths of the documents, query heads, key heads, head dim, options)
SHAPES = {
    "16k d128": ((16384,), 16, 4, 128, {}),
    "nine d128": (NINE, 16, 4, 128, {}),
    "16k d64": ((16384,), 16, 4, 64, {}),
    "nine d64": (NINE, 16, 4, 64, {}),
    "32 x 512 d64": ((512,) * 32, 16, 4, 64, {}),
    "16k d128 window 1024": ((16384,), 16, 4, 128, {"window": 1024}),
    "nine d128 softcap": (NINE, 16, 4, 128, {"softcap": 30.0}),
    "nine d256": (NINE, 8, 2, 256, {}),
    "nine d64 sinks": (NINE, 16, 4, 64, {"sinks": torch.zeros(16)}),
    "nine d128 dropout": (NINE, 16, 4, 128, {"dropout": 0.1, "seed": torch.tensor(1)}),
    "4 pairs d128": ((4096,) * 4, 16, 4, 128, {"pairs": torch.tensor(FOUR_PAIRS)}),
    "8 without pairs d128": ((2048 + 1024,) * 8, 16, 4, 128, {}),
}
TINY_PAIR = torch.tensor([[8, 12], [26, 28]])
TINY = {
    "tiny": ((20, 12), 2, 1, 16, {}),
    "tiny window": ((32,), 2, 1, 16, {"window": 9}),
    "tiny sinks": ((20, 12), 2, 1, 16, {"sinks": torch.zeros(2)}),
    "tiny dropout": ((32,), 2, 1, 16, {"dropout": 0.1, "seed": torch.tensor(1)}),
    "tiny pairs": ((20, 12), 2, 1, 16, {"pairs": TINY_PAIR}),
}


def shapes(device):
    return SHAPES if device == "cuda" else TINY


def measure(device, name, repeats):
    """Rows of every implementation at the shape of that name."""
    shape, clock = shapes(device)[name], timing.Clock(device)
    leaves, upstream, cu = inputs(device, *shape[:4])
    functions = implementations(device, shape[0], cu, shape[4])
    found = timing.compare(functions, leaves, upstream, clock, repeats)
    rows = [
        {"shape": name, "implementation": implementation, **row, **rates(row, *shape)}
        for implementation, row in found.items()
    ]
    table = timing.timed(lambda: tile_table(cu, upstream.shape[0], 128), clock)
    return [
        *rows,
        {"shape": name, "implementation": "(tile table)", "forward_ms": table},
    ]


def inputs(device, lengths, heads, kv_heads, head_dim):
    """bf16 (T, heads, D) leaves, upstream gradient and boundaries."""
    tokens = sum(lengths)
    sizes = (heads, kv_heads, kv_heads, heads)
    *leaves, upstream = (
        torch.randn(tokens, n, head_dim, device=device).bfloat16() for n in sizes
    )
    leaves = [x.requires_grad_() for x in leaves]
    bounds = torch.tensor([0, *lengths]).cumsum(0).int().to(device)
    return leaves, upstream, bounds


def rates(row, lengths, heads, kv_heads, head_dim, options):
    """TFLOP/s at 2 (forward) and 5 (backward) products of what is visible."""
    if "forward_ms" not in row:
        return {}
    window = options.get("window")
    seen = sum(visible(length, window) for length in lengths)
    product = 4 * (seen - unseen(lengths, options)) * heads * head_dim
    tokens = sum(lengths)
    moved = 2 * tokens * head_dim * (2 * heads + 2 * kv_heads)
    return {
        "forward_tflop_s": product / row["forward_ms"] / 1e9,
        "backward_tflop_s": 2.5 * product / row["backward_ms"] / 1e9,
        "forward_gb_s": moved / row["forward_ms"] / 1e6,
    }


def visible(length, window):
    """Pairs of query and key in a causal document."""
    if window is None or window >= length:
        return length * (length + 1) // 2
    return window * (window + 1) // 2 + (length - window) * window


def unseen(lengths, options):
    """What a second response does not see of the first, where there are pairs."""
    if "pairs" not in options:
        return 0
    ends = torch.tensor(lengths).cumsum(0)
    first, second = options["pairs"].T
    return int(((second - first) * (ends - second)).sum())


def implementations(device, lengths, cu, options):
    """Functions of (q, k, v) by name; each may raise when called."""
    ours = {
        name: value.to(device) if isinstance(value, torch.Tensor) else value
        for name, value in options.items()
    }
    if "sinks" in ours:
        ours["sinks"].requires_grad_()
    found = {"triptych": lambda q, k, v: attention(q, k, v, cu_seqlens=cu, **ours)}
    if not set(options) <= {"window", "softcap"}:
        return found
    if not options:
        found["sdpa by document"] = by_document(lengths, None)
        if device == "cuda":
            flash, cudnn = SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION
            found["sdpa flash by document"] = by_document(lengths, flash)
            found["sdpa cudnn by document"] = by_document(lengths, cudnn)
            del found["sdpa by document"]
    if device == "cuda":
        if "softcap" not in options:
            found["torch varlen_attn"] = varlen(lengths, cu, options)
        if len(lengths) > 1 or options:  # its compiler takes 20 s a shape
            found["flex_attention"] = flex(lengths, options)
        found["flash-attn"] = flash_attn(lengths, cu, options)
    return found


def by_document(lengths, backend):
    """One call of SDPA a document."""
    edges = list(pairwise(torch.tensor([0, *lengths]).cumsum(0).tolist()))

    def one(q, k, v):
        heads_first = (x.transpose(0, 1)[None] for x in (q, k, v))
        out = F.scaled_dot_product_attention(
            *heads_first, is_causal=True, enable_gqa=q.shape[1] != k.shape[1]
        )
        return out[0].transpose(0, 1)

    def run(q, k, v):
        return torch.cat([one(q[a:b], k[a:b], v[a:b]) for a, b in edges])

    def forced(q, k, v):
        with sdpa_kernel([backend, SDPBackend.FLASH_ATTENTION], set_priority=True):
            return run(q, k, v)

    return run if backend is None else forced


def varlen(lengths, cu, options):
    """Torch's own varlen_attn; its arguments differ between versions."""

    def run(q, k, v):
        from torch.nn.attention.varlen import varlen_attn

        known = inspect.signature(varlen_attn).parameters
        repeats = q.shape[1] // k.shape[1]
        causal = {"is_causal": True}
        if "window_size" in known:
            causal = {"window_size": (options.get("window", 0) - 1, 0)}
        elif "window" in options:
            raise NotImplementedError("no window in this torch")
        if "enable_gqa" in known:
            causal["enable_gqa"] = repeats > 1
        else:
            k, v = (x.repeat_interleave(repeats, 1) for x in (k, v))
        return varlen_attn(q, k, v, cu, cu, max(lengths), max(lengths), **causal)

    return run


def flex(lengths, options):
    """flex_attention, compiled; its block mask is made once and not timed."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    tokens, window, cap = sum(lengths), options.get("window"), options.get("softcap")
    sizes = torch.tensor(lengths, device="cuda")
    document = torch.repeat_interleave(torch.arange(len(lengths), device="cuda"), sizes)

    def seen(b, h, i, j):
        mask = (i >= j) & (document[i] == document[j])
        return mask if window is None else mask & (i - j < window)

    def capped(score, b, h, i, j):
        return cap * torch.tanh(score / cap)

    compiled = torch.compile(flex_attention, dynamic=False)
    block_mask = create_block_mask(seen, None, None, tokens, tokens)

    def run(q, k, v):
        heads_first = (x.transpose(0, 1)[None] for x in (q, k, v))
        out = compiled(
            *heads_first,
            score_mod=capped if cap else None,
            block_mask=block_mask,
            enable_gqa=q.shape[1] != k.shape[1],
        )
        return out[0].transpose(0, 1)

    return run


def flash_attn(lengths, cu, options):
    """The flash-attn package, with its deterministic backward."""

    def run(q, k, v):
        from flash_attn import flash_attn_varlen_func

        longest = max(lengths)
        return flash_attn_varlen_func(
            q, k, v, cu, cu, longest, longest, causal=True, deterministic=True,
            softcap=options.get("softcap", 0.0),
            window_size=(options.get("window", 0) - 1, 0 if "window" in options else -1),
        )  # fmt: skip

    return run
