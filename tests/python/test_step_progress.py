"""What a run shows of its steps, on any terminal."""

import io
import sys

import pytest

from triptych.commands.shell import StepProgress


class Terminal(io.StringIO):
    """A standard error that is a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    for name in ("TTY_COMPATIBLE", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")

    def shown(term, columns, loss=3.21):
        """What stands there before the run ends, and at its end."""
        monkeypatch.setattr(sys, "stderr", Terminal())
        monkeypatch.setenv("TERM", term)
        monkeypatch.setenv("COLUMNS", str(columns))
        with StepProgress("pretrain") as progress:
            for step in (1, 12_000):
                progress.step({"step": step, "num_steps": 12_000, "loss": loss})
            before = sys.stderr.getvalue()
        return before, sys.stderr.getvalue()

    return shown


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_without_a_cursor_shows_lines_while_the_run_goes_on(terminal, term):
    before, end = terminal(term, 80)
    lines = [
        "pretrain: step 1/12000, loss 3.210",
        "pretrain: step 12000/12000, loss 3.210",
    ]
    assert before == end == "\n".join(lines) + "\n"


@pytest.mark.parametrize("columns", [40, 79, 80, 200])
@pytest.mark.parametrize(("loss", "text"), [(3.21, "loss 3.210"), (None, "not finite")])
def test_steps_and_loss_are_seen_however_narrow_the_terminal(
    terminal, columns, loss, text
):
    _, end = terminal("xterm", columns, loss)
    last = end.split("\x1b[2K")[-1]
    assert "12000/12000" in last
    assert text in last
