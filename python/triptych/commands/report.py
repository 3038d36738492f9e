"""`triptych report`: `report.html` of a run, from what stands in its folder."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path

from triptych.errors import ConfigError
from triptych.quickstart.results import write_report
from triptych.reporting import Section, Table, curve, page, read_metrics


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Which run to report on.

    Attributes:
        folder: of a training run, or of a demo.
    """

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
    sections = [*_held_out(folder), *_sections(metrics)]
    text = page(f"triptych run: {folder.name}", sections)
    path.write_text(text, encoding="utf-8")
    return path


def _held_out(folder: Path) -> list[Section]:
    """What held-out sets cost at first and after each stage: the forgetting matrix.

    Of a set that costs more than it did before, something was forgotten.
    """
    lines = read_metrics(folder / "evaluations.jsonl")
    if not lines:
        return []
    names = list(dict.fromkeys(x for line in lines for x in line["bits_per_byte"]))
    best = dict.fromkeys(names, math.inf)
    rows = []
    for line in lines:
        bits = {name: line["bits_per_byte"].get(name) for name in names}
        known = {name: value for name, value in bits.items() if value is not None}
        worse = [name for name, value in known.items() if value > best[name]]
        best |= {name: min(best[name], value) for name, value in known.items()}
        rows.append([line["stage"], line["step"], *bits.values(), ", ".join(worse)])
    table = Table(["after stage", "step", *names, "forgotten"], rows)
    title = "Held-out text, bits a byte"
    return [Section(title=title, table=table)]


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
