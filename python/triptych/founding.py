"""The founding design's training names: thin doors to the machinery of every command.

Where the founding document erred, these do the right thing: padding is not trained
on, norms do not decay whatever they are called, warm-up starts at 0, the attention
mask and attention dropout count.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from triptych import ops
from triptych.config import require_numbers
from triptych.errors import ConfigError, InputError
from triptych.model.config import ModelConfig
from triptych.model.transformer import Transformer
from triptych.ops import IGNORE_INDEX
from triptych.train.batch import Batch
from triptych.train.optimizer import OptimizerConfig, create_adamw
from triptych.train.precision import Precision
from triptych.train.pretrain import PretrainObjective
from triptych.train.schedule import warmup_cosine

CLIP_NORM = 1.0
# Numbers of a configuration of which there is at least one.
_COUNTS = (
    "d_model",
    "num_heads",
    "num_layers",
    "d_ff",
    "batch_size",
    "micro_batch_size",
    "vocab_size",
    "max_seq_len",
)


@dataclass(frozen=True, kw_only=True)
class PreTrainingConfig:
    """A model of 7 billion parameters, and how the founding design pre-trains it.

    `d_ff` is 8/3 of `d_model` rounded up to a multiple of 256 unless given.
    `batch_size` and `micro_batch_size` are in sequences.
    """

    d_model: int = 4096
    num_heads: int = 32
    num_layers: int = 32
    d_ff: int | None = None
    batch_size: int = 512
    micro_batch_size: int = 4
    learning_rate: float = 3e-4
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    warmup_steps: int = 2_000
    max_steps: int = 1_000_000
    min_lr_ratio: float = 0.1
    vocab_size: int = 128_000
    max_seq_len: int = 4096

    def __post_init__(self) -> None:
        require_numbers(self)
        for name in _COUNTS:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name}: expected at least 1, found {value}")
        if self.d_ff is None:
            width = math.ceil(self.d_model * 8 / 3 / 256) * 256  # 4096 -> 11008
            object.__setattr__(self, "d_ff", width)
        if not 0 <= self.warmup_steps < self.max_steps:
            raise ConfigError(
                f"warmup_steps: expected below max_steps ({self.max_steps}), found "
                f"{self.warmup_steps}"
            )
        if not 0.0 <= self.min_lr_ratio <= 1.0:
            raise ConfigError(
                f"min_lr_ratio: expected between 0 and 1, found {self.min_lr_ratio}"
            )

    def get_lr(self, step: int) -> float:
        """Learning rate at `step`: 0 at 0, peak after warm-up, then cosine to floor."""
        return warmup_cosine(
            step,
            max_lr=self.learning_rate,
            min_lr=self.min_lr_ratio * self.learning_rate,
            warmup_steps=self.warmup_steps,
            max_steps=self.max_steps,
        )

    def model_config(self) -> ModelConfig:
        """The shape of the transformer described here."""
        return ModelConfig.from_dict(
            {
                "vocab_size": self.vocab_size,
                "hidden_size": self.d_model,
                "intermediate_size": self.d_ff,
                "num_hidden_layers": self.num_layers,
                "num_attention_heads": self.num_heads,
                "max_position_embeddings": self.max_seq_len,
            }
        )


def compute_language_model_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy, in nats, over the targets that are not -100.

    Args:
        logits: (B, T, V).
        targets: (B, T) int64 ids of the tokens that follow.

    Raises:
        InputError: the shapes differ, or no target counts.
    """
    if logits.shape[:-1] != targets.shape:
        raise InputError(
            f"targets: expected shape {tuple(logits.shape[:-1])}, found "
            f"{tuple(targets.shape)}"
        )
    if not bool((targets != IGNORE_INDEX).any()):
        raise InputError("targets: expected one other than -100, found none")
    return F.cross_entropy(
        logits.flatten(0, -2).float(), targets.flatten(), ignore_index=IGNORE_INDEX
    )


