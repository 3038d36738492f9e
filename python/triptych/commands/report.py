"""`triptych report`: `report.html` of a run, from what stands in its folder."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.artefact import damaged, read_json, write_text
from triptych.errors import ConfigError
from triptych.quickstart.results import write_report
from triptych.reporting import (
    Section,
    Table,
    curve,
    is_number,
    page,
    read_metrics,
)


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
        IntegrityError: a file of it is not as a run writes it.
    """
    folder = Path(settings.folder)
    results = folder / "results.json"
    if results.is_file():
        return write_report(folder, read_json(results))
    metrics = read_metrics(folder / "metrics.jsonl")
    if not metrics:
        raise ConfigError(
            f"no run at `{folder}`: expected `results.json` of a demo or `metrics.jsonl`"
        )
    path = folder / "report.html"
    sections = [*_held_out(folder), *_sections(metrics)]
    text = page(f"triptych run: {folder.name}", sections)
    write_text(path, text)
    return path


def _held_out(folder: Path) -> list[Section]:
    """What held-out sets cost at first and after each stage: the forgetting matrix.

    Of a set that costs more than it did before, something was forgotten.
    """
    lines = _evaluations(folder / "evaluations.jsonl")
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


def _evaluations(path: Path) -> list[dict[str, Any]]:
    """The lines of held-out sets, each with its bits a byte: numbers, or null."""
    lines = read_metrics(path)
    for number, line in enumerate(lines, start=1):
        bits = line.get("bits_per_byte")
        known = bits.values() if isinstance(bits, dict) else ["none"]
        if "stage" not in line or not all(x is None or is_number(x) for x in known):
            expected = "`stage`, `step` and numbers as `bits_per_byte`"
            raise damaged(f"{path}:{number}", expected, f"{line!r:.80}")
    return lines


def _sections(metrics: list[dict[str, float]]) -> list[Section]:
    # Of all steps: the last one may lack a number, as a loss that was not finite.
    numbers = (key for line in metrics for key in line if is_number(line[key]))
    keys = [key for key in dict.fromkeys(numbers) if key != "step"]
    return [
        Section(title=key, curves=[curve(metrics, key)], axis="step") for key in keys
    ]


def run(options: argparse.Namespace) -> int:
    """The command's door from the shell."""
    path = report(ReportConfig(folder=options.folder))
    print(json.dumps(str(path)) if options.json else path)
    return 0
