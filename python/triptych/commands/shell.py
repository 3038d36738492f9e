"""What a training command says in the terminal: the plan, the progress, the result."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import IO, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from triptych import config
from triptych.commands.training import Watch
from triptych.train.ranks import is_first_process
from triptych.train.stepping import NOTHING

LINE_SECONDS = 10.0  # in a pipe: one line now and then, not one a step
NARROW_COLUMNS = 80  # title, bar, steps, times and loss want as many


def finish(
    options: argparse.Namespace,
    settings: Any,
    command: Callable[[Any, Watch], Any],
    plan: Callable[[], Any],
) -> int:
    """Runs a training command, or with `--dry-run` shows what it would do."""
    if options.threads is not None:
        settings = dataclasses.replace(settings, threads=options.threads)
    if options.dry_run:
        print(
            json.dumps(
                {"config": config.to_mapping(settings), "plan": plan()}, indent=2
            )
        )
        return 0
    with StepProgress(command.__name__) as progress:
        result = command(settings, Watch(on_step=progress.step))
    if not is_first_process():
        return 0
    if options.json:
        print(json.dumps(dataclasses.asdict(result), default=str))
    else:
        print(f"{command.__name__}: step {result.step}, {result.checkpoint_folder}")
    return 0


class Output(Console):
    """Standard output; a reader that has had enough is no failure, as elsewhere.

    What stands in brackets or between colons is text, as in names of stages and sources.
    """

    def __init__(self, file: IO[str] | None = None) -> None:
        super().__init__(file=file, markup=False, emoji=False)

    def on_broken_pipe(self) -> None:
        """Leaves it to the command line, which knows what to do."""
        raise BrokenPipeError


class StepProgress:
    """A bar on a terminal; elsewhere a line every ten seconds, on standard error.

    Without `bar`, for processes that share a terminal, lines there too; and on one that
    cannot move its cursor (`TERM=dumb`), which would show a bar at the very end.
    """

    def __init__(
        self, title: str, total: int | None = None, *, bar: bool = True
    ) -> None:
        self.title, self.total = title, total
        self.bar = step_bar()
        dumb = self.bar.console.is_dumb_terminal
        self.terminal = bar and sys.stderr.isatty() and not dumb
        self.task = (
            self.bar.add_task(title, total=total, loss="") if self.terminal else None
        )
        self.last = 0.0

    def __enter__(self) -> StepProgress:
        if self.terminal:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.terminal:
            self.bar.stop()

    def step(self, metrics: Mapping[str, Any]) -> None:
        """Shows the step that `metrics` are of."""
        self.total = metrics.get("num_steps", self.total)
        value = metrics["loss"]
        nothing = metrics.get("fault") == NOTHING
        why = "nothing supervised" if nothing else "loss not finite"
        loss = why if value is None else f"loss {value:.3f}"
        self.count(int(metrics["step"]), loss)

    def count(self, done: int, text: str = "") -> None:
        """Shows that so many steps are done."""
        if self.task is not None:
            self.bar.update(self.task, completed=done, total=self.total, loss=text)
        elif time.monotonic() - self.last >= LINE_SECONDS or done == self.total:
            self.last = time.monotonic()
            line = f"{self.title}: step {done}/{self.total}"
            print(f"{line}, {text}" if text else line, file=sys.stderr, flush=True)


def step_bar() -> Progress:
    """A progress bar that shows steps, elapsed and remaining time, and the loss.

    In a narrow terminal steps and loss alone, or there would be neither.
    """
    console = Console(stderr=True)
    steps, loss = MofNCompleteColumn(), TextColumn("{task.fields[loss]}")
    if console.width < NARROW_COLUMNS:
        title = TextColumn("{task.description}")
        return Progress(title, steps, loss, console=console)
    times = TimeElapsedColumn(), TimeRemainingColumn()
    title = TextColumn("{task.description:<24}")
    return Progress(title, BarColumn(), steps, *times, loss, console=console)
