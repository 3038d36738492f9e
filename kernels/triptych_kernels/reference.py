"""The kernels in plain PyTorch: same names, same signatures, the specification.

Everything is computed in fp32 (fp64 for fp64 inputs) with the whole matrix of logits
or scores in memory, and autograd differentiates it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from triptych_kernels.polar_iterations import SAFETY, coefficients


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
    gradient_filter: float = 0.0,
) -> Tensor:
    """Cross-entropy of ``softcap(hidden @ weight.T)``; see the kernel's own.

    ``gradient_filter`` is not: the gradient here is always exact.
    """
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


def summed_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    factors: Tensor | None = None,
    *,
    ignore_index: int = -100,
    z_loss: float = 0.0,
    label_smoothing: float = 0.0,
    softcap: float | None = None,
) -> Tensor:
    """Sum of factor * cross-entropy; see the kernel's own."""
    losses = linear_cross_entropy(
        hidden,
        weight,
        targets,
        ignore_index=ignore_index,
        z_loss=z_loss,
        label_smoothing=label_smoothing,
        softcap=softcap,
        reduction="none",
    )
    return (losses if factors is None else losses * factors.detach()).sum()


def linear_logprobs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    temperature: float = 1.0,
    softcap: float | None = None,
    gradient_filter: float = 0.0,
) -> Tensor:
    """Log-probability, in nats, of each target; 0 where the target is -100."""
    logits = _logits(hidden, weight, softcap) / temperature
    return -F.cross_entropy(logits, targets.long(), reduction="none")


