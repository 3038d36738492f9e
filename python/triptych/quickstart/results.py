"""The demo's results: a table for the terminal, a page for the browser."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from triptych.artefact import damaged, read_json, write_text
from triptych.curriculum import TrainingStage
from triptych.recipes import SOURCES
from triptych.reporting import Section, Table, curve, page, read_metrics, show

TEXT_ROWS = ("initial", *(stage.value for stage in TrainingStage), "dpo")


def summary(output: Path, results: Mapping[str, Any]) -> str:
    """The closing words of the demo: what was measured, and how to go on."""
    tables = [_text_table(results), _chat_table(results)]
    lines = ["", *(_plain(table) + "\n" for table in tables)]
    lines += [
        f"report  {output / 'report.html'}",
        f"chat    triptych chat {output}",
        f"write   triptych generate {output / 'pretrain'} --prompt 'The house stood'",
    ]
    return "\n".join(lines)


def _text_table(results: Mapping[str, Any]) -> Table:
    """Held-out bits per byte after each stage of pre-training, and as a share of the first."""
    first = results["text-initial"]["all"]
    rows = []
    for name in TEXT_ROWS:
        if bits := results.get(f"text-{name}"):
            each = [bits[source] for source in SOURCES]
            rows.append([name, bits["all"], bits["all"] / first, *each])
    return Table(["bits per byte after", "all", "of initial", *SOURCES], rows)


def _chat_table(results: Mapping[str, Any]) -> Table:
    """Held-out replies and preferences after each later stage."""
    rows = []
    for name in ("base", "sft", "dpo"):
        if replies := results.get(f"replies-{name}"):
            preferences = results.get(f"preferences-{name}", {})
            accuracy = 0.5 if name == "sft" else preferences.get("accuracy")
            rows.append(
                [
                    name,
                    replies["response_loss"],
                    replies["well_formed"],
                    accuracy,
                    preferences.get("longer_accuracy"),
                ]
            )
    header = [
        "after",
        "response loss",
        "well-formed replies",
        "preference accuracy",
        'of "the longer"',
    ]
    return Table(header, rows)


def _plain(table: Table) -> str:
    cells = [
        list(table.header),
        *([show(value) for value in row] for row in table.rows),
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(len(table.header))]
    return "\n".join(_line(row, widths) for row in cells)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first = row[0].ljust(widths[0])
    rest = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
    return "  ".join([first, *rest])


def write_report(output: Path, results: Mapping[str, Any]) -> Path:
    """Writes `report.html` from what stands in the run's folder.

    Raises:
        IntegrityError: what stands there is not as a demo writes it.
    """
    path = output / "report.html"
    try:
        text = page(f"triptych demo: {output.name}", list(_sections(output, results)))
    except (KeyError, TypeError, AttributeError, ArithmeticError) as error:
        expected = "the results of a demo, with its folders beside them"
        raise damaged(output / "results.json", expected, repr(error)) from error
    write_text(path, text)
    return path


def _sections(output: Path, results: Mapping[str, Any]) -> Iterable[Section]:
    yield _preparation(output)
    yield Section(
        title="Pre-training",
        text="Bits per byte of text held out from each source, before training, after "
        "each stage of the curriculum, and after alignment. Lower is better.",
        table=_text_table(results),
    )
    for name, key in (("pretrain", "loss"), ("sft", "loss"), ("dpo", "loss")):
        metrics = read_metrics(output / name / "metrics.jsonl")
        yield Section(
            title=f"Curve: {name}",
            curves=[curve(metrics, key, "training loss, nats")],
            axis="step",
        )
    yield Section(
        title="Replies and preferences",
        text="Response loss in nats a token over held-out replies; well-formed replies "
        "are closed by the end-of-turn token within 64 tokens; preference accuracy is "
        "the share of held-out pairs whose preferred reply gained more probability "
        "than the other, against the fine-tuned model (which by definition has 0.5). "
        "The last column is what always preferring the longer reply would score.",
        table=_chat_table(results),
        samples=results.get("replies-dpo", {}).get("samples", []),
    )


def _preparation(output: Path) -> Section:
    ledger = read_json(output / "documents" / "ledger.json")
    names = ("read", "kept", "duplicates", "quarantined")
    reasons = sorted(
        {reason for file in ledger["files"] for reason in file["rejected"]}
    )
    rows = [
        [
            Path(file["file"]).name,
            *(file[name] for name in names),
            *(file["rejected"].get(reason, 0) for reason in reasons),
        ]
        for file in ledger["files"]
    ]
    return Section(
        title="Preparation",
        text="Every document read is kept, rejected for one reason, a duplicate, or "
        "quarantined; the rows add up.",
        table=Table(["file", *names, *reasons], rows),
    )
