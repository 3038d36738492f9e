"""Training in copies of the model that may die and join while the run goes on.

Every step begins with a quorum: who takes part, who is behind, who writes. If a copy is
lost before the step is done, the others do it again with the same rows, shared anew. What
a step gives is a sum divided once, so who took part changes rounding and nothing else.
"""

from __future__ import annotations

import logging
import os
from contextlib import AbstractContextManager, nullcontext
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triptych.errors import ConfigError, IntegrityError, Interrupted
from triptych.train import checkpoint
from triptych.train.checkpoint import Snapshot
from triptych.train.ranks import CopyLost, Ranks, num_processes
from triptych.train.run_log import RunLog
from triptych.train.train_config import Metrics, TrainConfig, TrainResult
from triptych.train.trainer import Trainer

if TYPE_CHECKING:
    from triptych.train.copies import Copies

LIGHTHOUSE = "TORCHFT_LIGHTHOUSE"
# Newest lines of the metrics that every copy remembers, lest the one that writes die with
# them. It is behind by two at most.
REMEMBERED = 16

# How often a checkpoint is looked for.
ATTEMPTS = 3

logger = logging.getLogger("triptych.train")


def trainer_for(config: TrainConfig) -> type[Trainer]:
    """The kind of Trainer that a configuration needs."""
    return Trainer if config.parallel.elastic is None else ElasticTrainer


