"""The small operators as ours and as others compute them, and shapes to time them at.

Inputs are bf16. `gb_s` counts the least bytes that an operator must move, each input read
and each result written once; `tflop_s` is given where products are what takes the time.
"""

import timing
import torch
import torch.nn.functional as F

from triptych_kernels import (
    adamw,
    decode_attention,
    geglu,
    orthogonalize,
    reference,
    rms_norm,
    rope,
    swiglu,
)

# name: (kind, sizes); what the sizes are is said by each kind's function
SHAPES = {
    "norm 16k x 2048": ("norm", (16384, 2048)),
    "norm 16k x 4096": ("norm", (16384, 4096)),
    "norm 4k x 12288": ("norm", (4096, 12288)),
    "residual 16k x 4096": ("residual", (16384, 4096)),
    "rope 16k, 32 on 8, d128": ("rope", (16384, 32, 8, 128)),
    "swiglu 16k x 14336": ("swiglu", (16384, 14336)),
    "geglu 16k x 14336": ("geglu", (16384, 14336)),
    "adamw 100M": ("adamw", (100_000_000,)),
    "orthogonal 12 of 1024 x 4096": ("orthogonal", (12, 1024, 4096)),
    "orthogonal 4 of 4096 x 4096": ("orthogonal", (4, 4096, 4096)),
    "decode 32 of 8k, 32 on 8, d128": ("decode", (32, 8192, 32, 8, 128)),
    "decode 1 of 64k, 32 on 8, d128": ("decode", (1, 65536, 32, 8, 128)),
}
TINY = {
    "norm tiny": ("norm", (9, 37)),
    "residual tiny": ("residual", (9, 37)),
    "rope tiny": ("rope", (9, 2, 1, 8)),
    "swiglu tiny": ("swiglu", (9, 70)),
    "geglu tiny": ("geglu", (9, 70)),
    "adamw tiny": ("adamw", (100,)),
    "orthogonal tiny": ("orthogonal", (2, 9, 12)),
    "decode tiny": ("decode", (2, 48, 4, 2, 16)),
}
EPS = 1e-6


def shapes(device):
    return SHAPES if device == "cuda" else TINY


def measure(device, name, repeats):
    """Rows of every implementation at the shape of that name."""
    kind, sizes = shapes(device)[name]
    with torch.device(device):
        case = KINDS[kind](device == "cuda", *sizes)
    clock = timing.Clock(device)
    found = timing.compare(
        case["functions"], case["leaves"], case["upstream"], clock, repeats
    )
    return [
        {"shape": name, "implementation": implementation, **row, **rates(row, case)}
        for implementation, row in found.items()
    ]


def rates(row, case):
    """GB/s and TFLOP/s of the passes that were timed."""
    times = [row[key] for key in ("forward_ms", "backward_ms") if key in row]
    if not times:
        return {}
    found = {"gb_s": case["bytes"] / sum(times) / 1e6}
    return found | (
        {"tflop_s": case["flop"] / sum(times) / 1e9} if "flop" in case else {}
    )


def random(*shape, scale=1.0):
    return (torch.randn(shape) * scale).bfloat16()


def leaf(*shape):
    return random(*shape).requires_grad_()


def with_compiled(functions, name, function, on_gpu):
    """Adds a function as it is and, on a GPU, as Inductor compiles it."""
    functions[name] = function
    if on_gpu:
        compiled = torch.compile(function, dynamic=False)
        functions[f"{name} compiled"] = compiled
    return functions


def hugging_face_norm(x, weight):
    """RMSNorm as the Llama of transformers has it."""
    wide = x.float()
    wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + EPS)
    return weight * wide.to(x.dtype)


def norm(on_gpu, rows, width):
    def liger(x, weight):
        from liger_kernel.ops.rms_norm import LigerRMSNormFunction

        return LigerRMSNormFunction.apply(x, weight, EPS, 0.0, "llama", False)

    functions = {"triptych": lambda x, w: rms_norm(x, w, EPS, casting="llama")}
    with_compiled(functions, "torch", hugging_face_norm, on_gpu)
    functions |= {"F.rms_norm": lambda x, w: F.rms_norm(x, w.shape, w, EPS)}
    if on_gpu:
        functions["liger"] = liger
    return {
        "functions": functions,
        "leaves": [leaf(rows, width), leaf(width)],
        "upstream": random(rows, width),
        "bytes": 10 * rows * width,
    }


def residual(on_gpu, rows, width):
    def plain(x, before, weight):
        both = x + before
        return hugging_face_norm(both, weight), both

    def liger(x, before, weight):
        from liger_kernel.ops.fused_add_rms_norm import LigerFusedAddRMSNormFunction

        apply = LigerFusedAddRMSNormFunction.apply
        return apply(x, before, weight, EPS, 0.0, "llama", False)

    def ours(x, before, weight):
        return rms_norm(x, weight, EPS, residual=before, casting="llama")

    functions = with_compiled({"triptych": ours}, "torch", plain, on_gpu)
    if on_gpu:
        functions["liger"] = liger
    return {
        "functions": functions,
        "leaves": [leaf(rows, width), leaf(rows, width), leaf(width)],
        "upstream": (random(rows, width), random(rows, width)),
        "bytes": 16 * rows * width,
    }


