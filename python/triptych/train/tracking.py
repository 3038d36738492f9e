"""Trackers that show the metrics of a run elsewhere: trackio and Weights & Biases.

`metrics.jsonl` stays the truth. A tracker is imported only where a run asks for it,
writes to this machine unless it is told otherwise, and never stops a run: the first
thing that it cannot do is said once, then it is left alone.
"""

from __future__ import annotations

import importlib
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from triptych.artefact import write_text
from triptych.errors import ConfigError

logger = logging.getLogger("triptych.train")

TrackerName = Literal["trackio", "wandb"]
ID_FILE = "tracking-id"


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Where else metrics are shown.

    Attributes:
        use: `trackio`, `wandb` or both; none by default.
        project: what runs are gathered under.
        name: of the run; None for the name of its folder.
        online: send them over the network: wandb to its server, trackio to `space`.
        space: a Hugging Face Space, for trackio online.
    """

    use: tuple[TrackerName, ...] = ()
    project: str = "triptych"
    name: str | None = None
    online: bool = False
    space: str | None = None

    def __post_init__(self) -> None:
        if self.space is not None and not self.online:
            raise ConfigError(
                f"space: expected `online = true` with it, found `{self.space}` and false"
            )
        if self.online and "trackio" in self.use and self.space is None:
            raise ConfigError("space: expected one for trackio online, found none")


class Trackers:
    """The trackers of a run; each is dropped at its first failure.

    Args:
        config: which, and where to.
        folder: of the run.
        settings: of the run, to be shown beside its metrics.
    """

    def __init__(
        self, config: TrackingConfig, folder: Path, settings: Mapping[str, Any]
    ) -> None:
        self._runs: dict[str, Any] = {}
        for name in config.use:
            self._try(name, partial(self._start, name, config, folder, settings))

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Shows the numbers of a step, which must hold `step`."""
        numbers = {
            key: value
            for key, value in metrics.items()
            if isinstance(value, (int, float)) and key != "step"
        }
        for name, run in list(self._runs.items()):
            self._try(name, partial(run.log, numbers, step=metrics["step"]))

    def close(self) -> None:
        """Ends what is open."""
        for name, run in list(self._runs.items()):
            self._try(name, run.finish)
        self._runs.clear()

    def _start(
        self,
        name: str,
        config: TrackingConfig,
        folder: Path,
        settings: Mapping[str, Any],
    ) -> None:
        module = importlib.import_module(name)
        title = config.name or folder.resolve().name
        common = {"project": config.project, "config": dict(settings)}
        own = _OWN[name](config, title, run_id(folder), folder)
        self._runs[name] = module.init(**common, **own)

    def _try(self, name: str, action: Callable[[], Any]) -> None:
        try:
            action()
        except Exception as error:
            self._runs.pop(name, None)
            logger.warning(
                "%s: %s: %s; the run goes on without it, `metrics.jsonl` has all",
                name,
                type(error).__name__,
                error,
            )


def run_id(folder: Path) -> str:
    """A name for the run that a tracker knows it by again; drawn once, then kept."""
    path = folder / ID_FILE
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_text(path, secrets.token_hex(8) + "\n")
    return path.read_text(encoding="utf-8").strip()


def _trackio(
    config: TrackingConfig, title: str, identity: str, folder: Path
) -> dict[str, Any]:
    """Runs are known by name there, so the name is made the run's own."""
    where = {"space_id": config.space} if config.online else {}
    return {"name": f"{title}-{identity[:6]}", "resume": "allow", **where}


def _wandb(
    config: TrackingConfig, title: str, identity: str, folder: Path
) -> dict[str, Any]:
    return {
        "name": title,
        "id": identity,
        "resume": "allow",
        "mode": "online" if config.online else "offline",
        "dir": str(folder),
    }


_OWN: Mapping[str, Callable[[TrackingConfig, str, str, Path], dict[str, Any]]] = {
    "trackio": _trackio,
    "wandb": _wandb,
}
