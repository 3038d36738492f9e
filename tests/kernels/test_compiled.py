"""What the compilers make of the kernels for GPUs that are not here.

A process of its own: the interpreter's kernels cannot be compiled. The whole table is
`python benches/kernels/static_table.py`; here is a part that fits a test.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Kernels without a matrix product: small ones, and those of whole hidden states.
SMALL = (
    "loss combine",
    "attention delta",
    "attention sinks",
    "attention tile",
    "decode join",
)
MOVERS = ("norm", "rope", "gated", "adamw", "loss summed")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("static") / "rows.json"
    script = ROOT / "benches/kernels/static_table.py"
    only = "^loss|^attention (delta|sinks|tile table)|d64 (plain|fp32)|d128 window"
    only += "|^norm back.*4096 res|^rope d128 h|^gated silu b|^decode (d128 w|join)"
    only += "|^adamw stoch|^symmetric sum"
    command = [sys.executable, str(script), "--only", only, "--json", str(path)]
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(path.read_text())


def test_every_kernel_compiles_for_every_target(rows):
    assert len({row["kernel"] for row in rows}) == 34
    assert {row["target"] for row in rows} == {"sm_80", "sm_90", "sm_100", "gfx942"}
    assert len(rows) == 136


def test_no_default_row_spills(rows):
    assert [row for row in rows if row["spill_bytes"]] == []


def test_every_product_of_16_bits_uses_matrix_instructions(rows):
    small = SMALL + MOVERS
    large = [row for row in rows if not row["kernel"].startswith(small)]
    large = [row for row in large if not row["kernel"].endswith("fp32")]
    assert [row for row in large if not row["matrix"]] == []
    assert len(large) == 80


def test_every_other_kernel_of_the_hidden_states_loads_sixteen_bytes_a_thread(rows):
    movers = [row for row in rows if row["kernel"].startswith(MOVERS)]
    assert [row for row in movers if not row["wide_loads"]] == []
    assert len(movers) == 24


def test_no_kernel_uses_atomics(rows):
    assert [row for row in rows if row["atomics"]] == []


def test_nvidia_kernels_copy_asynchronously(rows):
    # A filtered product asks of each step whether to take it: no loads ahead of it.
    nvidia = [
        row
        for row in rows
        if row["matrix"]
        and row["target"] != "gfx942"
        and not re.search("product .* filter", row["kernel"])
    ]
    assert [row for row in nvidia if not row["async_copies"]] == []


def test_every_row_fits_in_shared_memory(rows):
    for row in rows:
        assert row["shared_bytes"] <= row["shared_limit_bytes"], row


def test_no_kernel_uses_block_pointers_libdevice_or_atomics():
    for path in (ROOT / "kernels/triptych_kernels").glob("*.py"):
        found = re.search(
            r"make_block_ptr|libdevice\.|tl\.atomic|autotune\(", path.read_text()
        )
        assert found is None, path
