from __future__ import annotations

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


def test_a_metrics_line_cut_by_a_kill_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert read_metrics(path) == [{"step": 1, "loss": 2.0}]
