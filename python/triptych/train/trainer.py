"""The loop: steps, and what is between them: resuming, stages, checkpoints, going back.

Every stage of training runs here, a step at a time (`stepping`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from triptych.artefact import clear_drafts
from triptych.errors import ConfigError, Interrupted, TrainingDiverged
from triptych.model.recompute import layer_call
from triptych.model.transformer import Transformer
from triptych.train import checkpoint
from triptych.train.averaging import averaged
from triptych.train.batch import DataSource
from triptych.train.checkpoint import TrainState
from triptych.train.compiling import Compiling, Trial
from triptych.train.early_exit import ExitWatch
from triptych.train.gradient import Launched, Launcher
from triptych.train.health import Reading, SpikeWatch
from triptych.train.identity import require_alike, require_same_run, run_identity
from triptych.train.incidents import REWOUND, IncidentLog, documents_of
from triptych.train.measures import peak_flops
from triptych.train.objective import Objective
from triptych.train.optimizer import create_optimizer
from triptych.train.placement import place
from triptych.train.ranks import Ranks
from triptych.train.resume import newest_checkpoint, settled_precision, without
from triptych.train.run_lock import only_run_in
from triptych.train.run_log import RunLog
from triptych.train.saving import Keeping, Saver
from triptych.train.schedule import stage_at
from triptych.train.stepping import Stepping
from triptych.train.train_config import Metrics, TrainConfig, TrainResult

logger = logging.getLogger("triptych.train")


class _Rewind(Exception):
    """Leave the loop and go back to before `steps`, whose data goes; there may be none."""

    def __init__(self, steps: range) -> None:
        super().__init__(steps)
        self.steps = steps


def _tell_broken_off(log: RunLog, error: BaseException) -> None:
    """Says that a run goes no further, but of one that goes back or has said so."""
    if not isinstance(error, (_Rewind, Interrupted)):
        by_hand = isinstance(error, KeyboardInterrupt)
        log.broken_off("interrupted" if by_hand else "failed")


class Trainer(Stepping):
    """Trains `model` in place, from its latest checkpoint where there is one.

    Where torch.distributed is initialised its processes train together (see `Ranks`):
    each calls this with the same arguments, and the first one writes and calls back.

    Args:
        model: float32 weights, on the device to train on.
        objective: what to minimise.
        data: rows by step.
        config: everything else.
        tokenizer_path: a `tokenizer.json` to put into checkpoints.
        on_start: called in every process when it is known that this run goes on here,
            before its first step, and again where it goes back.
        on_step: called after each step with its metrics and `num_steps`.
        on_stage_end: called with (stage name, step, model) before the checkpoint
            that ends the stage, so a kill in between calls it again, with the
            same model, whose weights are the average where the run has one. It must
            leave the model as it was.
        should_stop: asked after each step; if it says so, a checkpoint is written
            and `Interrupted` raised.
        begin_again: gives the model as it was at first, to go back to where there is no
            checkpoint yet; without it such a run ends. Called in every process, of which
            the first one's counts.
    """

    def __init__(
        self,
        model: Transformer,
        objective: Objective,
        data: DataSource,
        config: TrainConfig,
        *,
        tokenizer_path: Path | str | None = None,
        on_start: Callable[[], None] | None = None,
        on_step: Callable[[Metrics], None] | None = None,
        on_stage_end: Callable[[str, int, Transformer], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
        begin_again: Callable[[], Transformer] | None = None,
    ) -> None:
        if data.num_steps != config.num_steps:
            raise ConfigError(
                f"stages: expected {data.num_steps} steps in all, as the data has, "
                f"found {config.num_steps}"
            )
        self.model, self.objective = model, objective
        self.config = config
        self.ranks = self._join()
        require_alike(self.ranks, config, objective, data, model.config)
        model.call_layer = layer_call(config.recompute)
        self.data = self.configured_data = data
        self.tokenizer_path = None if tokenizer_path is None else Path(tokenizer_path)
        self.on_start = on_start
        self.on_step, self.on_stage_end = on_step, on_stage_end
        self.should_stop, self.begin_again = should_stop, begin_again
        self.device = model.output_weight.device
        self.folder = Path(config.output) / "checkpoints"
        self.precision = settled_precision(
            config.precision, self.device, self.folder, self.ranks
        )
        self.placement = place(model, self.ranks, config.parallel, self.precision)
        self.optimizer = create_optimizer(
            model,
            config.optimizer,
            config.stages[0].max_lr,
            in_float32=self.precision.name == "fp32",
        )
        self.placement.adopt(self.optimizer)
        self.placement.average_by(config.average)
        self.scaler = self.precision.scaler(self.ranks.size)
        self.first_scale = self.scaler.state_dict()
        self.launcher = Launcher(
            model, objective, self.precision, self.scaler, self.placement, config.seed
        )
        self.looks_ahead = self._may_look_ahead()
        self._ahead: Launched | None = None  # the next step, if it is launched already
        self.peak_flops, source = peak_flops(self.device, self.precision.dtype)
        logger.info("peak: %.3g operations a second (%s)", self.peak_flops, source)
        self.stages = list(config.stages)
        self.identity = run_identity(config, objective, data, self.precision)
        self.state = TrainState(run=dict(self.identity))
        self.exit_watch, self.spike_watch = ExitWatch(), SpikeWatch()
        self.incidents = IncidentLog(Path(config.output))
        keeping = Keeping(config.keep_checkpoints, config.keep_every_steps)
        self.saver = Saver(
            self.folder,
            self.placement,
            self.tokenizer_path,
            keeping,
            beside=config.async_checkpoints,
        )

    def run(self) -> TrainResult:
        """Trains to the end and returns where that is.

        Raises:
            Interrupted: `should_stop` said so; the same call goes on.
            TrainingDiverged: loss or gradient stayed faulty, also after going back.
            ConfigError: another run trains in this folder.
        """
        with self._only_run():
            self._forget()
            while True:
                try:
                    return self._run()
                except _Rewind as rewind:
                    self.saver.wait()
                    self._leave_out(rewind.steps)
                    if not checkpoint.steps_in(self.folder):
                        self._begin_again()
                finally:
                    self.saver.wait()

    def _forget(self) -> None:
        """Of a run that begins, nothing is left out: it may be another one by now."""
        if self.ranks.is_first and not checkpoint.steps_in(self.folder):
            self.incidents.clear()
        self.ranks.wait()

    def _begin_again(self) -> None:
        """Goes back to before the first step, where there is no checkpoint yet."""
        assert self.begin_again is not None
        self.placement.begin_again(self.begin_again())
        self.optimizer.state.clear()
        self.scaler.load_state_dict(self.first_scale)
        self.state = TrainState(run=dict(self.state.run))
        self.exit_watch, self.spike_watch = ExitWatch(), SpikeWatch()

    def _only_run(self) -> AbstractContextManager[None]:
        """Keeps other runs out of the folder."""
        return only_run_in(Path(self.config.output), self.ranks)

    def _run(self) -> TrainResult:
        last = self._resume()
        left = range(self.state.step, self.num_steps)
        self.ranks.require_shares({self.data.rows_per_step(step) for step in left})
        if self.on_start is not None:
            self.on_start()
        self.placement.start_together()
        metrics: Metrics = {}
        log = RunLog(self.config, self.identity)
        if self.ranks.is_first:
            log.open(self.state.step)
        self.model.train()
        self._compile()
        self._prefetch()
        try:
            while self._goes_on():
                metrics, last = self._advance(log, last)
            last = self._save(log) if last is None else last
            self.saver.wait()
            log.ended(self.num_steps, last, "finished")
        except (KeyboardInterrupt, Exception) as error:
            _tell_broken_off(log, error)
            raise
        finally:
            log.close()
        state = self.state
        return TrainResult(
            state.step,
            last,
            state.tokens,
            state.skipped_steps,
            metrics,
            dict(state.source_tokens),
        )

    def _join(self) -> Ranks:
        """The processes to train with."""
        grid = self.config.parallel
        if grid.elastic is not None:
            kind = type(self).__name__
            raise ConfigError(
                f"parallel.elastic: expected an `ElasticTrainer`, found a `{kind}`; "
                "`trainer_for` gives the one that a configuration needs"
            )
        return Ranks.current(readers=grid.readers, repeaters=grid.tensor)

    def _goes_on(self) -> bool:
        """Whether there is something left to do."""
        return self.state.step < self.num_steps

    def _advance(self, log: RunLog, last: Path | None) -> tuple[Metrics, Path | None]:
        """A step and all that follows from it; its metrics, and the last checkpoint."""
        metrics = self._step(self.state.step)
        self._maybe_exit(metrics["loss"])
        log.report(metrics, self.num_steps, last)
        if self.on_step is not None and self.ranks.is_first:
            self.on_step({**metrics, "num_steps": self.num_steps})
        last = self._maybe_save(last, log)
        self._maybe_stop(last, log)
        return metrics, last

    def _compile(self) -> None:
        """Compiles the layers where that pays, and as the run did before."""
        state, config = self.state, self.config
        trial = Trial(
            self.model,
            self.objective,
            self.precision,
            config.recompute,
            self._micro_batches(0),
            self.num_steps - state.step,
        )
        # Runs that began before there was a choice were not compiled.
        begun = state.run.get("compiled", None if state.step == 0 else False)
        compiling = Compiling(trial, self.placement, Path(config.output))
        state.run["compiled"] = compiling.settle(config.compile, begun)

    def _resume(self) -> Path | None:
        """Goes to the latest checkpoint to go on from; None if there is none."""
        self._set_out()
        folder, newer = newest_checkpoint(self.folder, self.data)
        self.ranks.agree(folder and folder.name, "checkpoint to go on from")
        if folder is None:
            self._settle(newer, 0)
            return None
        self._restore(folder)
        self._settle(newer, self.state.step)
        logger.info("continuing from `%s`", folder)
        return folder

    def _set_out(self) -> None:
        """Rows and stages as configured, without what rewinds left out."""
        self._ahead = None
        self.data = without(self.configured_data, self.incidents.windows())
        self.stages = list(self.config.stages)

    def _restore(self, folder: Path) -> None:
        """Goes to where a checkpoint of this run stands."""
        state = self.placement.load(folder, self.optimizer)
        require_same_run(folder, state.run, self.identity)
        self.scaler.load_state_dict(state.scaler)
        self.state = state
        for index, steps in state.ended_early.items():
            self._end_stage(int(index), steps)
        self.exit_watch = ExitWatch(state.exit_watch)
        self.spike_watch = SpikeWatch(state.spike_watch)

    def _settle(self, newer: Sequence[Path], step: int) -> None:
        """Clears away what is behind `step`, once this is known to be the same run."""
        self.ranks.wait()  # all have read
        if self.ranks.is_first:
            clear_drafts(self.folder)
            self._clear_behind(newer, step)
        self.ranks.wait()

    def _clear_behind(self, newer: Sequence[Path], step: int) -> None:
        for other in newer:
            logger.warning("`%s` has read data that is skipped now", other)
            checkpoint.abandon(other)
        self.incidents.cut(step)

    def _leave_out(self, steps: range) -> None:
        """Enters that the run goes back, and leaves the data of `steps` out, if any."""
        data: Any = self.data
        window = (0, 0)
        if steps:
            window = (data.data_step(steps[0]), data.data_step(steps[-1]) + 1)
        logger.warning(
            "step %d: going back; steps left out: %d", steps.start + 1, len(steps)
        )
        self._enter(
            {
                "step": steps.start + 1,
                "action": REWOUND,
                "data_steps": window,
                "documents": [x for step in steps for x in documents_of(data, step)],
            }
        )

    def _check_bad_steps(self, step: int, reading: Reading) -> None:
        if not reading.is_finite and not self._is_sound():
            self._go_back_or_end(step, "no data is at fault")
        if self.state.bad_steps < self.config.max_bad_steps:
            return
        first = self.state.first_bad_step
        if hasattr(self.data, "skipping") and self._can_go_back(first):
            raise _Rewind(range(first, step + 1))
        raise TrainingDiverged(
            f"step {step + 1}: expected a finite loss and gradient within "
            f"{self.config.max_bad_steps} steps, found loss {reading.loss} and norm "
            f"{reading.grad_norm}; {self._whose_fault(reading)}"
        )

    def _whose_fault(self, reading: Reading) -> str:
        """Where to look, after too many steps; what overflows fp16 is no incident."""
        overflows = math.isfinite(reading.loss) and not reading.is_finite
        if self.scaler.is_enabled() and overflows:
            return (
                f"gradients overflow fp16 at every scale down to "
                f"{self.scaler.get_scale():g}: choose `bf16` or `fp32` as `precision`"
            )
        return f"the documents are named in `{self.incidents.path}`"

    def _can_go_back(self, step: int) -> bool:
        """Whether rewinds are left, and a checkpoint from before `step`, or a beginning."""
        if len(self.incidents.rewinds()) >= self.config.max_rewinds:
            return False
        self.saver.wait()
        self.ranks.wait()  # the one that writes has written
        kept = checkpoint.steps_in(self.folder)
        if not kept:
            return self.begin_again is not None
        return any(checkpoint.step_of(x) <= step for x in kept)

    def _is_sound(self) -> bool:
        """Whether no process has a weight or moment that is not finite."""
        return all(self.ranks.gather(self.placement.is_finite(self.optimizer)))

    def _go_back_or_end(self, step: int, note: str) -> NoReturn:
        """Goes back from what is in memory to a checkpoint; the data is not at fault.

        Without one every later step would be left out, and its documents accused.
        """
        if self._can_go_back(step):
            raise _Rewind(range(step, step))
        raise TrainingDiverged(
            f"step {step + 1}: expected weights and moments that are finite, found some "
            f"that are not; {note}; started again, the run goes on from `{self.folder}`"
        )

    def _require_sound(self) -> None:
        """Lets nothing be saved, instead of a better checkpoint, that is not finite."""
        if not self._is_sound():
            self._go_back_or_end(self.state.step - 1, "they were not saved")

    def _maybe_exit(self, loss: float) -> None:
        """Ends the present stage here if its exit condition is met."""
        index, step_in_stage = stage_at(self.stages, self.state.step - 1)
        steps = step_in_stage + 1
        ends = self.config.exits[index] if self.config.exits else None
        if ends is None or steps == self.stages[index].steps:
            self.exit_watch = ExitWatch()  # the next stage begins afresh
            return
        met = self.exit_watch.met(ends.condition, loss)
        if met and steps >= ends.earliest_steps:
            logger.info(
                "stage `%s` ends early, after %d steps", self.stages[index].name, steps
            )
            self._end_stage(index, steps)
            self.state.ended_early[str(index)] = steps
            self.exit_watch = ExitWatch()

    def _end_stage(self, index: int, steps: int) -> None:
        """Shortens a stage; what its schedule and its rows were up to there stays."""
        self.stages[index] = replace(self.stages[index], steps=steps)
        ended = getattr(self.data, "ended_early", None)
        if ended is None:
            kind = type(self.data).__name__
            raise ConfigError(f"exits: expected data with `ended_early`, found {kind}")
        self.data = ended(index, steps)
        self._ahead = None
        self._prefetch()

    def _maybe_save(self, last: Path | None, log: RunLog) -> Path | None:
        """Saves where it is time, after telling that a stage has ended."""
        index, step_in_stage = stage_at(self.stages, self.state.step - 1)
        ended = step_in_stage + 1 == self.stages[index].steps
        due = self.state.step % self.config.checkpoint_every_steps == 0
        due = due and self.state.bad_steps == 0  # or it would replace a better one
        if not (due or ended):
            return last
        self._require_sound()
        if ended:
            self._tell_end(self.stages[index].name)
        return self._save(log)

    def _tell_end(self, stage: str) -> None:
        """Lets a stage's model be looked at."""
        self.spike_watch = SpikeWatch()  # other data may have another level
        if self.on_stage_end is None:
            return
        with averaged(self.placement.average):
            whole = self.placement.whole_model()
            if self.ranks.is_first and whole is not None:
                self.on_stage_end(stage, self.state.step, whole)
        self.model.train()

    def _maybe_stop(self, last: Path | None, log: RunLog) -> None:
        asked = self.should_stop is not None and self.should_stop()
        if not any(self.ranks.gather(asked)) or self.state.step >= self.num_steps:
            return
        name = f"step-{self.state.step:08d}"
        if last is None or last.name != name:
            self._require_sound()
            self._save(log)
        self.saver.wait()
        log.ended(self.num_steps, self.folder / name, "interrupted")
        raise Interrupted(f"stopped after step {self.state.step}: run again to go on")

    def _save(self, log: RunLog) -> Path:
        log.wait()  # or a kill would leave a checkpoint without its step's line
        self.saver.save(self.optimizer, self._whole_state())
        self.ranks.wait()
        return self.folder / f"step-{self.state.step:08d}"

    def _whole_state(self) -> TrainState:
        """Where the run stands, with what others keep for it."""
        self.state.scaler = self.scaler.state_dict()
        self.state.exit_watch = self.exit_watch.state()
        self.state.spike_watch = self.spike_watch.state()
        self.state.skip = [list(window) for window in getattr(self.data, "skip", ())]
        return self.state
