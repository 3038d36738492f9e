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

from triptych.errors import ConfigError

if TYPE_CHECKING:
    from triptych.train.pieces import Piece

# (a, b, c) of X <- aX + b(XX')X + c(XX')^2 X: Jordan et al. 2024.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)

Scale = Callable[[int, int], float]
# Factor of the learning rate for a matrix of (rows, columns).
LR_CONVENTIONS: dict[str, Scale] = {
    # Jordan et al. 2024: the update has the spectral norm of its learning rate.
    "spectral": lambda rows, columns: math.sqrt(max(1.0, rows / columns)),
    # Liu et al. 2025 (Moonlight): the update has the RMS of one of AdamW.
    "rms": lambda rows, columns: 0.2 * math.sqrt(max(rows, columns)),
}


def orthogonalize(
    matrices: Tensor, *, steps: int = 5, dtype: torch.dtype = torch.bfloat16
) -> Tensor:
    """About U V' of the decomposition U S V' of each matrix.

    Singular values end between 0.7 and 1.2, which serves as well as 1.

    Args:
        matrices: (..., rows, columns).
        steps: Newton-Schulz iterations.
        dtype: type of the products.

    Returns:
        (..., rows, columns) in the type of `matrices`.
    """
    x = matrices.to(dtype)
    wide = x.shape[-2] <= x.shape[-1]
    x = x if wide else x.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    a, b, c = NEWTON_SCHULZ
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = (x if wide else x.mT).to(matrices.dtype)
    return result


class Muon(torch.optim.Optimizer):
    """Muon on groups with `muon=True`, AdamW on the others.

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
                for parameter in with_gradient:
                    self._adamw(group, parameter)
        return loss

    def _muon(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        by_shape: dict[tuple[Any, ...], list[Tensor]] = {}
        for parameter in parameters:
            piece = self.pieces.get(parameter)
            shape = tuple(parameter.shape) if piece is None else piece.shape
            by_shape.setdefault((shape, parameter.device), []).append(parameter)
        for ((*_, rows, columns), _), alike in by_shape.items():
            momenta = torch.stack([self._whole_momentum(group, p) for p in alike])
            updates = orthogonalize(momenta, steps=self.steps, dtype=self.dtype)
            lr = group["lr"] * LR_CONVENTIONS[self.convention](rows, columns)
            for parameter, update in zip(alike, updates, strict=True):
                piece = self.pieces.get(parameter)
                parameter.mul_(1.0 - group["lr"] * group["weight_decay"])
                parameter.sub_(update if piece is None else piece.own(update), alpha=lr)

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
        buffer.lerp_(gradient, 1.0 - beta)
        return gradient.lerp(buffer, beta) if group["nesterov"] else buffer.clone()

    def _adamw(self, group: dict[str, Any], parameter: Tensor) -> None:
        """Loshchilov & Hutter 2019, algorithm 2."""
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if not state:
            # float32, so that the step stands among the tensors of the state
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        beta1, beta2 = group["betas"]
        number = state["step"].item()
        state["exp_avg"].lerp_(gradient, 1.0 - beta1)
        state["exp_avg_sq"].lerp_(gradient.square(), 1.0 - beta2)
        mean = state["exp_avg"] / (1.0 - beta1**number)
        deviation = (state["exp_avg_sq"] / (1.0 - beta2**number)).sqrt_()
        parameter.mul_(1.0 - group["lr"] * group["weight_decay"])
        parameter.addcdiv_(mean, deviation.add_(group["eps"]), value=-group["lr"])
