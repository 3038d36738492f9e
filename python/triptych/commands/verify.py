"""`triptych verify`: every artefact under a folder against its manifest.

With `--resume-at` also whether the run that the folder holds resumes bitwise.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych import artefact
from triptych.config import require_numbers
from triptych.errors import ConfigError, shown

# Folders that are a checkpoint by their name, also without a manifest.
_CHECKPOINT = re.compile(r"(abandoned-)?step-[0-9]+")


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """Which folder to check, with everything below it.

    Attributes:
        resume_at: step of a checkpoint from which the pre-training run in the folder is
            run again, to the next one that it kept.
    """

    folder: str
    resume_at: int | None = None

    def __post_init__(self) -> None:
        require_numbers(self)


def verify(
    config: VerifyConfig, watch: Callable[[Mapping[str, Any]], None] | None = None
) -> dict[str, Any]:
    """Checks sizes and hashes; the value of each artefact is `good` or what is wrong.

    With `resume_at`, and where all are good, there is also `replay`: `from_step`,
    `to_step` and `differing`, names of files whose bytes the steps run again do not give.

    Args:
        config: the folder, and where its run is to be resumed.
        watch: told the metrics of each step that is run again.

    Raises:
        ConfigError: if there is no manifest anywhere, no run to resume, or no checkpoint
            of `resume_at` with one behind it.
    """
    found = sorted(_artefacts(Path(config.folder)))
    if not found:
        raise ConfigError(
            f"no manifest under `{config.folder}`: expected a run or an artefact"
        )
    states: dict[str, Any] = {str(folder): _state(folder) for folder in found}
    if config.resume_at is not None and _all_good(states):
        # Here, since hashes alone need no torch.
        from triptych.commands.replay import replay

        states["replay"] = replay(config.folder, config.resume_at, watch)
    return states


def _all_good(states: Mapping[str, Any]) -> bool:
    return all(map(_is_good, states.values()))


def _is_good(state: str | dict[str, Any]) -> bool:
    """Of an artefact, or of steps that were run again."""
    return state == "good" if isinstance(state, str) else not state["differing"]


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
    config = VerifyConfig(folder=options.folder, resume_at=options.resume_at)
    found, speaks = (
        (verify(config), True) if config.resume_at is None else _replay(config)
    )
    status = 0 if _all_good(found) else 4
    if not speaks:
        return status
    if options.json:
        print(json.dumps(found))
    else:
        for folder, state in found.items():
            print(shown(f"{folder}: {_said(state)}"))
    return status


def _replay(config: VerifyConfig) -> tuple[dict[str, Any], bool]:
    """What is found with steps shown, and whether this process is the one that says it."""
    from triptych.commands.shell import StepProgress
    from triptych.train.ranks import is_first_process

    with StepProgress("replay") as progress:
        return verify(config, progress.step), is_first_process()


def _said(state: str | dict[str, Any]) -> str:
    if isinstance(state, str):
        return state
    steps = f"steps {state['from_step'] + 1} to {state['to_step']} again"
    if not state["differing"]:
        return f"{steps}: the same bytes"
    return f"{steps}: other bytes in {', '.join(state['differing'])}"
