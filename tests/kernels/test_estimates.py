"""The page of estimates is what its script prints from the tables beside it."""

import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_what_the_tables_say(capsys):
    runpy.run_path(str(ROOT / "benches/kernels/estimate.py"), run_name="__main__")
    page = ROOT / "docs" / "kernel-estimates.md"
    assert capsys.readouterr().out == page.read_text(encoding="utf-8")


def test_nothing_is_predicted_to_be_faster_than_its_floor():
    script = runpy.run_path(str(ROOT / "benches/kernels/estimate.py"))
    rows = dict(script["static_rows"]())
    for device in script["DEVICES"]:
        for _, _, launches, _ in script["CASES"]:
            for name, work in launches:
                row = rows[name, device.target]
                least = script["floor_ms"](work(row), device)
                assert script["predicted_ms"](work(row), row, device) > least
