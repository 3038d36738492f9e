"""Faults on purpose, fewer than `benches/train/faults.py` makes: none goes unseen."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benches" / "train" / "faults.py"


@pytest.mark.slow
def test_flipped_bits_are_refused_by_name_and_killed_runs_end_with_the_same_bytes(
    tmp_path,
):
    command = [sys.executable, str(SCRIPT), "--flips", "60", "--kills", "6"]
    report = tmp_path / "faults.json"
    done = subprocess.run(
        [*command, "--json", str(report)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(report.read_text())
    assert found["flips"]["tried"] == 60
    assert found["flips"]["missed"] == []
    assert set(found["flips"]["by_file"].values()) == {10}
    assert found["kills"]["tried"] == 6
    assert found["kills"]["differing"] == []
