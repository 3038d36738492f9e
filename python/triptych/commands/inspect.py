"""`triptych inspect order`: which documents a training step is made of."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych import config
from triptych.commands.pretrain import PretrainConfig, order
from triptych.commands.training import RUN_FILE
from triptych.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class InspectConfig:
    """Which step (from 0) of which pre-training run."""

    run: str
    step: int


def inspect(settings: InspectConfig) -> dict[str, Any]:
    """The rows of a step: source, id, start and length of each segment, and its hash.

    Raises:
        ConfigError: if there is no such run, or no such step in it.
    """
    path = Path(settings.run) / RUN_FILE
    if not path.is_file():
        raise ConfigError(
            f"no run at `{settings.run}`: expected a folder with `{RUN_FILE}`"
        )
    table = json.loads(path.read_text(encoding="utf-8"))
    rows = order(config.from_mapping(PretrainConfig, table, name=str(path)))
    return {
        "step": settings.step,
        "hash": rows.step_hash(settings.step),
        "rows": rows.named_rows(settings.step),
    }


def run(options: argparse.Namespace) -> int:
    """The command's door from the shell."""
    found = inspect(InspectConfig(run=options.run, step=options.step))
    if options.json:
        print(json.dumps(found, ensure_ascii=False))
        return 0
    print(f"step {found['step']}, hash {found['hash']}")
    for number, row in enumerate(found["rows"]):
        for segment in row:
            print(
                f"{number:>5}  {segment['source']:<16} {segment['start']:>8} "
                f"{segment['length']:>6}  {segment['id']}"
            )
    return 0
