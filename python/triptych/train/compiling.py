"""Whether a run's layers are compiled: decided once, before its first step.

Compiled kernels round otherwise than eager ones, so what was decided is part of the run:
checkpoints hold it, and a run goes on as it began.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from triptych import artefact
from triptych.errors import ConfigError
from triptych.model.compiled import compiled_in_process, compiled_layer, obstacle
from triptych.model.recompute import LayerCall, layer_call
from triptych.model.transformer import Transformer
from triptych.train.batch import Batch
from triptych.train.objective import Objective
from triptych.train.placement import Whole
from triptych.train.precision import Precision
from triptych.train.train_config import CompileChoice

FILE_NAME = "compile.json"

# With fewer steps left nothing is even measured, so that a short run computes its steps only.
LEAST_STEPS = 100
# What compiling a layer takes without a cache, where none was measured yet: below it nothing is
# tried. Two cores of a Zen 5 took 17 to 20 s, 13.8M and 50.7M parameters, bf16, and 4 to 6 with
# a cache. What it takes is measured then, and decides.
COLD_COMPILE_SECONDS = 20.0
# Share of an eager pass that compiling layers may save at most, to decide whether to try.
# Matrix products take half of a pass and more, and stay what they are; the most that was
# measured is 0.15, of 110M parameters on an H200.
MOST_GAIN = 0.5
# A smaller gain is not told from noise.
LEAST_GAIN = 0.02
# Passes that are timed, of which the fastest counts, and seconds after which no other is
# begun.
PASSES, PASS_SECONDS = 5, 2.0

logger = logging.getLogger("triptych.train")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether layers are compiled, and why.

    Attributes:
        eager_seconds: a forward and a backward pass over the run's first rows that are
            computed together; None where it was not measured.
        compiled_seconds: the same, compiled. compile_seconds: what compiling took.
        about: hash of what was measured; see `Trial.about`.
    """

    compiled: bool
    reason: str
    eager_seconds: float | None = None
    compiled_seconds: float | None = None
    compile_seconds: float | None = None
    about: str | None = None


@dataclass(frozen=True)
class Trial:
    """Passes over some rows that leave the run as it is: gradients are thrown away.

    Attributes:
        batches: of the run's first step. The first one with something to learn is
            computed, whatever step the run goes on from: kernels may depend on the
            number of tokens that they were compiled at.
        steps_left: of the run.
    """

    model: Transformer
    objective: Objective
    precision: Precision
    recompute: str
    batches: Sequence[Batch]
    steps_left: int

    @property
    def about(self) -> str:
        """What a pass is of: another model or batch is measured anew."""
        parts = (
            repr(self.model.config),
            self.objective.name,
            self.precision.name,
            self.recompute,
            str(self.model.output_weight.device.type),
            repr([len(batch.input_ids) for batch in self.batches]),
        )
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @property
    def learns(self) -> bool:
        """Whether there is something to learn in the first step."""
        return any(map(self.objective.count, self.batches))

    @property
    def passes_left(self) -> int:
        """Passes like this one until the run ends, if all steps are like the first."""
        return self.steps_left * len(self.batches)

    def time(self, call: LayerCall) -> tuple[float, float]:
        """Seconds of a pass, and how many more the first one took."""
        self.model.call_layer = call
        batch = next(b for b in self.batches if self.objective.count(b))
        batch = batch.to(self.model.output_weight.device)
        first, seconds = self._pass(batch), [self._pass(batch)]
        while len(seconds) < PASSES and sum(seconds) < PASS_SECONDS:
            seconds.append(self._pass(batch))
        return min(seconds), max(first - min(seconds), 0.0)

    def _pass(self, batch: Batch) -> float:
        device = self.model.output_weight.device
        devices = [device] if device.type == "cuda" else []
        started = time.perf_counter()
        with torch.random.fork_rng(devices), self.precision.autocast():
            loss = self.objective.loss(self.model, batch).loss_sum
        loss.backward()  # type: ignore[no-untyped-call]
        for used in devices:
            torch.cuda.synchronize(used)
        ended = time.perf_counter()
        self.model.zero_grad(set_to_none=True)
        return ended - started


