"""What the three training commands share: from settings to a Trainer that runs."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych import artefact, config
from triptych._core import Tokenizer
from triptych.commands.settings import TrainingSettings
from triptych.commands.stopping import TerminationNotice
from triptych.curriculum import ScheduleName, StageConfig
from triptych.data import OrderedRows, require_same_tokenizer
from triptych.errors import ConfigError, IntegrityError
from triptych.model import Transformer
from triptych.train import Objective, TrainConfig, TrainResult, trainer_for
from triptych.train.checkpoint import steps_in
from triptych.train.metrics import EVALUATIONS
from triptych.train.parallel import ParallelConfig
from triptych.train.ranks import Ranks, is_first_process, joined, num_processes
from triptych.train.router_balance import balanced

logger = logging.getLogger("triptych.train")

Schedule = ScheduleName
RUN_FILE = "run.json"
TOKENS_FILE = "tokens.json"


@dataclass(frozen=True)
class Watch:
    """What a caller wants to be told while a Trainer runs, and how far it is to go.

    At `stop_at_step` it saves a checkpoint and raises `Interrupted`.
    """

    on_step: Callable[[Mapping[str, Any]], None] | None = None
    on_stage_end: Callable[[str, int, Transformer], None] | None = None
    stop_at_step: int | None = None

    def stops_at(self, step: int) -> bool:
        """Whether a run that has done `step` steps is to stop."""
        return self.stop_at_step is not None and step >= self.stop_at_step


def train(
    model: Transformer,
    objective: Objective,
    data: OrderedRows,
    settings: TrainConfig,
    *,
    tokenizer_path: str | Path,
    resolved: TrainingSettings,
    watch: Watch,
    begin_again: Callable[[], Transformer],
) -> TrainResult:
    """Writes the resolved settings into the run, then trains or goes on training.

    `begin_again` gives the model as it is before the first step.

    Raises:
        Interrupted: SIGTERM came; a checkpoint is saved, the same call goes on.
    """
    check_data(data, tokenizer_path)
    output = Path(settings.output)
    several = settings.parallel.elastic is not None
    table = config.to_mapping(resolved)
    with joined(), TerminationNotice() as notice:
        trainer = trainer_for(settings)(
            model,
            balanced(objective, model, resolved.router_aux_loss_coef),
            data,
            settings,
            tokenizer_path=tokenizer_path,
            on_start=lambda: _start(output, table, by_several=several),
            on_step=watch.on_step,
            on_stage_end=watch.on_stage_end,
            should_stop=lambda: notice.received() or watch.stops_at(trainer.state.step),
            begin_again=begin_again,
        )
        result = trainer.run()
    skip = [(first, end) for first, end in trainer.state.skip]
    planned = data if skip == list(data.skip) else data.skipping(skip)
    read = planned
    for stage, steps in trainer.state.ended_early.items():
        read = read.ended_early(int(stage), steps)
    tokens = account(planned, read, result)
    _write_json(output / TOKENS_FILE, tokens, by_several=several)
    return result


def _start(output: Path, table: Any, *, by_several: bool) -> None:
    """Writes the settings of a run that goes on here, or begins.

    What one that was killed before its first checkpoint left of evaluations is of another
    model; where a run has its own, its first line has taken their place already.
    """
    begins = not steps_in(output / "checkpoints")
    if is_first_process() and begins and not table.get("evaluation"):
        (output / EVALUATIONS).unlink(missing_ok=True)
    _write_json(output / RUN_FILE, table, by_several=by_several)


def _write_json(path: Path, values: Any, *, by_several: bool) -> None:
    """Writes a file of the run, in the process that writes for all, or in every copy."""
    if is_first_process():
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(values, indent=2) + "\n"
        artefact.write_text(path, text, by_several=by_several)


# A key that the settings of each command alone have.
_OWN_KEYS = {"pretrain": "sources", "sft": "conversations", "dpo": "preferences"}


def require_no_file_at(folder: Path) -> None:
    """Refuses a folder in whose place, or in one that it would lie in, there is a file.

    Raises:
        ConfigError: naming the file.
    """
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise ConfigError(
                f"output: expected a folder, or a place for a new one, found "
                f"`{place}`, a file; choose another folder"
            )


def require_run_folder(output: str, command: str) -> None:
    """Refuses what is no folder for a run: a file, an artefact, or another command's run.

    A run beside the shards that it reads, say, is no longer told from them; and what `sft`
    renders has no place in a run of `pretrain`, which it cannot go on with.

    Raises:
        ConfigError: naming what is there.
    """
    folder = Path(output)
    require_no_file_at(folder)
    other = _other_command(folder, command)
    if (folder / artefact.FILE_NAME).exists():
        found = f"an artefact, with a `{artefact.FILE_NAME}`"
    elif other is not None:
        found = f"a run of `triptych {other}`"
    else:
        return
    raise ConfigError(
        f"output: expected a new folder, or that of a run of `triptych {command}`, found "
        f"`{output}`, {found}; choose another folder"
    )


def require_processes(
    parallel: ParallelConfig, data: OrderedRows | None = None
) -> None:
    """Refuses processes that do not go with the grid, or with the rows of each step.

    The trainer does too, but after what takes time: rendering, a start from counts.

    Raises:
        ConfigError: naming the nearest numbers.
    """
    size = num_processes()
    parallel.shape(size)
    if data is not None and parallel.elastic is None:
        rows = {data.rows_per_step(step) for step in range(data.num_steps)}
        Ranks(size=size, readers=parallel.readers).require_shares(rows)


def _other_command(folder: Path, command: str) -> str | None:
    """Which other command's run has checkpoints in a folder; None for none."""
    if not (folder / RUN_FILE).is_file() or not steps_in(folder / "checkpoints"):
        return None
    keys = artefact.read_json(folder / RUN_FILE)
    names = [name for name, key in _OWN_KEYS.items() if key in keys]
    return names[0] if names and command not in names else None


