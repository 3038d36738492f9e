"""The checks of `benches/kernels/run_all.py` on wrong kernels, and its tuner's rows."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import checking
import layer_checks
import pytest
import torch
from processes import in_processes

from conftest import DEVICE
from triptych_kernels import configs

# The module that a check takes its kernel from, the kernel and a case of the check.
KERNELS = {
    "loss": (checking, "linear_cross_entropy", ("fp16", (1, 64, 2), "plain")),
    "logprobs": (checking, "linear_logprobs", ("bf16",)),
    "statistics": (checking, "linear_statistics", ("fp32",)),
    "layer": (layer_checks, "rms_norm", ("bf16", "norm llama")),
}


BENCHES = Path(checking.__file__).parent
PROGRAMS = {
    "run_all.py": "--interpret checks on a CPU",
    "tune.py": "tiles are timed where they are to be used",
    "train_on_device.py": "--device cpu trains without",
}


@pytest.mark.cpu_only
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_for_gpus_says_in_a_sentence_that_there_is_none(program):
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(BENCHES / program)]
    run = subprocess.run(command, env=hidden, capture_output=True, text=True)
    expected = "error: expected a GPU that torch sees, found none "
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr == f"{expected}({PROGRAMS[program]})\n"


def one_percent_more(kernel):
    def wrong(*inputs, **options):
        out = kernel(*inputs, **options)
        return [x * 1.01 for x in out] if isinstance(out, tuple) else out * 1.01

    return wrong


@pytest.mark.parametrize("check", KERNELS)
def test_a_check_passes_a_kernel_and_fails_one_that_is_a_hundredth_off(
    monkeypatch, check
):
    module, kernel, case = KERNELS[check]
    with torch.device("cpu"):  # a check chooses its device itself
        assert checking.check_one(check, (DEVICE, *case))["passed"]
        monkeypatch.setattr(module, kernel, one_percent_more(getattr(module, kernel)))
        row = checking.check_one(check, (DEVICE, *case))
    assert not row["passed"]
    assert "error" not in row, row


def test_a_sinks_gradient_is_checked_too():
    *_, leaves = layer_checks.three("sinks", "cpu")
    assert [tuple(x.shape) for x in leaves][3:] == [(4,)]


@pytest.mark.cpu_only
def test_a_case_that_ends_its_process_costs_itself_only():
    cases = [("1 + 1",), ("__import__('os')._exit(3)",), ("'three'",), ("4",)]
    found = in_processes(eval, cases, 2, lambda case: f"{case[-3:]} died")
    assert found == [2, "(3) died", "three", 4]
    assert in_processes(eval, [], 2, repr) == []


FIRST_ROWS = """
import tune
from triptych_kernels import configs
first = {}
for kernel, head_dim, tile in tune.candidates("sm_80"):
    first.setdefault((kernel, head_dim), tile)
assert first["dkdv", 64] == configs.attention_row("dkdv", 64, "sm_80", plain=True)
assert first["statistics", None] == configs.loss_row("statistics", "sm_80", plain=True)
assert first["decode one", 128] == configs.decode_row(128, "sm_80")
"""


@pytest.mark.cpu_only
def test_the_tuner_compares_with_the_row_that_its_own_gpu_would_take():
    # A process of its own: the tuner turns the interpreter off.
    command = [sys.executable, "-c", FIRST_ROWS]
    done = subprocess.run(
        command, cwd=Path(checking.__file__).parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


WINNING_ROWS = """
import sys, tune
from pathlib import Path
from triptych_kernels import tuned_rows
rows = []
def timed(kernel, head_dim, *times):
    for number, ms in enumerate(times):
        tile = [64, 32, 0, 4, number + 1]
        rows.append({"kernel": kernel, "head_dim": head_dim, "tile": tile, "ms": ms})
