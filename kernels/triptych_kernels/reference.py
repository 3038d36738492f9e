"""The kernels in plain PyTorch: same names, same signatures, the specification.

Everything is computed in fp32 (fp64 for fp64 inputs) with the whole matrix of logits
or scores in memory, and autograd differentiates it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    ignore_index: int = -100,
    z_loss: float = 0.0,
    label_smoothing: float = 0.0,
    softcap: float | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy of ``softcap(hidden @ weight.T)``; see the kernel's own."""
    logits = _logits(hidden, weight, softcap)
    losses = F.cross_entropy(
        logits,
        targets.long(),
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction="none",
    )
    supervised = targets != ignore_index
    losses = losses + z_loss * logits.logsumexp(-1).square() * supervised
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    if not supervised.any():
        raise ValueError("a mean needs at least one supervised token, found none")
    return losses.sum() / supervised.sum()


def linear_logprobs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    temperature: float = 1.0,
    softcap: float | None = None,
) -> Tensor:
    """Log-probability, in nats, of each target; 0 where the target is -100."""
    logits = _logits(hidden, weight, softcap) / temperature
    return -F.cross_entropy(logits, targets.long(), reduction="none")


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    cu_seqlens: Tensor | None = None,
    causal: bool = True,
    window: int | None = None,
    softcap: float | None = None,
    scale: float | None = None,
) -> Tensor:
    """Attention within each document of a packed row; see the kernel's own."""
    if window is not None and not causal:
        raise ValueError("window needs causal=True: it is 0 <= i - j < window")
    tokens, heads, head_dim = q.shape
    group = heads // k.shape[1]
    query, key, value = (x.to(_accumulator(x)).transpose(0, 1) for x in (q, k, v))
    scores = query @ key.repeat_interleave(group, 0).mT
    scores = scores * (head_dim**-0.5 if scale is None else scale)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    seen = _seen(tokens, cu_seqlens, causal, window, q.device)
    probabilities = scores.masked_fill(~seen, float("-inf")).softmax(-1)
    out = probabilities @ value.repeat_interleave(group, 0)
    return out.transpose(0, 1).to(q.dtype)


def rms_norm(
    x: Tensor,
    weight: Tensor,
    eps: float = 1e-6,
    *,
    residual: Tensor | None = None,
    casting: str = "none",
) -> Tensor | tuple[Tensor, Tensor]:
    """``x / rms(x) * weight`` over the last dimension; see the kernel's own."""
    if casting not in ("llama", "gemma", "none"):
        raise ValueError(f"casting must be llama, gemma or none, found `{casting}`")
    wide = _accumulator(x)
    total = x
    if residual is not None:
        total = (x.to(wide) + residual.to(wide)).to(residual.dtype)
    mean_square = total.to(wide).square().mean(-1, keepdim=True)
    normed = total.to(wide) * torch.rsqrt(mean_square + eps)
    if casting == "llama":
        normed = normed.to(x.dtype).to(wide)
    factor = weight.to(wide) + (1.0 if casting == "gemma" else 0.0)
    y = (normed * factor).to(x.dtype)
    return y if residual is None else (y, total)


def rope(
    q: Tensor,
    k: Tensor,
    *,
    position_ids: Tensor | None = None,
    tables: tuple[Tensor, Tensor] | None = None,
    frequencies: Tensor | None = None,
    attention_factor: float = 1.0,
    interleaved: bool = False,
) -> tuple[Tensor, Tensor]:
    """Queries and keys turned by their positions' angles; see the kernel's own."""
    if (tables is None) == (frequencies is None):
        raise ValueError("rope needs either tables or frequencies, found both or none")
    if position_ids is None:
        position_ids = torch.arange(q.shape[0], device=q.device)
    wide = _accumulator(q)
    if tables is not None:
        cos, sin = (table.to(wide)[position_ids] for table in tables)
    else:
        assert frequencies is not None
        angles = position_ids[:, None].to(wide) * frequencies.to(q.device, wide)
        cos, sin = angles.cos() * attention_factor, angles.sin() * attention_factor
    cos, sin = cos[:, None], sin[:, None]  # every head alike
    return _turned(q, cos, sin, interleaved), _turned(k, cos, sin, interleaved)


def _turned(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    """(T, heads, D) with each pair of dimensions turned."""
    pairs = x.shape[-1] // 2
    wide = x.to(cos.dtype)
    if interleaved:
        first, second = wide.reshape(*x.shape[:-1], pairs, 2).unbind(-1)
    else:
        first, second = wide.reshape(*x.shape[:-1], 2, pairs).unbind(-2)
    turned = first * cos - second * sin, second * cos + first * sin
    return torch.stack(turned, -1 if interleaved else -2).flatten(-2).to(x.dtype)


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """``silu(gate) * up``; see the kernel's own."""
    return (F.silu(gate.to(_accumulator(gate))) * up).to(gate.dtype)


def geglu(gate: Tensor, up: Tensor, *, approximate: str = "none") -> Tensor:
    """``gelu(gate) * up``; see the kernel's own."""
    wide = F.gelu(gate.to(_accumulator(gate)), approximate=approximate)
    return (wide * up).to(gate.dtype)


def relu2(gate: Tensor, up: Tensor | None = None) -> Tensor:
    """``relu(gate)^2``, times ``up`` if it is given; see the kernel's own."""
    wide = gate.to(_accumulator(gate)).relu().square()
    return (wide if up is None else wide * up).to(gate.dtype)


def _logits(hidden: Tensor, weight: Tensor, softcap: float | None) -> Tensor:
    """(N, V) logits in the accumulator's type."""
    logits = hidden.to(_accumulator(hidden)) @ weight.to(_accumulator(weight)).T
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)


def _accumulator(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _seen(
    tokens: int,
    cu_seqlens: Tensor | None,
    causal: bool,
    window: int | None,
    device: torch.device,
) -> Tensor:
    """(T, T) bool: whether query i (row) sees key j (column)."""
    position = torch.arange(tokens, device=device)
    distance = position[:, None] - position[None, :]
    seen = torch.ones_like(distance, dtype=torch.bool)
    if causal:
        seen = distance >= 0
    if window is not None:
        seen = seen & (distance < window)
    if cu_seqlens is not None:
        document = torch.searchsorted(cu_seqlens.to(position), position, right=True)
        seen = seen & (document[:, None] == document[None, :])
    return seen