def require_one_process(command: str) -> None:
    """Refuses what one process is to do alone.

    Raises:
        ConfigError: `torchrun` started more than one.
    """
    if num_processes() > 1:
        raise ConfigError(
            f"processes: expected 1 for `triptych {command}`, found {num_processes()}: "
            "`triptych pretrain`, `sft` and `dpo` train in several"
        )


def require_fixed(parallel: ParallelConfig, command: str) -> None:
    """Refuses copies that come and go.

    Raises:
        ConfigError: `parallel.elastic` is set.
    """
    if parallel.elastic is not None:
        raise ConfigError(
            f"parallel.elastic: expected none for `triptych {command}`, found "
            f'"{parallel.elastic}": only the copies of `triptych pretrain` may come and go'
        )


def account(
    planned: OrderedRows, read: OrderedRows, result: TrainResult
) -> dict[str, Any]:
    """Tokens of each source: planned, left out by stages that ended early, consumed.

    Raises:
        IntegrityError: if a source's do not add up.
    """
    at_first, at_last = planned.planned_tokens(), read.planned_tokens()
    sources = {
        name: {
            "planned": tokens,
            "left_out": tokens - at_last[name],
            "consumed": result.source_tokens.get(name, 0),
        }
        for name, tokens in at_first.items()
    }
    for name, counts in sources.items():
        expected = counts["planned"] - counts["left_out"]
        if counts["consumed"] != expected:
            raise IntegrityError(
                f"source `{name}`: expected {expected} tokens to be consumed, as planned, "
                f"found {counts['consumed']}"
            )
    return {"steps": result.step, "sources": sources}


def check_data(data: OrderedRows, tokenizer_path: str | Path) -> None:
    """Refuses sources whose tokens another tokenizer made."""
    sha256 = Tokenizer.from_file(str(tokenizer_path)).sha256
    require_same_tokenizer(data.sources, sha256)


def steps_for(
    folder: str | Path, *, epochs: float, batch_size: int, seq_len: int
) -> int:
    """Steps of `batch_size` rows that read a shard folder `epochs` times; at least 1.

    Steps are whole, so epochs are rounded; where one step alone reads more than twice
    what was asked for, that is said.
    """
    probe = StageConfig(stage="probe", learning_rate=1.0, batch_size=1, steps=1)
    order = OrderedRows({"data": folder}, [probe], seed=0, seq_len=seq_len)
    (source,) = order.report()["sources"]
    rows: int = source["packings"][0]["rows"]
    steps = max(1, round(epochs * rows / batch_size))
    read = steps * batch_size / rows
    if read > 2 * epochs and is_first_process():
        logger.warning(
            "batch_size: %d rows a step are more than the %d that %g epochs of %d rows "
            "have: the run's one step reads %.4g epochs; a batch_size of at most %d "
            "reads as many as asked for",
            batch_size,
            epochs * rows,
            epochs,
            rows,
            read,
            max(1, epochs * rows),
        )
    return steps
