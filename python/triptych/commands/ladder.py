"""`triptych ladder`: small models on one's own data, a law, and a larger run's loss."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from triptych import artefact, config
from triptych.commands.plan import duration
from triptych.commands.pretrain import PretrainConfig
from triptych.commands.shell import Output, StepProgress
from triptych.commands.stopping import TerminationNotice
from triptych.commands.training import (
    require_fixed,
    require_no_file_at,
    require_one_process,
)
from triptych.errors import ConfigError
from triptych.miniseries.division import divide, wait_for
from triptych.miniseries.drawing import ladder_page, ladder_svg, sentence
from triptych.miniseries.fit import LadderFit, fit_law
from triptych.miniseries.points import Point, plan_points, too_few, warnings
from triptych.miniseries.running import HeldOut, require_same_text, train_point
from triptych.planner.planning import seconds_here
from triptych.planner.probe import measure
from triptych.train.health import finite
from triptych.train.ranks import alone, is_first_process, num_processes

LEVEL = 0.9
RESULT = "ladder.json"
# Makes what shows the steps of a run, from its title and number of steps.
Progress = Callable[[str, int], AbstractContextManager[StepProgress]]


def ladder(
    settings: PretrainConfig,
    *,
    with_target: bool = False,
    progress: Progress = StepProgress,
) -> dict[str, Any]:
    """Trains the ladder of a run, or goes on, and predicts the run.

    What it returns also stands in `ladder.json`, `ladder.svg` and `ladder.html` of the
    `ladder` folder in the run's, which is not otherwise touched. Of several processes by
    `torchrun` each trains runs of its own; the first one writes, and trains the target.

    Args:
        settings: of the run to predict, as `triptych pretrain` takes them.
        with_target: train that run as well, after its prediction is written.
        progress: shows the steps.

    Raises:
        ConfigError: for a wrong setting, or a folder with runs of other settings.
        InputError: the losses of the runs cannot be fitted.
        Interrupted: SIGTERM came; the same call goes on.
    """
    require_fixed(settings.parallel, "ladder")
    folder = Path(settings.output) / "ladder"
    require_no_file_at(folder)
    points, target = plan_points(dataclasses.replace(settings, output=str(folder)))
    if too_few(points):
        raise ConfigError(too_few(points))
    with alone() as (number, count):
        if number == 0:
            require_same_text(folder, settings)
        bits = _train_all(points, number, count, progress)
        held_out = HeldOut(settings)
        result = _predict(points, target, bits, held_out)
        if number > 0:
            return result
        _write(folder, result)
        if with_target:
            found = _train(target, "predicted run", progress)
            loss = found * held_out.nats_per_bit
            result["target"] = compare(loss, result["prediction"])
            result["target"]["bits_per_byte"] = found
            _write(folder, result)
    return result


def compare(loss: float, prediction: Mapping[str, Any]) -> dict[str, Any]:
    """How a trained run stands to what was predicted of it."""
    return {
        "loss": loss,
        "error": prediction["loss"] / loss - 1.0,
        "inside": prediction["low"] <= loss <= prediction["high"],
    }


def _train_all(
    points: list[Point], number: int, count: int, progress: Progress
) -> list[float]:
    """Trains this process's runs, waits for the others'; bits a byte of all."""
    own = divide(points, count)[number]
    for place, point in enumerate(points, start=1):
        if point in own:
            _train(point, f"{place}/{len(points)} {point.name}", progress)
    with TerminationNotice() as notice:
        return wait_for(points, notice.received)


def _train(point: Point, title: str, progress: Progress) -> float:
    with progress(title, point.steps) as shown:
        return train_point(point, shown.step)


def _predict(
    points: list[Point], target: Point, bits: list[float], held_out: HeldOut
) -> dict[str, Any]:
    losses = [held_out.nats_per_bit * value for value in bits]
    fit = fit_law(
        [point.parameters for point in points],
        [point.tokens for point in points],
        losses,
        seed=held_out.settings.seed,
    )
    result = _result(points, target, bits, losses, fit)
    result["held_out"] = {"tokens": held_out.tokens, "bytes": held_out.bytes}
    result["prediction"]["bits_per_byte"] = (
        result["prediction"]["loss"] / held_out.nats_per_bit
    )
    return result


def _result(
    points: list[Point],
    target: Point,
    bits: list[float],
    losses: list[float],
    fit: LadderFit,
) -> dict[str, Any]:
    prediction = fit.predict(target.parameters, target.tokens, level=LEVEL)
    found = dataclasses.asdict(prediction)
    far = found.pop("warnings")
    measured = zip(points, bits, losses, fit.residuals, strict=True)
    law = dataclasses.asdict(fit.law)
    return {
        "points": [
            {
                **summary(point),
                "bits_per_byte": bits_per_byte,
                "loss": loss,
                "residual": float(residual),
            }
            for point, bits_per_byte, loss, residual in measured
        ],
        "law": {name: law[name] for name in fit.intervals()},
        "intervals": _finite_ends(fit.intervals(level=LEVEL)),
        "noise": fit.noise,
        "prediction": {**summary(target), **found},
        "optimum": _optimum(fit, target),
        "warnings": [*warnings(points, target), *far],
    }


def _finite_ends(
    intervals: Mapping[str, tuple[float, ...]],
) -> dict[str, list[float | None]]:
    """The same, null for an end that is nowhere, as JSON has no infinity."""
    return {name: [finite(x) for x in ends] for name, ends in intervals.items()}


def _optimum(fit: LadderFit, target: Point) -> dict[str, Any] | None:
    """Size and data of least loss for the work of the target, where there is one."""
    flops = 6.0 * target.parameters * target.tokens
    try:
        return {"flops": flops, **_finite_ends(fit.optimum(flops, level=LEVEL))}
    except ValueError:
        return None


def summary(point: Point) -> dict[str, Any]:
    """A run in plain numbers."""
    names = ("name", "parameters", "tokens", "steps", "batch_tokens", "learning_rate")
    return {name: getattr(point, name) for name in (*names, "flops", "epochs")}


def _write(folder: Path, result: Mapping[str, Any]) -> None:
    artefact.write_text(folder / RESULT, json.dumps(result, indent=2) + "\n")
    artefact.write_text(folder / "ladder.svg", ladder_svg(result) + "\n")
    artefact.write_text(folder / "ladder.html", ladder_page(result))


def dry_run(settings: PretrainConfig, *, measured: bool = True) -> dict[str, Any]:
    """The runs of a ladder, with the time that they will take here; writes nothing.

    The first steps of the shortest run of each size are measured, as by `plan`; time
    goes as operations do.
    """
    require_one_process("ladder --dry-run")
    folder = str(Path(settings.output) / "ladder")
    points, target = plan_points(dataclasses.replace(settings, output=folder))
    rates: dict[int, float] = {}
    rows = []
    for point in [*points, target]:
        if measured and point.parameters not in rates:
            probe = measure(point.settings)
            seconds = seconds_here(point.settings, probe)
            rates[point.parameters] = seconds / point.flops
        rate = rates.get(point.parameters)
        rows.append({**summary(point), "seconds": rate and rate * point.flops})
    known = [row["seconds"] for row in rows[:-1] if row["seconds"] is not None]
    return {
        "points": rows[:-1],
        "target": rows[-1],
        "totals": {
            "tokens": sum(row["tokens"] for row in rows[:-1]),
            "flops": sum(row["flops"] for row in rows[:-1]),
            "seconds": sum(known) if known else None,
        },
        "warnings": warnings(points, target),
    }


def run(options: argparse.Namespace) -> int:
    """The command's door from the shell."""
    settings = config.load(PretrainConfig, options.config, options.overrides)
    if options.threads is not None:
        settings = dataclasses.replace(settings, threads=options.threads)
    if options.dry_run:
        found, show = dry_run(settings, measured=not options.no_measure), _show_plan
    else:
        bar = functools.partial(StepProgress, bar=num_processes() == 1)
        found = ladder(settings, with_target=options.with_target, progress=bar)
        show = _show_result
    if not is_first_process():
        return 0
    if options.json:
        print(json.dumps(found))
    else:
        show(found, Output())
        if not options.dry_run:
            print(Path(settings.output) / "ladder" / "ladder.html")
    return 0


