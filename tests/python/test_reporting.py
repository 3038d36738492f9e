from __future__ import annotations

import json
import re

import pytest

from triptych.commands.report import ReportConfig, report
from triptych.errors import IntegrityError
from triptych.reporting import Section, Series, Table, chart, page, read_metrics

HOSTILE = "</script><script>alert(1)</script>"


def test_hostile_text_is_escaped_everywhere():
    section = Section(
        title=HOSTILE,
        text=HOSTILE,
        table=Table([HOSTILE], [[HOSTILE]]),
        curves=[Series(HOSTILE, [(0, 1), (1, 2)])],
        axis=HOSTILE,
        samples=[{"prompt": HOSTILE}],
    )
    text = page(HOSTILE, [section])
    assert "<script" not in text
    assert text.count("&lt;script&gt;") == 10


def test_the_page_forbids_loading_anything():
    text = page("run", [])
    assert "default-src 'none'" in text
    assert "http" not in text.replace("http-equiv", "")


def test_a_curve_leaves_out_what_is_not_finite_and_an_empty_one_says_so():
    drawn = chart([Series("loss", [(0, 1.0), (1, float("nan")), (2, 0.5)])], "step")
    assert drawn.count(",") == 2
    assert "No points" in chart([Series("loss", [])], "step")


@pytest.mark.parametrize("value", [0.0, 5e7, 1e18, -3e9, 1.7e308])
def test_a_flat_curve_is_drawn_however_large_its_number_is(value):
    assert "polyline" in chart([Series("memory", [(1, value), (2, value)])], "step")
    assert "polyline" in chart([Series("memory", [(abs(value), 1.0)])], "step")


def test_a_metrics_line_cut_by_a_kill_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert read_metrics(path) == [{"step": 1, "loss": 2.0}]


@pytest.mark.parametrize("spoilt", [0, 1, 2])
def test_a_run_with_a_loss_that_was_not_finite_has_its_report(tmp_path, spoilt):
    lines = [{"step": i + 1, "loss": 3.0 - i, "lr": 0.1} for i in range(3)]
    lines[spoilt] |= {"loss": None, "fault": "not_finite"}
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "metrics.jsonl").write_text(text)
    written = report(ReportConfig(folder=str(tmp_path))).read_text()
    assert "<h2>loss</h2>" in written
    points = written.split("points='")[1:]
    assert sorted(x.split("'")[0].count(",") for x in points) == [2, 3]


def test_a_report_shows_what_held_out_sets_cost_and_which_were_forgotten(tmp_path):
    rows = [
        ("initial", 0, {"web": 8.0, "code": 8.0}),
        ("first", 9, {"web": 2.0, "code": 3.0}),
        ("second", 12, {"web": 2.5, "code": None}),
        ("third", 20, {"web": 1.9, "code": 3.1}),
    ]
    for name, lines in (
        ("metrics.jsonl", [{"step": 1, "loss": 2.0}]),
        (
            "evaluations.jsonl",
            [{"stage": a, "step": b, "bits_per_byte": c} for a, b, c in rows],
        ),
    ):
        (tmp_path / name).write_text("".join(json.dumps(x) + "\n" for x in lines))
    written = report(ReportConfig(folder=str(tmp_path))).read_text()
    table = written.split("<table>")[1].split("</table>")[0]
    cells = [re.findall(r"<td[^>]*>([^<]*)<", row) for row in table.split("<tr>")[2:]]
    assert cells == [
        ["initial", "0", "8", "8", ""],
        ["first", "9", "2", "3", ""],
        ["second", "12", "2.5", "–", "web"],
        ["third", "20", "1.9", "3.1", "code"],
    ]


@pytest.mark.parametrize(
    "line",
    ["5", "[1]", '{"loss": 2.0}', '{"step": "a"}', "[" * 100_000, '{"step": 1, "x": '],
)
def test_a_line_of_metrics_that_no_run_writes_is_named(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 1, "loss": 2.0}}\n{line}\n')
    with pytest.raises(IntegrityError, match=r"metrics\.jsonl:2` is damaged"):
        report(ReportConfig(folder=str(tmp_path)))


def test_numbers_that_no_curve_can_show_are_left_out(tmp_path):
    lines = [
        f'{{"step": {10**400}, "loss": 2.0}}',
        f'{{"step": 2, "loss": {10**400}}}',
        '{"step": 3, "loss": "low"}',
        '{"step": 4, "loss": 1.0}',
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    written = report(ReportConfig(folder=str(tmp_path))).read_text()
    assert written.split("points='")[1].split("'")[0].count(",") == 1


@pytest.mark.parametrize("bits", ["5", '{"a": "x"}', "null"])
def test_held_out_sets_without_numbers_are_named(tmp_path, bits):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    line = f'{{"stage": "a", "step": 1, "bits_per_byte": {bits}}}\n'
    (tmp_path / "evaluations.jsonl").write_text(line)
    with pytest.raises(IntegrityError, match=r"evaluations\.jsonl:1` is damaged"):
        report(ReportConfig(folder=str(tmp_path)))


@pytest.mark.parametrize("text", ["{}", '{"text-initial": {"all": 0}}', "[" * 99_999])
def test_results_that_no_demo_writes_are_named(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "ledger.json").write_text('{"files": []}')
    with pytest.raises(IntegrityError, match=r"results\.json` is damaged"):
        report(ReportConfig(folder=str(tmp_path)))


def test_a_report_is_written_into_its_folder_and_not_where_a_link_leads(tmp_path):
    run, mine = tmp_path / "run", tmp_path / "mine.txt"
    run.mkdir()
    mine.write_text("dear")
    (run / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    for name in ("report.html", ".tmp-report.html"):
        (run / name).symlink_to(mine)
    written = report(ReportConfig(folder=str(run)))
    assert mine.read_text() == "dear"
    assert "<h2>loss</h2>" in written.read_text()