def turned(on_gpu, tokens, heads, kv_heads, head_dim):
    """Both lay tokens first; Liger and transformers want heads first, made beforehand."""
    angles = torch.rand(tokens, head_dim // 2) * 6.0
    cos, sin = angles.cos(), angles.sin()
    doubled = [torch.cat((x, x), -1).bfloat16() for x in (cos, sin)]

    def plain(q, k):
        def turn(x):
            a, b = x.chunk(2, -1)
            return (
                x * doubled[0][:, None] + torch.cat((-b, a), -1) * doubled[1][:, None]
            )

        return turn(q), turn(k)

    def liger(q, k):
        from liger_kernel.ops.rope import LigerRopeFunction

        # it turns its inputs in place
        heads_first = (x.transpose(0, 1)[None].clone() for x in (q, k))
        out = LigerRopeFunction.apply(*heads_first, *(x[None] for x in doubled))
        return tuple(x[0].transpose(0, 1) for x in out)

    functions = {"triptych": lambda q, k: rope(q, k, tables=(cos, sin))}
    with_compiled(functions, "torch", plain, on_gpu)
    if on_gpu:
        functions["liger"] = liger
    sizes = ((tokens, heads, head_dim), (tokens, kv_heads, head_dim))
    return {
        "functions": functions,
        "leaves": [leaf(*size) for size in sizes],
        "upstream": tuple(random(*size) for size in sizes),
        "bytes": 8 * tokens * (heads + kv_heads) * head_dim,
    }


def gated(ours, activation, liger_name):
    """The case of a gated activation of two (rows, width) inputs."""

    def liger(gate, up):
        from liger_kernel import ops

        return getattr(ops, liger_name).apply(gate, up)

    def case(on_gpu, rows, width):
        functions = {"triptych": ours}
        with_compiled(functions, "torch", lambda g, u: activation(g) * u, on_gpu)
        if on_gpu:
            functions["liger"] = liger
        return {
            "functions": functions,
            "leaves": [leaf(rows, width), leaf(rows, width)],
            "upstream": random(rows, width),
            "bytes": 16 * rows * width,
        }

    return case


def stepped(on_gpu, size):
    """Steps in place; torch's fused one, which has one dtype for all, in two of them."""
    options = {"lr": 1e-3, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}

    def ours(param, averages, **more):
        grad = random(size)
        states = [torch.zeros(size, dtype=averages) for _ in range(2)]
        return lambda: adamw(param, grad, *states, step=3, **options, **more)

    def fused(param):
        param.grad = torch.randn_like(param)
        optimizer = torch.optim.AdamW([param], fused=True, **options)
        return optimizer.step

    half, single = torch.bfloat16, torch.float32
    return {
        "functions": {
            "triptych, fp32 averages, by chance": ours(random(size), single, seed=1),
            "triptych, bf16 averages": ours(random(size), half),
            "torch fused, all bf16": fused(random(size)),
            "torch fused, all fp32": fused(torch.randn(size)),
        },
        "leaves": [],
        "upstream": None,
        "bytes": 22 * size,
    }


def orthogonal(on_gpu, number, rows, columns):
    x = random(number, rows, columns)
    functions = {"triptych": lambda: orthogonalize(x)}
    plain = lambda: reference.orthogonalize(x)  # noqa: E731
    functions["torch"] = plain
    if on_gpu:
        functions["torch compiled"] = torch.compile(plain, dynamic=False)
    short = min(rows, columns)
    products = 4 * short * rows * columns + 2 * short**3
    return {
        "functions": functions,
        "leaves": [],
        "upstream": None,
        "bytes": 4 * number * rows * columns,
        "flop": 5 * number * products,
    }


def decode(on_gpu, sequences, length, heads, kv_heads, head_dim):
    """One token each of sequences of one length: a dense cache suits SDPA as well."""
    q = random(sequences, heads, head_dim)
    keys, values = (random(sequences, length, kv_heads, head_dim) for _ in range(2))
    lengths = torch.full((sequences,), length)
    page = min(16, length)
    pages = [x.reshape(-1, page, kv_heads, head_dim) for x in (keys, values)]
    table = torch.randperm(pages[0].shape[0]).view(sequences, -1)

    def sdpa():
        out = F.scaled_dot_product_attention(
            q[:, :, None], *(x.transpose(1, 2) for x in (keys, values)), enable_gqa=True
        )
        return out[:, :, 0]

    return {
        "functions": {
            "triptych": lambda: decode_attention(q, keys, values, lengths),
            "triptych, pages of 16 shuffled": lambda: decode_attention(
                q, *pages, lengths, page_table=table
            ),
            "sdpa": sdpa,
        },
        "leaves": [],
        "upstream": None,
        "bytes": 4 * sequences * length * kv_heads * head_dim,
    }


KINDS = {
    "norm": norm,
    "residual": residual,
    "rope": turned,
    "swiglu": gated(swiglu, F.silu, "LigerSiLUMulFunction"),
    "geglu": gated(
        lambda g, u: geglu(g, u, approximate="tanh"),
        lambda g: F.gelu(g, approximate="tanh"),
        "LigerGELUMulFunction",
    ),
    "adamw": stepped,
    "orthogonal": orthogonal,
    "decode": decode,
}
