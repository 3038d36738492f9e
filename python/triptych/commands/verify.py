"""`triptych verify`: every artefact under a folder against its manifest."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

from triptych import artefact
from triptych.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """Which folder to check, with everything below it."""

    folder: str


def verify(config: VerifyConfig) -> dict[str, str]:
    """Checks sizes and hashes; the value of each artefact is `good` or what is wrong.

    Raises:
        ConfigError: if there is no manifest anywhere.
    """
    manifests = sorted(Path(config.folder).rglob(artefact.FILE_NAME))
    if not manifests:
        raise ConfigError(
            f"no manifest under `{config.folder}`: expected a run or an artefact"
        )
    return {str(path.parent): _state(path.parent) for path in manifests}


def _state(folder: Path) -> str:
    try:
        found = json.loads((folder / artefact.FILE_NAME).read_bytes()).get("format", "")
        artefact.verify(folder, found)
    except (ValueError, AttributeError) as error:
        return str(error)
    return "good"


def run(options: argparse.Namespace) -> int:
    """The command's door from the shell; status 4 if anything is damaged."""
    states = verify(VerifyConfig(folder=options.folder))
    if options.json:
        print(json.dumps(states))
    else:
        for folder, state in states.items():
            print(f"{folder}: {state}")
    return 0 if all(state == "good" for state in states.values()) else 4
