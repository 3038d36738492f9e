"""Trains the points of a ladder through the normal path, each in its own folder."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from triptych import artefact
from triptych._core import Tokenizer
from triptych.commands.pretrain import PretrainConfig, order, pretrain
from triptych.commands.training import RUN_FILE, Watch
from triptych.data import TokenShards, stored_batches
from triptych.errors import ConfigError, InputError
from triptych.evaluate import EVAL_BATCH_TOKENS, text_bytes
from triptych.miniseries.points import FREE, TARGET, Point
from triptych.tokens import local_shards
from triptych.train import checkpoint
from triptych.train.batch import data_fingerprint
from triptych.train.identity import DATA
from triptych.train.metrics import EVALUATIONS, EvaluationLog

HELD_OUT = "held-out.json"  # in the ladder's folder: of each set its manifest's hash
StepWatch = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class HeldOut:
    """The evaluation sets of a run, all together: what turns bits a byte into nats."""

    settings: PretrainConfig

    @cached_property
    def tokens(self) -> int:
        """Tokens that are predicted."""
        seq_len = self.settings.seq_len
        return sum(
            int((batch.labels >= 0).sum())
            for shards in self._sets
            for batch in stored_batches(
                shards, seq_len=seq_len, batch_tokens=EVAL_BATCH_TOKENS
            )
        )

    @cached_property
    def bytes(self) -> int:
        """UTF-8 bytes of their text."""
        tokenizer = Tokenizer.from_file(self.settings.tokenizer)
        return sum(text_bytes(shards, tokenizer) for shards in self._sets)

    @property
    def nats_per_bit(self) -> float:
        """Nats a token of one bit a byte."""
        return math.log(2) * self.bytes / self.tokens

    @property
    def _sets(self) -> list[TokenShards]:
        return [TokenShards(folder) for folder in self.settings.evaluation.values()]


def bits_of(point: Point) -> float | None:
    """Held-out bits a byte at a point's last step; None if it has not come there.

    Raises:
        ConfigError: the folder holds a run of other settings.
        InputError: the run ended with weights that have no loss.
    """
    folder = Path(point.settings.output)
    lines = EvaluationLog(folder).read() if folder.is_dir() else []
    done = [line for line in lines if line["step"] == point.steps]
    if not done:
        return None
    _require_same(folder / RUN_FILE, point)
    bits = done[-1]["bits_per_byte"]["all"]
    if bits is None:
        raise InputError(
            f"run `{point.name}`: expected a held-out loss, found one that is not finite "
            f"in `{folder}`: lower its learning rate, or leave it out of [ladder]"
        )
    return float(bits)


def train_point(point: Point, on_step: StepWatch | None = None) -> float:
    """Trains a point, or goes on, unless it stands; returns held-out bits a byte.

    Raises:
        Interrupted: SIGTERM came; the same call goes on.
        ConfigError: the run that stands was trained on other rows.
    """
    found = bits_of(point)
    if found is not None:
        _require_same_rows(point)
        return found
    pretrain(point.settings, Watch(on_step=on_step))
    found = bits_of(point)
    if found is None:
        raise ConfigError(
            f"run `{point.name}`: expected it to end at step {point.steps}, found that it "
            "ended elsewhere: its data may be too short"
        )
    return found


def require_same_text(folder: Path, settings: PretrainConfig) -> None:
    """Refuses a ladder whose runs were measured on other held-out text.

    What it was stands in a file of the ladder's folder, written as long as none was.

    Raises:
        ConfigError: naming the sets that were made anew.
    """
    path = folder / HELD_OUT
    own = {name: _manifest_of(sets) for name, sets in settings.evaluation.items()}
    if not path.is_file() or not _any_measured(folder):
        folder.mkdir(parents=True, exist_ok=True)
        artefact.write_text(path, json.dumps(own, indent=2) + "\n")
        return
    known = artefact.read_json(path)
    other = sorted(name for name in own if known.get(name, own[name]) != own[name])
    if other:
        raise ConfigError(
            f"evaluation.{other[0]}: expected the text that the runs in `{folder}` were "
            f"measured on, found that `{settings.evaluation[other[0]]}` was made anew: "
            "choose another `output`, or remove the folder to train them again"
        )


def _any_measured(folder: Path) -> bool:
    runs = [*folder.glob("points/*"), folder / TARGET]
    return any((run / EVALUATIONS).is_file() for run in runs)


def _manifest_of(folder: str) -> str:
    manifest = Path(local_shards(folder)) / artefact.FILE_NAME
    return hashlib.sha256(manifest.read_bytes()).hexdigest()


def _require_same_rows(point: Point) -> None:
    """Refuses a run whose shards were made anew since, if it still has its checkpoint."""
    folder = Path(point.settings.output)
    last = folder / "checkpoints" / f"step-{point.steps:08d}"
    if not last.is_dir():
        return
    rows = data_fingerprint(order(point.settings))
    if checkpoint.read_state(last).run.get(DATA) != rows:
        raise ConfigError(
            f"`{folder}`: expected the rows of this ladder's run `{point.name}`, found "
            "that it was trained on other rows, as where shards were made anew: remove "
            "the folder to train it again, or choose another `output`"
        )


def _require_same(path: Path, point: Point) -> None:
    found = json.loads(path.read_text(encoding="utf-8"))
    expected = point.identity()
    keys = {*found, *expected} - {*FREE}
    other = sorted(key for key in keys if found.get(key) != expected.get(key))
    if other:
        raise ConfigError(
            f"`{path}`: expected the settings of this ladder's run `{point.name}`, found "
            f"another {' and another '.join(f'`{key}`' for key in other)}: choose another "
            "`output`, or remove the folder to train it again"
        )
