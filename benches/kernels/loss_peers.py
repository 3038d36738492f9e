"""The loss on the output layer as ours and as others compute it, and shapes."""

import timing
import torch
import torch.nn.functional as F

from triptych_kernels import linear_cross_entropy, summed_cross_entropy

# (tokens, hidden size, vocabulary), bf16
SHAPES = {
    "D=2048 V=32k": (8192, 2048, 32768),
    "D=2048 V=128k": (8192, 2048, 131072),
    "D=4096 V=32k": (8192, 4096, 32768),
    "D=4096 V=128k": (8192, 4096, 131072),
}
TINY = {"tiny": (40, 32, 100)}


def shapes(device):
    return SHAPES if device == "cuda" else TINY


def measure(device, name, repeats):
    """Rows of every implementation at the shape of that name."""
    shape, clock = shapes(device)[name], timing.Clock(device)
    leaves, targets = inputs(device, *shape)
    functions = implementations(device, targets)
    upstream = torch.ones((), device=device)
    found = timing.compare(functions, leaves, upstream, clock, repeats)
    return [
        {"shape": name, "implementation": implementation, **row, **rates(row, *shape)}
        for implementation, row in found.items()
    ]


def inputs(device, tokens, hidden_size, vocab_size):
    """Logits of unit variance, every target supervised."""
    hidden = torch.randn(tokens, hidden_size, device=device).bfloat16()
    weight = torch.randn(vocab_size, hidden_size, device=device) * hidden_size**-0.5
    targets = torch.randint(0, vocab_size, (tokens,), device=device)
    return [hidden.requires_grad_(), weight.bfloat16().requires_grad_()], targets


def rates(row, tokens, hidden_size, vocab_size):
    """TFLOP/s of both passes at the 6 NVD that a loss needs."""
    if "forward_ms" not in row:
        return {}
    total = row["forward_ms"] + row["backward_ms"]
    flop = 6 * tokens * vocab_size * hidden_size
    moved = 6 * (tokens + vocab_size) * hidden_size
    return {
        "total_ms": total,
        "tflop_s": flop / total / 1e9,
        "gb_s": moved / total / 1e6,
    }


def implementations(device, targets):
    """Functions of (hidden, weight) to the mean loss, by name; each may raise."""

    def eager(hidden, weight):
        return F.cross_entropy((hidden @ weight.T).float(), targets)

    def in_chunks(hidden, weight):
        return summed_cross_entropy(hidden, weight, targets) / len(targets)

    found = {
        "triptych": in_chunks,
        "triptych, same bits in any batch": lambda h, w: linear_cross_entropy(
            h, w, targets
        ),
        "torch eager": eager,
    }
    if device == "cuda":
        found["torch compiled"] = torch.compile(eager, dynamic=False)
        found["liger"] = liger(targets)
        found["cut-cross-entropy"] = cut(targets, "cce")
        found["cut-cross-entropy exact"] = cut(targets, "cce_exact")
    return found


def liger(targets):
    """Liger's fused linear cross-entropy: gradients are made in the forward."""

    def run(hidden, weight):
        from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

        return LigerFusedLinearCrossEntropyLoss()(weight, hidden, targets)

    return run


def cut(targets, name):
    """Cut cross-entropy, with its gradient filter (`cce`) or without (`cce_exact`)."""

    def run(hidden, weight):
        from cut_cross_entropy import linear_cross_entropy as cut_cross_entropy

        return cut_cross_entropy(hidden, weight, targets, impl=name)

    return run
