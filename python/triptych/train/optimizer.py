"""AdamW or Muon, with weight decay on matrices only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from triptych.errors import ConfigError
from triptych.train.muon import LR_CONVENTIONS, Muon

NAMES = ("adamw", "muon")


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW (Loshchilov & Hutter 2019), with the settings of GPT-3 and Llama; or Muon.

    Attributes:
        name: `adamw`, or `muon` for the matrices inside layers and AdamW elsewhere.
        momentum: of Muon.
        lr_convention: how Muon's rate depends on a matrix's shape; `rms` has the
            size of AdamW's updates, so that rates of AdamW serve.
        other_lr_ratio: rate of embeddings, head, norms and biases under Muon, as a
            share of the stage's.
    """

    name: str = "adamw"
    momentum: float = 0.95  # Jordan et al. 2024
    lr_convention: str = "rms"
    other_lr_ratio: float = 1.0
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1

    def __post_init__(self) -> None:
        for name in ("beta1", "beta2", "momentum"):
            value = getattr(self, name)
            if not 0.0 <= value < 1.0:
                raise ConfigError(f"{name}: expected in [0, 1), found {value!r}")
        for name in ("eps", "other_lr_ratio"):
            if getattr(self, name) <= 0.0:
                value = getattr(self, name)
                raise ConfigError(f"{name}: expected above 0, found {value!r}")
        self._check_names()
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
    model: nn.Module, config: OptimizerConfig, lr: float
) -> torch.optim.Optimizer:
    """The optimiser that `config` names, over the groups it needs."""
    if config.name == "muon":
        return _create_muon(model, config, lr)
    return create_adamw(model, config, lr)


def _create_muon(model: nn.Module, config: OptimizerConfig, lr: float) -> Muon:
    """Three groups: matrices inside layers, an untied head, and what does not decay."""
    decayed, others = decay_groups(model)
    head = getattr(model, "output_weight", None)
    rest = {"lr_ratio": config.other_lr_ratio, "lr": lr * config.other_lr_ratio}
    groups: list[dict[str, Any]] = [
        {"params": [p for _, p in decayed if p is not head], "muon": True},
        {"params": [p for _, p in decayed if p is head], **rest},
        {"params": [p for _, p in others], "weight_decay": 0.0, **rest},
    ]
    return Muon(
        [group for group in groups if group["params"]],
        lr=lr,
        momentum=config.momentum,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        weight_decay=config.weight_decay,
        convention=config.lr_convention,
    )


def create_adamw(
    model: nn.Module, config: OptimizerConfig, lr: float
) -> torch.optim.AdamW:
    """AdamW over two groups, decayed and not; fused where every tensor allows it."""
    decayed, others = decay_groups(model)
    groups: list[dict[str, Any]] = [
        {"params": [parameter for _, parameter in decayed]},
        {"params": [parameter for _, parameter in others], "weight_decay": 0.0},
    ]
    kinds = {parameter.device.type for _, parameter in decayed + others}
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=lr,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=kinds <= {"cpu", "cuda"},
    )


def parameter_names(model: nn.Module) -> dict[int, str]:
    """Name of each trainable parameter by identity; tied ones have one name."""
    decayed, others = decay_groups(model)
    return {id(parameter): name for name, parameter in decayed + others}


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Gives every group its learning rate: `lr`, times the group's ratio if any."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_ratio", 1.0)