class Compiling:
    """Decides, and says how layers are called.

    Args:
        trial: to compile with, and for `auto` to measure.
        placement: says whether its layers can be compiled at all.
        output: of the run; `compile.json` there keeps what was measured, so that a run
            that was killed before its first checkpoint does not measure again.
    """

    def __init__(self, trial: Trial, placement: Whole, output: Path) -> None:
        self.trial, self.placement, self.ranks = trial, placement, placement.ranks
        self.path = output / FILE_NAME
        self._eager = layer_call(trial.recompute)
        self._compiled = self._eager

    def settle(self, choice: CompileChoice, begun: bool | None) -> bool:
        """Sets how the model's layers are called; returns whether they are compiled.

        Args:
            choice: what the configuration says.
            begun: what the run's checkpoint says; None for a run that begins.

        Raises:
            ConfigError: the choice cannot be had, or is not what the run began with.
        """
        if begun is not None and choice not in ("auto", begun):
            raise ConfigError(
                f"compile: expected `auto` or {_toml(begun)}, as the run in "
                f"`{self.path.parent}` began, found {_toml(bool(choice))}; choose "
                "another output folder"
            )
        wanted = choice if begun is None else begun
        verdict = self._verdict(wanted)
        if choice is True and not verdict.compiled:
            raise ConfigError(
                'compile: expected `"auto"` or `false`, found `true`, but '
                f"{verdict.reason}"
            )
        level = logging.WARNING if wanted is True > verdict.compiled else logging.INFO
        logger.log(level, "compile: %s: %s", _toml(verdict.compiled), verdict.reason)
        call = self._compiled if verdict.compiled else self._eager
        self.trial.model.call_layer = call
        return verdict.compiled

    def _verdict(self, wanted: CompileChoice) -> Verdict:
        if wanted is False:
            return Verdict(compiled=False, reason="as configured, or as the run began")
        if wanted is True:
            return self._compile()
        known = self._known()
        if known is None:
            return self._measured()
        return self._compile() if known.compiled else known

    def _measured(self) -> Verdict:
        """Whether compiling pays for itself in what is left of the run."""
        why = self._of_all(self._obstacle())
        if self.trial.steps_left < LEAST_STEPS:
            why = f"fewer than {LEAST_STEPS} steps are left"
        if why:
            return Verdict(compiled=False, reason=why)
        eager_s = min(self.ranks.gather(self.trial.time(self._eager)[0]))
        most_s = MOST_GAIN * eager_s * self.trial.passes_left
        if most_s <= COLD_COMPILE_SECONDS:
            left = f"{self.trial.steps_left} steps of {len(self.trial.batches)} passes"
            return Verdict(
                compiled=False,
                reason=f"{left} are left, of {eager_s:.3g} s each: too few for some "
                f"{COLD_COMPILE_SECONDS:.0f} s of compiling to pay",
                eager_seconds=eager_s,
            )
        found = self._compile()
        return self._weighed(found, eager_s) if found.compiled else found

    def _weighed(self, found: Verdict, eager_s: float) -> Verdict:
        """The verdict on what was compiled and measured, which the run's folder keeps."""
        compiled_s, compile_s = (
            found.compiled_seconds or 0.0,
            found.compile_seconds or 0.0,
        )
        verdict = Verdict(
            compiled=pays(self.trial.passes_left, eager_s, compiled_s, compile_s),
            reason=f"a pass takes {compiled_s:.3g} s, eager {eager_s:.3g} s; compiling "
            f"took {compile_s:.3g} s, and {self.trial.passes_left} passes are left",
            eager_seconds=eager_s,
            compiled_seconds=compiled_s,
            compile_seconds=compile_s,
            about=self.trial.about,
        )
        if self.ranks.is_first:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            artefact.write_text(self.path, json.dumps(asdict(verdict), indent=2) + "\n")
        return verdict

    def _compile(self) -> Verdict:
        """Compiles, by running, so that a step never waits for it."""
        why = self._of_all(self._obstacle())
        if why:
            return Verdict(compiled=False, reason=why)
        seconds = 0.0, 0.0
        try:
            with compiled_in_process():
                self._compiled = layer_call(self.trial.recompute, compiled_layer())
                seconds = self.trial.time(self._compiled)
        except (
            Exception
        ) as error:  # whatever a compiler, its compiler or its disk raise
            why = f"compiling failed: {_first_line(error)}"
        why = self._of_all(why)
        if why:
            return Verdict(compiled=False, reason=why)
        slowest = [max(part) for part in zip(*self.ranks.gather(seconds), strict=True)]
        return Verdict(
            compiled=True,
            reason="as configured, or as the run began",
            compiled_seconds=slowest[0],
            compile_seconds=slowest[1],
        )

    def _obstacle(self) -> str:
        if not self.placement.compiles:
            return "the processes share the layers"
        if not self.trial.learns:
            return "there is nothing to learn in the first step, which is compiled with"
        return obstacle(self.trial.model)

    def _of_all(self, why: str) -> str:
        """The first reason that a process has."""
        return next(filter(None, self.ranks.gather(why)), "")

    def _known(self) -> Verdict | None:
        """What was measured when this run was started before, the same in all processes.

        None also where it was of another one, killed before its first checkpoint.
        """
        text = self.path.read_text("utf-8") if self.path.exists() else ""
        found, about = self.ranks.gather((text, self.trial.about))[0]
        known = Verdict(**json.loads(found)) if found else None
        return known if known is not None and known.about == about else None


def pays(passes: int, eager_s: float, compiled_s: float, compile_s: float) -> bool:
    """Whether so many passes save more than compiling took, by more than noise."""
    saved_s = eager_s - compiled_s
    return saved_s > LEAST_GAIN * eager_s and passes * saved_s > compile_s


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _toml(value: bool) -> str:
    return f"`{str(value).lower()}`"