class ElasticTrainer(Trainer):
    """A Trainer that goes on where others like it die or join; arguments as there.

    Every copy is a process of its own, with the same arguments and one shared folder.
    The first of a quorum writes and calls back. One whose `should_stop` says so leaves
    before the next step, and the others go on; if it is said by all, a checkpoint is
    written.

    Raises:
        ConfigError: torchft is not installed, no lighthouse is named, or the
            configuration asks for what copies that may die do not have.
    """

    copies: Copies

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        if self.scaler.is_enabled():
            raise ConfigError(
                "precision: expected `fp32` or `bf16` with `parallel.elastic`, found "
                "`fp16`: its scale of gradients does not go back with a step"
            )
        self._newer: list[Path] = []
        self._lines: dict[int, Metrics] = {}
        self._is_open = False  # whether steps were done that no quorum has closed

    def run(self) -> TrainResult:
        """Trains to the end, with whatever copies there are, and returns where that is.

        Raises:
            Interrupted: `should_stop` said so; the same call joins again, or goes on.
            TrainingDiverged: loss or gradient stayed faulty.
            ConnectionError: the lighthouse is not reached, or gives no quorum.
            IntegrityError: copies that should be at one point are not.
        """
        try:
            return super().run()
        finally:
            self.copies.leave()

    def _only_run(self) -> AbstractContextManager[None]:
        return nullcontext()  # copies share the folder, and agree on who writes

    def _forget(self) -> None:
        """Nothing: others may have begun long ago, and none goes back."""

    def _join(self) -> Ranks:
        _require_elastic()
        # Its engine tells every quorum on standard error, unless told not to.
        os.environ.setdefault("RUST_LOG", "warn")
        # Here, since torchft is an extra.
        from triptych.train.copies import Copies

        output = Path(self.config.output)
        self.copies = Copies(output, self._taken, self._heal)
        return self.copies

    def _resume(self) -> Path | None:
        """As there; the first may remove an old checkpoint just when it is read."""
        for _ in range(ATTEMPTS - 1):
            try:
                return super()._resume()
            except (IntegrityError, OSError) as error:
                logger.warning("looking for another checkpoint: %s", error)
        return super()._resume()

    def _taken(self) -> Snapshot:
        """The run as it stands, for a copy that is behind."""
        return checkpoint.take(
            self.model,
            self.optimizer,
            self._whole_state(),
            copied=False,
            average=self.placement.average,
        )

    def _heal(self, folder: Path) -> None:
        """Goes to where the others stand."""
        self._newer = []  # the others have dealt with what this copy found
        self._set_out()
        self._restore(folder)
        self._is_open = True
        logger.info("joined at step %d", self.state.step)

    def _may_look_ahead(self) -> bool:
        return False  # the next step's rows are not known before its quorum

    def _prefetch(self) -> None:
        pass  # for the same reason

    def _compile(self) -> None:
        """Compiles if told to: measured, copies would come to different answers."""
        if self.config.compile == "auto":
            self.state.run.setdefault("compiled", False)
        super()._compile()

    def _settle(self, newer: Any, step: int) -> None:
        self._newer = list(newer)  # for the one that will be first, see `_take_over`

    def _goes_on(self) -> bool:
        return super()._goes_on() or self._is_open

    @property
    def _present(self) -> Path:
        """The checkpoint of the step that this copy is at, if it is written."""
        return self.folder / f"step-{self.state.step:08d}"

    def _advance(self, log: RunLog, last: Path | None) -> tuple[Metrics, Path | None]:
        """A step that may have to be done again; after the last one, the end of all."""
        try:
            self._meet(log)
            if not super()._goes_on():
                last = self._close()
            else:
                metrics, last = super()._advance(log, last)
                self._remember({metrics["step"]: metrics})
                if self.copies.is_first:
                    self.copies.clear()
        except CopyLost as lost:
            logger.warning("step %d: done again: %s", self.state.step + 1, lost)
            self.copies.give_up(str(lost))
            # The last checkpoint is written after the last line: others closed the run.
            self._is_open &= super()._goes_on() or not self._present.exists()
        return self._lines.get(self.state.step, {}), last

    def _meet(self, log: RunLog) -> None:
        """Who takes part, from one state; who writes; who leaves."""
        is_new = self._is_new_quorum(log)
        if is_new:
            log.leave()  # before another one opens it, and writes a checkpoint
            self.saver.wait()
        told = self.copies.gather(self._told(is_new))
        self._require_one_state(told)
        for each in told:
            self._remember({line["step"]: line for line in each["lines"]})
        if self.copies.is_first and not log.is_open:
            self._take_over(log)
        self._let_leave([each["leaves"] for each in told], log)

    def _is_new_quorum(self, log: RunLog) -> bool:
        try:
            return self.copies.meet(self.state.step)
        except ConnectionError:
            # Nobody goes on without a lighthouse, but nothing is lost by it.
            if self.copies.is_first:
                self._save_present(log)
            raise

    def _told(self, is_new: bool) -> dict[str, Any]:
        asked = self.should_stop is not None and self.should_stop()
        return {
            "at": f"step {self.state.step}, hash {self.state.rolling_hash:016x}",
            "by": self.copies.done_by,
            "leaves": asked,
            "lines": list(self._lines.values()) if is_new else [],
        }

    def _require_one_state(self, told: list[dict[str, Any]]) -> None:
        """Ends this copy if most, or in doubt the first, are elsewhere.

        That is at another step, or where another quorum has come to: by other sums.
        """
        by = [each["by"] for each in told if each["by"] is not None]
        usual_by = max(by, key=by.count, default=None)
        places = [
            f"{each['at']}, by quorum {usual_by if each['by'] is None else each['by']}"
            for each in told
        ]
        usual, own = max(places, key=places.count), places[self.copies.rank]
        if own != usual:
            raise IntegrityError(
                f"copies: expected this one to be with the others, at {usual}, found it "
                f"at {own}; started again it joins them"
            )
        if places.count(usual) < len(places):
            raise CopyLost("a copy was elsewhere")

    def _remember(self, lines: dict[int, Metrics]) -> None:
        every = {**lines, **self._lines}
        self._lines = {step: every[step] for step in sorted(every)[-REMEMBERED:]}

    def _take_over(self, log: RunLog) -> None:
        """What the first does that has just become it: nothing is lost or double."""
        step = self.state.step
        self._clear_behind(self._newer, step)
        self._newer = []
        written = log.open(step)
        for line in self._lines.values():
            if written < line["step"] <= step:
                log.report(line, self.num_steps, None)
        if step and not self._present.exists():
            self._maybe_save(None, log)  # where it was due
        log.wait()

    def _let_leave(self, leaves: list[bool], log: RunLog) -> None:
        """Ends this copy, or the attempt, where one was asked to stop."""
        if not any(leaves) or not super()._goes_on():
            return
        if all(leaves) and self.copies.is_first:
            self._save_present(log)
            log.ended(self.num_steps, self._present, "interrupted")
            self.copies.clear()
        if leaves[self.copies.rank]:
            raise Interrupted(
                f"left after step {self.state.step}: run again to join or to go on"
            )
        raise CopyLost("a copy was asked to stop")

    def _is_sound(self) -> bool:
        """Whether this copy is: one that is not ends alone, and the others go on."""
        return self.placement.is_finite(self.optimizer)

    def _save_present(self, log: RunLog) -> None:
        if not self._present.exists():
            self._require_sound()
            self._save(log)
        self.saver.wait()

    def _conclude(self, fault: str | None) -> None:
        self.copies.commit()
        self._is_open, self._newer = True, []
        super()._conclude(fault)

    def _maybe_stop(self, last: Path | None, log: RunLog) -> None:
        pass  # asked before the next step, see `_let_leave`

    def _close(self) -> Path:
        """Ends a run whose steps are done: all wait until the first has written.

        Returns the last checkpoint.
        """
        self.saver.wait()
        self.copies.gather(None)
        self._is_open = False
        return self._present


def _require_elastic() -> None:
    """Checks what torchft needs.

    Raises:
        ConfigError: it is not installed, has no lighthouse, or would be one of several.
    """
    if util.find_spec("torchft") is None:
        raise ConfigError(
            "parallel.elastic: expected torchft to be installed, found no such module: "
            "`pip install 'triptych[ft]'`"
        )
    if not os.environ.get(LIGHTHOUSE):
        raise ConfigError(
            f"{LIGHTHOUSE}: expected the address of a lighthouse with "
            "`parallel.elastic`, such as `http://host:29510`, found none; "
            "`torchft_lighthouse --min_replicas 1` is one"
        )
    if num_processes() > 1:
        raise ConfigError(
            "processes: expected every copy to be started alone with "
            f"`parallel.elastic`, found one of {num_processes()} by `torchrun`"
        )