def next_token_targets(input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """(B, T) ids that follow, -100 where either side is padding and at the end."""
    real = attention_mask.bool()
    targets = torch.full_like(input_ids, IGNORE_INDEX)
    follows = real[:, 1:] & real[:, :-1]
    targets[:, :-1] = torch.where(follows, input_ids[:, 1:], IGNORE_INDEX)
    return targets


class MixedPrecisionTrainer:
    """Trains with bf16 products where the device has them, else fp16 with scaling.

    Args:
        model: float32 weights, which stay so; moved to `device`. A `Transformer`, or
            a module that maps `input_ids` (and `attention_mask`, if its forward
            takes one) to logits or to an object with `.logits`.
        optimizer: over the model's parameters.
        device: where to train.
        precision: `auto`, or a type as in `TrainConfig`. On a CPU
            `auto` is bf16 only with AMX, or AVX-512 BF16 of AMD, else fp32.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        device: torch.device | str,
        precision: str = "auto",
    ) -> None:
        for name, parameter in model.named_parameters():
            if parameter.dtype != torch.float32:
                raise ConfigError(
                    f"parameter `{name}`: expected float32 master weights, found "
                    f"{parameter.dtype}"
                )
        self.device = torch.device(device)
        self.model = model.to(self.device)
        self.optimizer = optimizer
        self.precision = Precision.choose(precision, self.device)
        self.scaler = self.precision.scaler()

    def training_step(self, batch: Mapping[str, Tensor]) -> float:
        """One update; returns the mean loss, in nats a target.

        `batch` holds `input_ids` (B, T) and, if there is padding, `attention_mask`
        (B, T). The gradient norm is clipped to 1. A loss or gradient that is not
        finite changes nothing.
        """
        return self.accumulate([batch])

    def accumulate(self, micro_batches: Sequence[Mapping[str, Tensor]]) -> float:
        """`training_step` over several micro-batches, divided once by all targets."""
        parts = [_on_device(batch, self.device) for batch in micro_batches]
        count = sum(
            int((next_token_targets(*part) != IGNORE_INDEX).sum()) for part in parts
        )
        if count == 0:
            raise InputError("batch: expected a token that follows another, found none")
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for input_ids, mask in parts:
            with self.precision.autocast():
                loss_sum = _loss_sum(self.model, input_ids, mask)
            self.scaler.scale(loss_sum / count).backward()  # type: ignore[no-untyped-call]
            total += loss_sum.item()
        self._update(total)
        return total / count

    def _update(self, total: float) -> None:
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_NORM)
        if math.isfinite(total) and bool(norm.isfinite()):
            self.scaler.step(self.optimizer)
        self.scaler.update()


def create_optimizer_and_scheduler(
    model: nn.Module, config: PreTrainingConfig
) -> tuple[torch.optim.AdamW, LambdaLR]:
    """AdamW that decays matrices only, and `config.get_lr` as its scheduler."""
    settings = OptimizerConfig(
        beta1=config.beta1, beta2=config.beta2, weight_decay=config.weight_decay
    )
    optimizer = create_adamw(model, settings, config.learning_rate)
    scheduler = LambdaLR(
        optimizer, lambda step: config.get_lr(step) / config.learning_rate
    )
    return optimizer, scheduler


def pretrain_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    config: PreTrainingConfig,
    batch: Mapping[str, Tensor],
) -> float:
    """One update over `batch` in micro-batches; returns the mean loss in nats.

    The learning rate is the optimiser's own: step the scheduler after this. The
    result does not depend on `config.micro_batch_size`.
    """
    device = next(model.parameters()).device
    trainer = MixedPrecisionTrainer(model, optimizer, device)
    size, rows = config.micro_batch_size, batch["input_ids"].shape[0]
    pieces = [
        {key: value[first : first + size] for key, value in batch.items()}
        for first in range(0, rows, size)
    ]
    return trainer.accumulate(pieces)


def _require_shape(widths: Mapping[str, Any], dropout: Any) -> None:
    for name, value in widths.items():
        if not isinstance(value, int) or not 1 <= value < 2**31:
            raise ConfigError(
                f"{name}: expected a whole number from 1 on, found {value!r:.60}"
            )
    d_model, num_heads = widths["d_model"], widths["num_heads"]
    if d_model % num_heads:
        raise ConfigError(
            f"num_heads: expected a divisor of d_model ({d_model}), found {num_heads}"
        )
    if not isinstance(dropout, (int, float)) or not 0.0 <= dropout < 1.0:
        raise ConfigError(f"dropout: expected in [0, 1), found {dropout!r:.60}")


class FlashAttentionBlock(nn.Module):
    """A pre-norm transformer block with causal attention in linear memory.

    Every path gives the same numbers: sequences are packed without their padding,
    and `ops.attention` computes them on whatever there is.

    Args:
        d_model: width.
        num_heads: a divisor of d_model.
        d_ff: inner width of the feed-forward layer.
        dropout: share of attention weights, and of each branch, dropped in training.
    """

    def __init__(
        self, d_model: int, num_heads: int, d_ff: int, dropout: float = 0.1
    ) -> None:
        super().__init__()
        widths = {"d_model": d_model, "num_heads": num_heads, "d_ff": d_ff}
        _require_shape(widths, dropout)
        self.num_heads, self.dropout = num_heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out_proj = nn.Linear(d_model, d_model, bias=False)
        self.ffn = nn.Sequential(
            nn.Linear(d_model, d_ff),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(d_ff, d_model),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """X (B, T, d_model) to the same shape.

        Args:
            x: hidden states.
            attention_mask: (B, T), 0 for padding: nobody attends to it, and what
                stands there gets nothing from attention.
        """
        attended = self._attend(self.norm1(x), attention_mask)
        x = x + F.dropout(attended, self.dropout, self.training)
        output: Tensor = x + self.ffn(self.norm2(x))
        return output

    def _attend(self, x: Tensor, attention_mask: Tensor | None) -> Tensor:
        if attention_mask is None:
            attention_mask = torch.ones(x.shape[:2], device=x.device)
        real = attention_mask.bool()
        packed = self.qkv(x[real]).unflatten(-1, (3, self.num_heads, -1))
        mixed = ops.attention(
            *packed.unbind(1),
            cu_seqlens=_cu_seqlens(real),
            dropout=self.dropout if self.training else 0.0,
        )
        projected: Tensor = self.out_proj(mixed.flatten(1))
        padded = torch.zeros(x.shape, dtype=projected.dtype, device=x.device)
        return padded.masked_scatter(real[..., None], projected)


def _cu_seqlens(real: Tensor) -> Tensor:
    """(B + 1,) int32 boundaries of the rows of a mask once padding is taken out."""
    return F.pad(real.sum(1).cumsum(0), (1, 0)).int()


def _on_device(
    batch: Mapping[str, Tensor], device: torch.device
) -> tuple[Tensor, Tensor]:
    input_ids = batch["input_ids"].to(device)
    mask = batch.get("attention_mask")
    if mask is None:
        return input_ids, torch.ones_like(input_ids, dtype=torch.bool)
    if mask.shape != input_ids.shape:
        raise InputError(
            f"attention_mask: expected shape {tuple(input_ids.shape)}, found "
            f"{tuple(mask.shape)}"
        )
    return input_ids, mask.to(device).bool()


def _loss_sum(model: nn.Module, input_ids: Tensor, mask: Tensor) -> Tensor:
    """Summed next-token loss of (B, T) sequences."""
    targets = next_token_targets(input_ids, mask)
    if isinstance(model, Transformer):
        return PretrainObjective().loss(model, _packed(input_ids, mask)).loss_sum
    arguments: dict[str, Any] = {}
    if "attention_mask" in inspect.signature(model.forward).parameters:
        arguments["attention_mask"] = mask
    output = model(input_ids, **arguments)
    logits: Tensor = getattr(output, "logits", output)
    return F.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), reduction="sum"
    )


def _packed(input_ids: Tensor, mask: Tensor) -> Batch:
    """Padded sequences as one packed batch."""
    labels = next_token_targets(input_ids, mask)[mask]
    positions = (mask.long().cumsum(1) - 1)[mask]
    rows = torch.arange(input_ids.shape[0], device=input_ids.device)
    return Batch(
        input_ids=input_ids[mask],
        labels=labels,
        position_ids=positions,
        weights=(labels != IGNORE_INDEX).float(),
        cu_seqlens=_cu_seqlens(mask),
        documents=rows,
        sources=torch.zeros_like(rows, dtype=torch.int32),
    )
