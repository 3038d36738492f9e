"""`triptych plan`: what a pre-training run will take, and what the papers say of it."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from rich.console import Console
from rich.table import Table

from triptych import config
from triptych.commands.pretrain import PretrainConfig
from triptych.commands.shell import Output
from triptych.errors import ConfigError, shown
from triptych.planner import Machine, Plan, plan_run
from triptych.planner.planning import has_data
from triptych.planner.probe import measure


def plan(
    settings: PretrainConfig, machine: Machine | None = None, *, measured: bool = True
) -> Plan:
    """What `pretrain` with these settings will take; nothing is written.

    Args:
        settings: of the run, as `triptych pretrain` takes them.
        machine: hardware to plan for, by its data sheet; None for this one.
        measured: run the first steps here, in a process of their own, where there are
            shards and no `machine` is named.

    Raises:
        ConfigError: for a wrong path or setting, or hardware that is not known.
    """
    here = measured and machine is None and has_data(settings)
    return plan_run(settings, machine, measure(settings) if here else None)


def run(options: argparse.Namespace) -> int:
    """The command's door from the shell."""
    settings = config.load(PretrainConfig, options.config, options.overrides)
    found = plan(settings, _machine(options), measured=not options.no_measure)
    if options.json:
        print(json.dumps(dataclasses.asdict(found)))
    else:
        show(found, Output())
    return 0


def _machine(options: argparse.Namespace) -> Machine | None:
    """The hardware that is named, if any is."""
    names = ("devices", "mfu", "price")
    values = {name: getattr(options, name) for name in names}
    given = {name: value for name, value in values.items() if value is not None}
    if options.hardware is not None:
        return Machine(name=options.hardware, **given)
    for name in given:
        raise ConfigError(f"--{name}: expected --hardware NAME with it, found none")
    return None


def show(plan: Plan, console: Console) -> None:
    """Prints a plan as tables and sentences."""
    parts = ", ".join(f"{name} {n:,}" for name, n in plan.parameters.items())
    console.print(f"parameters: {parts}")
    console.print(_stages(plan))
    console.print(_memory(plan.memory))
    if plan.measured is not None:
        console.print(_measured(plan.measured))
    if plan.checkpoint_seconds is not None:
        seconds = duration(plan.checkpoint_seconds)
        console.print(f"checkpoints: best every {seconds} (Young 1974)")
    console.print(_rows("law", plan.laws))
    console.print(_rows("advice", plan.hyperparameters))
    for sentence in plan.warnings:
        console.print(f"warning: {shown(sentence)}", style="yellow")


def _memory(parts: dict[str, float]) -> str:
    """A sentence; parts that the run does not have are left out."""
    each = [
        f"{name} {mib:,.0f}" for name, mib in parts.items() if mib and name != "all"
    ]
    return f"memory: {parts['all']:,.0f} MiB = {' + '.join(each)}"


def _measured(measured: dict[str, float]) -> str:
    return (
        f"measured here: {measured['tokens_per_second']:,.0f} tokens/s, "
        f"{measured['memory_mib']:,.0f} MiB, {measured['mfu']:.0%} of the peak, "
        f"a checkpoint in {measured['save_seconds']:.2f} s"
    )


def _stages(plan: Plan) -> Table:
    table = Table("stage", "steps", "slots", "operations", "time", "price")
    totals = {"name": "all", **plan.totals}
    for stage in [*plan.stages, totals]:
        price = stage["price"]
        table.add_row(
            shown(stage["name"]),
            f"{stage['steps']:,}",
            f"{stage['slots']:,}",
            f"{stage['flops']:.3g}",
            duration(stage["seconds"]),
            "" if price is None else f"{price:,.2f}",
        )
    return table


def _rows(title: str, values: Any) -> Table:
    """A line a paper, a column a number; `--json` has where each is printed."""
    names = [key for key in next(iter(values.values())) if key != "source"]
    table = Table(title, *(name.replace("_", " ") for name in names))
    for name, row in values.items():
        table.add_row(name, *(f"{row[key]:.3g}" for key in names))
    return table


def duration(seconds: float | None) -> str:
    """A time for a person; empty where it is not known."""
    if seconds is None:
        return ""
    if seconds < 120.0:
        return f"{seconds:.0f} s"
    if seconds < 7200.0:
        return f"{seconds / 60.0:.0f} min"
    return f"{seconds / 3600.0:.1f} h"
