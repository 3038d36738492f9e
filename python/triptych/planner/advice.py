"""What scaling laws and papers say of a run's size, data, batch and learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from triptych.scaling import FLOPS_PER_PARAMETER_TOKEN, LAWS

# Muennighoff et al. 2023, section 5: up to four passes are worth nearly as much as fresh
# data.
MAX_EPOCHS = 4.0
# The smallest models of Hoffmann et al. 2022 (figure A5 and table A9): fits say nothing
# of what is far below.
SMALLEST_FITTED_PARAMETERS = 44e6
FAR_FACTOR = 4.0  # a value so many times another is worth a warning; a matter of taste


@dataclass(frozen=True)
class Run:
    """A run as the laws see it: counts, and the peak of its rate.

    Attributes:
        parameters: all that a token meets, embeddings too; of experts those that it
            goes to, as its work is with them. The laws were fitted to models without.
        matrix_parameters: of matrix products inside layers, which Step Law counts.
        tokens: of all stages.
        unique_tokens: those of them that are read for the first time.
        batch_tokens: the largest batch.
        learning_rate: the highest that AdamW has, or an update of its size, for the
            matrices inside layers; None for one of another size.
        epochs: passes over each source.
    """

    parameters: int
    matrix_parameters: int
    tokens: int
    unique_tokens: int
    batch_tokens: int
    learning_rate: float | None
    epochs: Mapping[str, float]


def by_law(run: Run) -> dict[str, dict[str, Any]]:
    """Of each law: the loss it expects, and the size and data of least loss for the work."""
    flops = FLOPS_PER_PARAMETER_TOKEN * run.parameters * run.tokens
    table: dict[str, dict[str, Any]] = {}
    for name, law in LAWS.items():
        parameters, tokens = law.optimum(flops)
        table[name] = {
            "loss": law.loss(run.parameters, run.tokens),
            "loss_with_repetition": law.repeated_loss(
                run.parameters, run.tokens, run.unique_tokens
            ),
            "optimal_parameters": parameters,
            "optimal_tokens": tokens,
            "source": law.source,
        }
    return table


def hyperparameters(run: Run) -> dict[str, dict[str, Any]]:
    """Learning rates and batches in tokens that papers fitted."""
    flops = 6.0 * run.matrix_parameters * run.tokens
    n, d = float(run.matrix_parameters), float(run.tokens)
    return {
        "deepseek2024": {
            "learning_rate": 0.3118 * flops**-0.125,
            "batch_tokens": 0.2920 * flops**0.3271,
            "source": "DeepSeek LLM, arXiv 2401.02954, eq. 1",
        },
        "step_law2025": {
            "learning_rate": 1.79 * n**-0.713 * d**0.307,
            "batch_tokens": 0.58 * d**0.571,
            "source": "Li et al. 2025, arXiv 2503.04715, eq. 1",
        },
        "olmo_ladder": {
            "learning_rate": 0.0047 * (n / 108e6) ** (-1 / 3) / 2,
            "batch_tokens": 2048 * 160 * (n / 108e6) ** (2 / 3),
            "source": "OLMo-core model ladder (commit fa6c501)",
        },
    }


def critical_batch_tokens(tokens: int) -> float:
    """The batch beyond which more of it saves few steps, for a run of so many tokens.

    Zhang et al. 2024, arXiv 2410.21676: 22.91 * D ** 0.47 rows of 512 tokens, D in
    millions; where 20 % more tokens are needed than with small batches. It hardly depends
    on the size of the model.
    """
    return float(22.91 * 512 * (tokens / 1e6) ** 0.47)


def warnings(run: Run) -> list[str]:
    """What deserves a second thought, as sentences."""
    laws, settings = by_law(run).values(), hyperparameters(run).values()
    found = [
        _outside("tokens", run.tokens, [law["optimal_tokens"] for law in laws]),
        _outside(
            "batch_tokens", run.batch_tokens, [x["batch_tokens"] for x in settings]
        ),
        _outside(
            "learning_rate", run.learning_rate, [x["learning_rate"] for x in settings]
        ),
    ]
    critical = critical_batch_tokens(run.tokens)
    if run.batch_tokens > critical:
        found.append(
            f"batch_tokens: {run.batch_tokens:.3g} is above the critical batch of "
            f"{critical:.3g} for {run.tokens:.3g} tokens (Zhang et al. 2024): a smaller "
            "one reaches the same loss with fewer tokens"
        )
    found += [
        f"source `{name}`: {epochs:.1f} passes; beyond {MAX_EPOCHS:.0f} repeated text is "
        "worth less and less (Muennighoff et al. 2023)"
        for name, epochs in run.epochs.items()
        if epochs > MAX_EPOCHS
    ]
    if run.parameters < SMALLEST_FITTED_PARAMETERS:
        found.append(
            f"{run.parameters:,} parameters are "
            f"{SMALLEST_FITTED_PARAMETERS / run.parameters:.0f} times fewer than in the "
            "smallest model that the laws were fitted to: read them as a direction only"
        )
    return [sentence for sentence in found if sentence]


def _outside(name: str, value: float | None, advised: list[float]) -> str:
    """A sentence where a value is far outside what is advised."""
    low, high = min(advised), max(advised)
    if value is None or low / FAR_FACTOR <= value <= high * FAR_FACTOR:
        return ""
    side = "below" if value < low else "above"
    return (
        f"{name}: {value:.3g} is far {side} the {low:.3g} to {high:.3g} of the papers"
    )
