"""`triptych report`: `report.html` of a run, from what stands in its folder."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

from triptych.errors import ConfigError
from triptych.quickstart.results import write_report
from triptych.reporting import Section, curve, page, read_metrics


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Which run to report on."""

    folder: str


def report(settings: ReportConfig) -> Path:
    """Writes the report of a demo or of one training run; returns its path.

    Raises:
        ConfigError: if the folder holds neither.
    """
    folder = Path(settings.folder)
    results = folder / "results.json"
    if results.is_file():
        return write_report(folder, json.loads(results.read_text(encoding="utf-8")))
    metrics = read_metrics(folder / "metrics.jsonl")
    if not metrics:
        raise ConfigError(
            f"no run at `{folder}`: expected `results.json` of a demo or `metrics.jsonl`"
        )
    path = folder / "report.html"
    path.write_text(
        page(f"triptych run: {folder.name}", _sections(metrics)), encoding="utf-8"
    )
    return path


def _sections(metrics: list[dict[str, float]]) -> list[Section]:
    # Of all steps: the last one may lack a number, as a loss that was not finite.
    numbers = (key for line in metrics for key in line if _is_curve(line[key]))
    keys = [key for key in dict.fromkeys(numbers) if key != "step"]
    return [
        Section(title=key, curves=[curve(metrics, key)], axis="step") for key in keys
    ]


def _is_curve(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def run(options: argparse.Namespace) -> int:
    """The command's door from the shell."""
    path = report(ReportConfig(folder=options.folder))
    print(json.dumps(str(path)) if options.json else path)
    return 0
