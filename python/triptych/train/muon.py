"""Muon: momentum whose update of a matrix is made orthogonal; AdamW for the rest.

Jordan et al. 2024. Matrices of one shape are orthogonalised in one batched product.
The state is a plain dict of tensors a parameter, as torch's own optimisers have it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from triptych import ops
from triptych.errors import ConfigError
from triptych.train.adamw import Unmarked

if TYPE_CHECKING:
    from triptych.train.pieces import Piece

Scale = Callable[[int, int], float]
# Factor of the learning rate for a matrix of (rows, columns).
LR_CONVENTIONS: dict[str, Scale] = {
    # Jordan et al. 2024: the update has the spectral norm of its learning rate.
    "spectral": lambda rows, columns: math.sqrt(max(1.0, rows / columns)),
    # Liu et al. 2025 (Moonlight): the update has the RMS of one of AdamW.
    "rms": lambda rows, columns: 0.2 * math.sqrt(max(rows, columns)),
}


class Muon(Unmarked):
    """Muon on groups with `muon=True`, AdamW on the others.

    Given an attribute `found_inf`, a () float on the device, a step leaves weights and
    state as they are where that is 1, as torch's fused optimisers do.

    Args:
        params: groups; matrices where `muon` is true.
        lr: learning rate before the factor of `convention`.
        momentum: of Muon, with Nesterov's look ahead.
        betas: of AdamW, as is `eps`.
        weight_decay: decoupled, on both kinds of group.
        convention: a name of `LR_CONVENTIONS`.
        steps: Newton-Schulz iterations.
        dtype: type of their products.

    Raises:
        ConfigError: the convention is unknown, or a Muon group holds no matrix.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        *,
        lr: float,
        momentum: float = 0.95,
        nesterov: bool = True,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.1,
        convention: str = "rms",
        steps: int = 5,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        if convention not in LR_CONVENTIONS:
            names = ", ".join(f"`{name}`" for name in LR_CONVENTIONS)
            raise ConfigError(
                f"convention: expected one of {names}, found `{convention}`"
            )
        self.convention, self.steps, self.dtype = convention, steps, dtype
        # Where a process holds only pieces of matrices: what it has of each.
        self.pieces: Mapping[Tensor, Piece] = {}
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "nesterov": nesterov,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "muon": False,
        }
        super().__init__(params, defaults)
        self._check_matrices()

    def _check_matrices(self) -> None:
        muon = (group for group in self.param_groups if group["muon"])
        for parameter in (p for group in muon for p in group["params"]):
            if parameter.dim() < 2:
                raise ConfigError(
                    "muon: expected matrices only, found a parameter of shape "
                    f"{tuple(parameter.shape)}"
                )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            with_gradient = [p for p in group["params"] if p.grad is not None]
            if group["muon"]:
                self._muon(group, with_gradient)
            else:
                self._adamw(group, with_gradient)
        return loss

    def _muon(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        found = getattr(self, "found_inf", None)
        by_shape: dict[tuple[Any, ...], list[Tensor]] = {}
        for parameter in parameters:
            piece = self.pieces.get(parameter)
            shape = tuple(parameter.shape) if piece is None else piece.shape
            by_shape.setdefault((shape, parameter.device), []).append(parameter)
        for ((*_, rows, columns), _), alike in by_shape.items():
            momenta = torch.stack([self._whole_momentum(group, p) for p in alike])
            updates = ops.orthogonalize(momenta, steps=self.steps, dtype=self.dtype)
            lr = group["lr"] * LR_CONVENTIONS[self.convention](rows, columns)
            for parameter, update in zip(alike, updates, strict=True):
                piece = self.pieces.get(parameter)
                update = update if piece is None else piece.own(update)
                kept = 1.0 - group["lr"] * group["weight_decay"]
                if found is not None:
                    update = update.masked_fill(found > 0, 0.0)
                    kept = torch.where(found > 0, 1.0, kept)
                parameter.mul_(kept).sub_(update, alpha=lr)

    def _whole_momentum(self, group: dict[str, Any], parameter: Tensor) -> Tensor:
        """Of the whole matrix: an orthogonal matrix is not made of parts that are."""
        momentum, piece = self._momentum(group, parameter), self.pieces.get(parameter)
        return momentum if piece is None else piece.whole(momentum)

    def _momentum(self, group: dict[str, Any], parameter: Tensor) -> Tensor:
        """Takes the gradient into the momentum; returns what is made orthogonal."""
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        beta, buffer = group["momentum"], state["momentum_buffer"]
        found = getattr(self, "found_inf", None)
        if found is not None:  # 0 * NaN is NaN: what is left out must not be there
            gradient = torch.where(found > 0, buffer, gradient)
        buffer.lerp_(gradient, 1.0 - beta)
        return gradient.lerp(buffer, beta) if group["nesterov"] else buffer.clone()

    def _adamw(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        """Loshchilov & Hutter 2019, algorithm 2, by torch's fused function."""
        if not parameters:
            return
        states = [self._moments(parameter) for parameter in parameters]
        beta1, beta2 = group["betas"]
        adamw(
            parameters,
            [p.grad for p in parameters if p.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused={p.device.type for p in parameters} <= {"cpu", "cuda"},
            amsgrad=False,
            maximize=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            found_inf=getattr(self, "found_inf", None),
        )

    def _moments(self, parameter: Tensor) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            # float32, so that the step stands among the tensors of the state
            state["step"] = torch.zeros(
                (), dtype=torch.float32, device=parameter.device
            )
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        return state
