"""The first steps of a run, run for real: what they take and how long saving lasts.

In a process of its own, whose memory is the run's alone.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych import config
from triptych.artefact import FILE_NAME
from triptych.commands.pretrain import PretrainConfig
from triptych.curriculum import StageConfig
from triptych.errors import ConfigError
from triptych.planner.memory import largest_stage, micro_batch
from triptych.train.metrics import LOG, read_metrics
from triptych.train.parallel import ParallelConfig
from triptych.train.tracking import TrackingConfig

PROBE_STEPS = 4  # the first one warms up; the median of the others counts
# Moments are made at the end of the first; beside the second they are there.
LARGEST_STEPS = 2


@dataclass(frozen=True)
class Probe:
    """Measured on this machine.

    Attributes:
        step_seconds: a step of the first stage.
        tokens_per_second: tokens of documents, padding left out.
        memory_mib: most that the process held, saving and, where later steps compute
            more at once than the first, two of the largest included.
        save_seconds: writing a checkpoint.
        mfu: share of the device's peak (see `train.measures`).
    """

    step_seconds: float
    tokens_per_second: float
    memory_mib: float
    save_seconds: float
    mfu: float


def measure(settings: PretrainConfig, steps: int = PROBE_STEPS) -> Probe:
    """Trains some steps in a scratch folder.

    Raises:
        ConfigError: the run cannot be started; what it said.
    """
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "run"
        settings = _alone(settings, str(output))
        largest = _largest(settings)
        settings = _steady(settings, steps)
        if largest is not None:
            settings = _of_stages(settings, (largest, *settings.stages))
        before = 0 if largest is None else LARGEST_STEPS
        request = {"settings": config.to_mapping(settings), "steps": before + steps}
        done = subprocess.run(
            [sys.executable, "-m", __name__],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = (done.stderr.strip() or "nothing").splitlines()[-1]
            raise ConfigError(f"plan: expected {steps} steps to train, found: {said}")
        return _read(output, before, float(done.stdout.split()[-1]))


def _alone(settings: PretrainConfig, output: str) -> PretrainConfig:
    """In one process, which reads no evaluation sets and tells no tracker."""
    stages = tuple(dataclasses.replace(s, evaluation=None) for s in settings.stage)
    model = dataclasses.replace(settings.model, start="random")  # as fast, sooner there
    return dataclasses.replace(
        settings,
        output=output,
        stage=stages,
        evaluation={},
        model=model,
        parallel=ParallelConfig(),  # one process runs it
        tracking=TrackingConfig(),
    )


def _largest(settings: PretrainConfig) -> StageConfig | None:
    """Steps of most memory, where they are not the first ones already."""
    first = settings.stages[0]
    _, rows = first.batches()[0]
    size, stage = largest_stage(settings)
    if micro_batch(settings, rows, first.seq_len or settings.seq_len) == size:
        return None
    # Longer than each of theirs, as every stage of a run has a name of its own.
    name = " and ".join(["before", *(other.name for other in settings.stages)])
    return _constant(stage, stage=name, steps=LARGEST_STEPS)


def _steady(settings: PretrainConfig, steps: int) -> PretrainConfig:
    """The run, of whose first batch there are as many steps as are measured.

    Else a batch that soon grows, or another stage, would pass for the first one.
    """
    first, *others = settings.stages
    there, rows = first.batches()[0]
    if there >= steps:
        return settings
    longer = _constant(first, stage=first.name, steps=steps, batch_size=rows)
    return _of_stages(settings, (longer, *others))


def _constant(like: StageConfig, **changes: Any) -> StageConfig:
    """The stage, of as many steps as it is told, that are all alike."""
    return dataclasses.replace(
        like,
        tokens=None,
        data_fraction=None,
        batch_ramp=None,
        warmup_steps=0,
        ramp_steps=0,
        exit=None,
        **changes,
    )


def _of_stages(
    settings: PretrainConfig, stages: tuple[StageConfig, ...]
) -> PretrainConfig:
    """The same run over other stages, which count for no limit of passes."""
    return dataclasses.replace(
        settings,
        stage=stages,
        tokens=None,
        batch_tokens=None,
        learning_rate=None,
        max_epochs={},
        skip=(),
    )


def _read(output: Path, before: int, memory_mib: float) -> Probe:
    lines = read_metrics(output)[before:]
    warm = lines[1:] or lines

    def median(key: str) -> float:
        return float(statistics.median(line[key] for line in warm))

    # The last one: a run may save, or end a stage, within these steps as well.
    saved = max((output / "checkpoints").glob(f"step-*/{FILE_NAME}"))
    # The last thing before saving; the status is written behind it once more.
    written = (output / LOG).stat().st_mtime
    return Probe(
        step_seconds=median("step_seconds"),
        tokens_per_second=median("tokens_per_second"),
        memory_mib=memory_mib,
        save_seconds=max(saved.stat().st_mtime - written, 0.0),
        mfu=median("mfu"),
    )


def main() -> None:
    """Trains what standard input says and prints the peak of memory."""
    from triptych.commands.pretrain import pretrain
    from triptych.commands.training import Watch
    from triptych.device import local_device
    from triptych.errors import Interrupted
    from triptych.train.measures import peak_memory_mib

    request: dict[str, Any] = json.load(sys.stdin)
    settings = config.from_mapping(PretrainConfig, request["settings"])
    try:
        pretrain(settings, Watch(stop_at_step=request["steps"]))
    except Interrupted:
        pass  # after the steps that were asked for
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    print(peak_memory_mib(local_device(settings.device)))


if __name__ == "__main__":
    main()
