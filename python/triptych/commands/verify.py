"""`triptych verify`: every artefact under a folder against its manifest.

With `--resume-at` also whether the run that the folder holds resumes bitwise.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych import artefact
from triptych.errors import ConfigError, shown

# Folders that are a checkpoint by their name, also without a manifest.
_CHECKPOINT = re.compile(r"(abandoned-)?step-[0-9]+")


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """Which folder to check, with everything below it."""

    folder: str


def verify(config: VerifyConfig) -> dict[str, str]:
    """Checks sizes and hashes; the value of each artefact is `good` or what is wrong.

    Raises:
        ConfigError: if there is no manifest anywhere.
    """
    found = sorted(_artefacts(Path(config.folder)))
    if not found:
        raise ConfigError(
            f"no manifest under `{config.folder}`: expected a run or an artefact"
        )
    return {str(folder): _state(folder) for folder in found}


def _artefacts(root: Path) -> Iterator[Path]:
    """Folders that hold an artefact, or should; those being written do not yet.

    Links are followed, as to a larger disk, but into no folder twice.
    """
    seen: set[str] = set()
    for place, inner, names in os.walk(root, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        # What a killed run had begun to write or to remove.
        inner[:] = [name for name in inner if not name.startswith(".tmp-")]
        folder = Path(place)
        if {artefact.FILE_NAME, artefact.SUM_NAME} & {*names} or (
            _CHECKPOINT.fullmatch(folder.name)
        ):
            yield folder


def _state(folder: Path) -> str:
    path = folder / artefact.FILE_NAME
    try:
        if not path.exists():
            raise artefact.damaged(path, "a manifest", "no such file")
        format = str(artefact.read_json(path).get("format", ""))
        artefact.require_named(folder, artefact.verify(folder, format))
    except (ValueError, OSError) as error:
        return str(error)
    return "good"


def run(options: argparse.Namespace) -> int:
    """The command's door from the shell; status 4 if anything is damaged."""
    states = verify(VerifyConfig(folder=options.folder))
    good = all(state == "good" for state in states.values())
    found: dict[str, Any] = dict(states)
    speaks = True
    if good and options.resume_at is not None:
        found["replay"], speaks = _replay(options.folder, options.resume_at)
        good = not found["replay"]["differing"]
    if not speaks:
        return 0 if good else 4
    if options.json:
        print(json.dumps(found))
    else:
        for folder, state in found.items():
            print(shown(f"{folder}: {_said(state)}"))
    return 0 if good else 4


def _replay(folder: str, step: int) -> tuple[dict[str, Any], bool]:
    """What a replay finds, and whether this process is the one that says it."""
    # Here, since hashes alone need no torch.
    from triptych.commands.replay import replay
    from triptych.commands.shell import StepProgress
    from triptych.train.ranks import is_first_process

    with StepProgress("replay") as progress:
        return replay(folder, step, progress.step), is_first_process()


def _said(state: str | dict[str, Any]) -> str:
    if isinstance(state, str):
        return state
    steps = f"steps {state['from_step'] + 1} to {state['to_step']} again"
    if not state["differing"]:
        return f"{steps}: the same bytes"
    return f"{steps}: other bytes in {', '.join(state['differing'])}"