def linear_statistics(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    temperature: float = 1.0,
    softcap: float | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log-probability, log-sum-exp, entropy and mean logit; see the kernel's own."""
    logits = _logits(hidden, weight, softcap) / temperature
    logps = logits.log_softmax(-1)
    found = (
        -F.cross_entropy(logits, targets.long(), reduction="none"),
        logits.logsumexp(-1),
        -(logps.exp() * logps).sum(-1),
        logits.mean(-1),
    )
    first, second, third, fourth = (x * (targets != -100) for x in found)
    return first, second, third, fourth


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
    sinks: Tensor | None = None,
    pairs: Tensor | None = None,
    dropout: float = 0.0,
    seed: Tensor | None = None,
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
    if pairs is not None:
        seen = seen & ~_other_response(tokens, cu_seqlens, pairs)
    scores = scores.masked_fill(~seen, float("-inf"))
    if sinks is not None:
        column = sinks.to(scores.dtype)[:, None, None].expand(-1, tokens, 1)
        scores = torch.cat((scores, column), -1)
    probabilities = scores.softmax(-1)[..., :tokens]
    if dropout:
        assert seed is not None
        threshold = min(round(dropout * 2**16), 2**16 - 1)
        kept = _random_halves(heads, tokens, cu_seqlens, seed) >= threshold
        probabilities = probabilities * kept * (2**16 / (2**16 - threshold))
    out = probabilities @ value.repeat_interleave(group, 0)
    return out.transpose(0, 1).to(q.dtype)


def decode_attention(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    lengths: Tensor,
    *,
    page_table: Tensor | None = None,
    window: int | None = None,
    softcap: float | None = None,
    scale: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """Attention of the newest token over its cached ones; see the kernel's own."""
    out = torch.zeros_like(q)
    for b, length in enumerate(lengths.tolist()):
        if length == 0:
            continue
        used = -(-length // keys.shape[1])  # what else a table holds is no page
        pages = [b] if page_table is None else page_table[b, :used]
        key, value = (x[pages].flatten(0, 1)[:length] for x in (keys, values))
        query = q[b].expand(length, *q.shape[1:])  # as if it stood at every token
        mixed = attention(
            query, key, value, window=window, softcap=softcap, scale=scale, sinks=sinks
        )
        out[b] = mixed[-1]
    return out


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


def adamw(
    param: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    *,
    step: int,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-8,
    weight_decay: float = 0.1,
    clip: Tensor | None = None,
    seed: int | None = None,
) -> None:
    """One step in place; see the kernel's own."""
    wide = _accumulator(param)
    gradient = grad.to(wide) * (1.0 if clip is None else clip)
    mean = exp_avg.to(wide).lerp(gradient, 1.0 - betas[0])
    square = exp_avg_sq.to(wide).lerp(gradient.square(), 1.0 - betas[1])
    exp_avg.copy_(mean)
    exp_avg_sq.copy_(square)
    deviation = (square / (1.0 - betas[1] ** step)).sqrt() + eps
    change = lr * (mean / (1.0 - betas[0] ** step)) / deviation
    updated = param.to(wide) * (1.0 - lr * weight_decay) - change
    if seed is not None:
        updated = _rounded_stochastically(updated, seed, step)
    param.copy_(updated)


def orthogonalize(
    matrices: Tensor,
    *,
    steps: int = 5,
    method: str = "newton-schulz",
    dtype: torch.dtype = torch.bfloat16,
) -> Tensor:
    """About U V' of each matrix U S V', products in ``dtype``; see the kernel's own."""
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x = matrices if wide else matrices.mT
    norms = x.double().square().sum((-2, -1), keepdim=True).sqrt().to(_accumulator(x))
    norms = norms * (SAFETY if method == "polar-express" else 1.0)
    x = (x / norms.clamp_min(1e-7)).to(dtype)
    for a, b, c in coefficients(steps, method):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    x = x if wide else x.mT
    return x.to(matrices.dtype)


def _rounded_stochastically(x: Tensor, seed: int, step: int) -> Tensor:
    """Fp32 x with the lower half of its bits cut off, or one of what is left added."""
    groups = torch.arange(-(-x.numel() // 8), device=x.device)
    counter = (groups & 0xFFFFFFFF, groups >> 32, groups * 0 + step, groups * 0)
    words = torch.stack(_philox(counter, (seed & 0xFFFFFFFF, seed >> 32)), -1)
    halves = torch.stack((words & 0xFFFF, words >> 16), -1)
    random = halves.flatten()[: x.numel()].view(x.shape)
    bits = x.view(torch.int32) + random.int()
    rounded = (bits & -0x10000).view(torch.float32)
    return torch.where(x.isfinite(), rounded, x)


def _random_halves(
    heads: int, tokens: int, cu_seqlens: Tensor | None, seed: Tensor
) -> Tensor:
    """(H, T, T) numbers below 2^16 by seed, head, query and key.

    Query and key count from the query's document's start; keys of others are noise.
    """
    position = torch.arange(tokens, device=seed.device)
    start = torch.zeros_like(position)
    if cu_seqlens is not None:
        bounds = cu_seqlens.to(position)
        start = bounds[torch.searchsorted(bounds, position, right=True) - 1]
    zero = position.new_zeros(heads, tokens, tokens)
    key = (position - start[:, None]).clamp(min=0)
    head = torch.arange(heads, device=seed.device)[:, None, None]
    counter = (zero + (position - start)[:, None], zero + key // 8, zero + head, zero)
    number = int(seed)
    words = torch.stack(
        _philox(counter, (number & 0xFFFFFFFF, (number >> 32) & 0xFFFFFFFF)), -1
    )
    halves = torch.stack((words & 0xFFFF, words >> 16), -1).flatten(-2)
    return halves.gather(-1, (zero + key % 8)[..., None])[..., 0]


def _philox(counter: tuple[Tensor, ...], key: tuple[int, int]) -> tuple[Tensor, ...]:
    """Four random words, int64 below 2^32, of four: Philox 4x32-10.

    Salmon et al. 2011, section 3.2.
    """
    a, b, c, d = counter
    first, second = key
    for _ in range(10):
        high_a, low_a = _product_words(0xD2511F53, a)
        high_c, low_c = _product_words(0xCD9E8D57, c)
        a, b, c, d = high_c ^ b ^ first, low_c, high_a ^ d ^ second, low_a
        first = (first + 0x9E3779B9) & 0xFFFFFFFF
        second = (second + 0xBB67AE85) & 0xFFFFFFFF
    return a, b, c, d


def _product_words(factor: int, x: Tensor) -> tuple[Tensor, Tensor]:
    """Upper and lower 32 bits of a product; by halves, since int64 would overflow."""
    upper, lower = (factor >> 16) * x, (factor & 0xFFFF) * x
    high = (upper + (lower >> 16)) >> 16
    return high, (((upper & 0xFFFF) << 16) + lower) & 0xFFFFFFFF


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


def _other_response(tokens: int, cu_seqlens: Tensor | None, pairs: Tensor) -> Tensor:
    """(T, T) bool: whether query i is of a second response and key j of its first."""
    position = torch.arange(tokens, device=pairs.device)
    document = torch.ones_like(position)
    if cu_seqlens is not None:
        document = torch.searchsorted(cu_seqlens.to(position), position, right=True)
    chosen, rejected = pairs[document - 1][:, None].unbind(-1)
    of_second = position[:, None] >= rejected
    return of_second & (position >= chosen) & (position < rejected)
