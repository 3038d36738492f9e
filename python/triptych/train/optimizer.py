"""AdamW or Muon, with weight decay on matrices only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from triptych.config import require_numbers
from triptych.errors import ConfigError
from triptych.train.adamw import AdamW
from triptych.train.moments8bit import create_adamw_8bit
from triptych.train.muon import LR_CONVENTIONS, Muon
from triptych.train.precision import computes_bf16

NAMES = ("adamw", "muon")
LR_RATIOS = tuple(f"{x}_lr_ratio" for x in ("matrix", "other", "embedding", "head"))


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW (Loshchilov & Hutter 2019), with the settings of GPT-3 and Llama; or Muon.

    Attributes:
        name: `adamw`, or `muon` for the matrices inside layers and AdamW elsewhere.
        momentum: of Muon.
        lr_convention: how Muon's rate depends on a matrix's shape; `rms` has the
            size of AdamW's updates, so that rates of AdamW serve.
        matrix_lr_ratio: rate of the matrices inside layers, as a share of the stage's.
        other_lr_ratio: rate of embeddings, head, norms and biases under Muon, as a
            share of the stage's.
        embedding_lr_ratio: rate of the embeddings, tied or not, as a share of the
            stage's; None for `other_lr_ratio` under Muon and 1 under AdamW.
        head_lr_ratio: likewise of an output matrix of its own.
        beta1: share of AdamW's old mean of gradients in the new one, in [0, 1).
        beta2: likewise of the mean of their squares.
        eps: added to the root of that, above 0.
        weight_decay: share of a matrix that a step at a rate of 1 would take off.
        state_bits: of a number of AdamW's moments: 32, or 8 through torchao.
    """

    name: str = "adamw"
    momentum: float = 0.95  # Jordan et al. 2024
    lr_convention: str = "rms"
    matrix_lr_ratio: float = 1.0
    other_lr_ratio: float = 1.0
    embedding_lr_ratio: float | None = None
    head_lr_ratio: float | None = None
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1
    state_bits: int = 32

    def __post_init__(self) -> None:
        require_numbers(self)
        for name in ("beta1", "beta2", "momentum"):
            value = getattr(self, name)
            if not 0.0 <= value < 1.0:
                raise ConfigError(f"{name}: expected in [0, 1), found {value!r}")
        for name in ("eps", *LR_RATIOS):
            value = getattr(self, name)
            if value is not None and value <= 0.0:
                raise ConfigError(f"{name}: expected above 0, found {value!r}")
        self._check_names()
        allowed = (32, 8) if self.name == "adamw" else (32,)
        if self.state_bits not in allowed:
            raise ConfigError(
                'state_bits: expected 32, or 8 with `name = "adamw"`, found '
                f"{self.state_bits!r} with `{self.name}`"
            )
        if self.weight_decay < 0.0:
            raise ConfigError(
                f"weight_decay: expected at least 0, found {self.weight_decay!r}"
            )

    def _check_names(self) -> None:
        for name, known in (("name", NAMES), ("lr_convention", tuple(LR_CONVENTIONS))):
            if getattr(self, name) not in known:
                expected = ", ".join(f"`{value}`" for value in known)
                raise ConfigError(
                    f"{name}: expected one of {expected}, found `{getattr(self, name)}`"
                )


def decay_groups(
    model: nn.Module,
) -> tuple[list[tuple[str, Tensor]], list[tuple[str, Tensor]]]:
    """Named trainable parameters that decay, and those that do not.

    Decided by dimension and module type, never by name: matrices decay, but not
    embeddings (nor an output matrix tied to one), norms or biases.
    """
    embeddings = (nn.Embedding, nn.EmbeddingBag)
    lookups = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, embeddings)
    }
    decayed: list[tuple[str, Tensor]] = []
    others: list[tuple[str, Tensor]] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        is_matrix = parameter.dim() >= 2 and id(parameter) not in lookups
        (decayed if is_matrix else others).append((name, parameter))
    return decayed, others


def create_optimizer(
    model: nn.Module, config: OptimizerConfig, lr: float, *, in_float32: bool = False
) -> torch.optim.Optimizer:
    """The optimiser that `config` names, over the groups it needs.

    Muon's products are in bf16 where the device computes it, unless `in_float32`: then
    losses of 1, 2 and 4 processes agree to 4e-8, else to 1.2e-6 (the tests' tiny run).
    """
    if config.name == "muon":
        return _create_muon(model, config, lr, in_float32=in_float32)
    if config.state_bits == 8:
        groups = _groups(model, config, lr)
        return create_adamw_8bit(groups, lr=lr, **_adamw_settings(config))
    return create_adamw(model, config, lr)


def _create_muon(
    model: nn.Module, config: OptimizerConfig, lr: float, *, in_float32: bool
) -> Muon:
    """Matrices inside layers by Muon, all else by AdamW."""
    groups = _groups(model, config, lr)
    for group in groups:
        group["muon"] = group["kind"] == MATRIX
    device = groups[0]["params"][0].device
    is_narrow = computes_bf16(device) and not in_float32
    return Muon(
        groups,
        lr=lr,
        momentum=config.momentum,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        weight_decay=config.weight_decay,
        convention=config.lr_convention,
        dtype=torch.bfloat16 if is_narrow else torch.float32,
    )


def create_adamw(model: nn.Module, config: OptimizerConfig, lr: float) -> AdamW:
    """AdamW, fused where every tensor allows it."""
    groups = _groups(model, config, lr)
    kinds = {p.device.type for group in groups for p in group["params"]}
    return AdamW(
        groups, lr=lr, **_adamw_settings(config), fused=kinds <= {"cpu", "cuda"}
    )


def _adamw_settings(config: OptimizerConfig) -> dict[str, Any]:
    betas = config.beta1, config.beta2
    return {"betas": betas, "eps": config.eps, "weight_decay": config.weight_decay}


# Kinds of parameters: matrices inside layers, an output matrix of its own, embeddings,
# and norms and biases.
MATRIX, HEAD, EMBEDDING, REST = "matrix", "head", "embedding", "rest"


def _groups(
    model: nn.Module, config: OptimizerConfig, lr: float
) -> list[dict[str, Any]]:
    """A group for each kind that the model has; the last two do not decay."""
    decayed, others = decay_groups(model)
    head = getattr(model, "output_weight", None)
    by_kind = {
        MATRIX: [p for _, p in decayed if p is not head],
        HEAD: [p for _, p in decayed if p is head],
        EMBEDDING: [p for _, p in others if p.dim() >= 2],
        REST: [p for _, p in others if p.dim() < 2],
    }
    other = config.other_lr_ratio if config.name == "muon" else 1.0
    ratios = {
        MATRIX: config.matrix_lr_ratio,
        HEAD: config.head_lr_ratio or other,
        EMBEDDING: config.embedding_lr_ratio or other,
        REST: other,
    }
    return [
        {
            "params": parameters,
            "kind": kind,
            "lr": lr * ratios[kind],
            "lr_ratio": ratios[kind],
            **({} if kind in (MATRIX, HEAD) else {"weight_decay": 0.0}),
        }
        for kind, parameters in by_kind.items()
        if parameters
    ]


def parameter_names(model: nn.Module) -> dict[int, str]:
    """Name of each trainable parameter by identity; tied ones have one name."""
    decayed, others = decay_groups(model)
    return {id(parameter): name for name, parameter in decayed + others}


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Gives every group its learning rate: `lr`, times the group's ratio if any."""
    for group in optimizer.param_groups:
        rate = lr * group["lr_ratio"]
        if isinstance(group["lr"], Tensor):  # read by a compiled update
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