timed("dq", 64, 1.0, 0.99, 2.0)
timed("dkdv", 128, 1.0, 0.7, 0.8)
timed("statistics", None, 1.0, 1.1, 0.9)
timed("chunked", None, 1.0, 0.1)
timed("decode many", 128, 1.0, 0.5, 0.9)
timed("decode one", 128, 1.0, 3.0, 0.9)
rows.append({"kernel": "dq", "head_dim": 64, "tile": [1, 1, 0, 1, 1], "error": "no room"})
won = tune.winners(rows, "sm_100")
assert {(key, tile[-1]) for _, key, tile in won} == {
    (("dkdv", 128, "sm_100"), 2), (("statistics", "sm_100"), 3), ((128, "sm_100"), 3)
}, won
tuned_rows.write(Path(sys.argv[1]), won, device="a GPU", triton="3.9.0")
"""
TAKEN_ROWS = """
from triptych_kernels import configs
def stages(row): return row.num_stages
assert stages(configs.attention_row("dkdv", 128, "sm_100", plain=True)) == 2
assert configs.attention_row("dkdv", 128, "sm_100", plain=False) == configs.ATTENTION[
    "dkdv", 128, "sm_100"
]
assert stages(configs.loss_row("statistics", "sm_100", plain=True)) == 3
assert stages(configs.decode_row(128, "sm_100")) == 3
assert configs.decode_row(128, "sm_90") == configs.DECODE[128, "sm_90"]
"""


def python(code, *arguments, **environment):
    folder = Path(checking.__file__).parent
    kernels = str(Path(configs.__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": kernels} | environment,
    )


@pytest.mark.cpu_only
def test_rows_that_win_are_written_and_taken_where_their_file_is_named(tmp_path):
    path = str(tmp_path / "tiles.json")
    written = python(WINNING_ROWS, path)
    assert written.returncode == 0, written.stderr[-2000:]
    taken = python(TAKEN_ROWS, TRIPTYCH_TILES=path)
    assert taken.returncode == 0, taken.stderr[-2000:]
    assert python(TAKEN_ROWS).returncode != 0


@pytest.mark.cpu_only
@pytest.mark.parametrize(
    ("spoilt", "named"),
    [
        ("{", "Expecting"),
        ("[]", "format []"),
        ({"format": "tiles/9"}, "format 'tiles/9'"),
        ({"rows": [{"table": "loss"}]}, "KeyError('tile') in row 1"),
        ({"rows": [{"table": "x", "tile": [1] * 5}]}, "KeyError('x') in row 1"),
        ({"rows": [{"table": "loss", "kernel": "statistics", "target": "sm_90",
                    "tile": [1, 1, 1, 1, 2**40]}]}, "the tile [1, 1, 1, 1, 1099511"),
        ({"rows": [{"table": "loss", "kernel": [], "target": "sm_90", "tile": [1] * 5}]},
         "([], 'sm_90') in row 1"),
        ({"rows": [{"table": "decode", "head_dim": 65, "target": "sm_90",
                    "tile": [1] * 5}]}, "found (65, 'sm_90')"),
    ],
)  # fmt: skip
def test_a_file_that_holds_no_rows_is_refused_by_name(tmp_path, spoilt, named):
    path = tmp_path / "tiles.json"
    if isinstance(spoilt, dict):
        spoilt = json.dumps({"format": "triptych-tiles/1", "rows": []} | spoilt)
    path.write_text(spoilt)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}.*{re.escape(named)}"):
        configs.take_rows(path)


@pytest.mark.cpu_only
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize(
    "tile",
    [
        lambda x: configs.attention_tile("dkdv", 128, x),
        lambda x: configs.loss_tile("dlogits", x),
        lambda x: configs.decode_tile(128, x),
        configs.symmetric_tile,
    ],
    ids=["attention", "loss", "decode", "symmetric"],
)
def test_a_product_on_a_gpu_that_is_too_old_is_refused_before_its_launch(
    monkeypatch, tile, dtype
):
    class OnGpu:
        """What a tile asks of a tensor; there is no GPU to make one on."""

        device = torch.device("cuda:0")

    x = OnGpu()
    x.dtype = dtype
    monkeypatch.setattr(configs, "interpreted", lambda: False)
    for capability in ((7, 5), (8, 6), (12, 0)):
        configs._target.cache_clear()
        configs._matrix_target.cache_clear()
        monkeypatch.setattr(
            torch.cuda, "get_device_capability", lambda _, c=capability: c
        )
        assert configs.gated_tile(x) == configs.GATED["sm_80"]
        if capability < (8, 0):
            with pytest.raises(ValueError, match=r"capability 8\.0, found 7\.5"):
                tile(x)
        else:
            assert tile(x).num_warps
    configs._target.cache_clear()
    configs._matrix_target.cache_clear()