def _show_plan(found: Mapping[str, Any], console: Console) -> None:
    table = Table(
        "run", "parameters", "tokens", "steps", "rate", "operations", "passes", "time"
    )
    total = {"name": "ladder", **found["totals"]}
    for row in [*found["points"], total, found["target"]]:
        table.add_row(
            row["name"],
            *(f"{row[key]:,}" if key in row else "" for key in COUNTS),
            f"{row['learning_rate']:.3g}" if "learning_rate" in row else "",
            f"{row['flops']:.3g}",
            f"{row['epochs']:.2f}" if "epochs" in row else "",
            duration(row["seconds"]),
        )
    console.print(table)
    _show_warnings(found, console)


COUNTS = ("parameters", "tokens", "steps")


def _show_result(found: Mapping[str, Any], console: Console) -> None:
    table = Table("run", "parameters", "tokens", "loss", "of the law", "bits per byte")
    for row in found["points"]:
        table.add_row(
            row["name"],
            f"{row['parameters']:,}",
            f"{row['tokens']:,}",
            f"{row['loss']:.4f}",
            f"{row['residual']:+.2%}",
            f"{row['bits_per_byte']:.4f}",
        )
    console.print(table)
    law = found["law"]
    console.print(
        f"L(N, D) = {law['irreducible']:.3g} + {law['parameter_scale']:.4g} / "
        f"N^{law['parameter_exponent']:.3f} + {law['token_scale']:.4g} / "
        f"D^{law['token_exponent']:.3f}, noise {found['noise']:.2%}"
    )
    console.print(sentence(found))
    _show_warnings(found, console)


def _show_warnings(found: Mapping[str, Any], console: Console) -> None:
    for text in found["warnings"]:
        console.print(f"warning: {text}", style="yellow")
