"""What is said, and what is the same, when a run is begun, merged and checked again."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from triptych import prep

# A careless reader of decimals makes other numbers of these, by their last bit.
LONG_THRESHOLDS = [
    0.10767160161507403,
    0.013452914798206279,
    0.11666666666666667,
    0.3,
    1e-7,
]


def _prep(*arguments, status=0) -> subprocess.CompletedProcess:
    done = subprocess.run(
        ["triptych-prep", *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == status, done.stderr
    return done


def _write(folder, count=3):
    path = folder / "in.jsonl"
    rows = [{"id": str(row), "text": f"row {row} of several"} for row in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("threshold", LONG_THRESHOLDS)
def test_a_threshold_is_read_from_a_manifest_to_its_last_bit(tmp_path, threshold):
    rule = f"rule=[{{feature = 'letter_word_fraction', min = {threshold!r}}}]"
    common = ["--profile", "clean", "--input", _write(tmp_path), "--set", rule]
    _prep("run", *common, "--output", tmp_path / "whole")
    again = _prep("run", *common, "--output", tmp_path / "whole")
    assert "quarantined" in again.stdout + again.stderr
    parts = [tmp_path / f"part{index}" for index in (1, 2)]
    for index, part in enumerate(parts, start=1):
        _prep("run", *common, "--output", part, "--shard", f"{index}/2")
    _prep("merge", "--input", *parts, "--output", tmp_path / "merged")
    whole, merged = (
        (tmp_path / name / "manifest.json").read_bytes() for name in ("whole", "merged")
    )
    assert whole == merged
    config = json.loads(whole)["made_from"]["config"]
    assert config["rule"][0]["min"] == threshold


def test_a_bound_given_in_python_is_that_number_and_none_beside_it():
    values = []

    def note(batch):
        values.extend(batch["mean_word_length"].to_pylist())
        return [True] * batch.num_rows

    words = pa.table({"text": ["a", "ab abc", "abcd a a", "it is as it was then"]})
    noting = prep.clean(
        words, {"profile": "clean"}, rules=[note], features=["mean_word_length"]
    )
    noting.read_all()
    beside = [math.nextafter(value, end) for value in values for end in (0, 9)]
    for value in values + beside:
        for bound, passes in [("min", value.__le__), ("max", value.__ge__)]:
            rule = {"feature": "mean_word_length", bound: value}
            kept = prep.clean(words, {"profile": "clean", "rule": [rule]}).read_all()
            assert kept.num_rows == sum(map(passes, values)), (bound, value)


def test_a_table_without_the_text_column_says_which_setting_names_it(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"body": ["a text"], "n": [1]}), path)
    done = _prep("run", "--input", path, "--output", tmp_path / "o", status=1)
    assert "columns body, n" in done.stderr
    assert "`text_field`" in done.stderr


def test_a_part_of_a_run_can_be_verified_and_a_damaged_one_is_told(tmp_path):
    common = ["--profile", "clean", "--input", _write(tmp_path), "--format", "jsonl"]
    part = tmp_path / "part"
    _prep("run", *common, "--output", part, "--shard", "1/2")
    assert re.search(r"whole: \d documents", _prep("verify", part).stdout)
    blocks = part / "blocks.jsonl"
    blocks.write_text(blocks.read_text().replace("1", "2", 1))
    assert "blocks.jsonl" in _prep("verify", part, status=4).stderr


def _stopped(*command) -> tuple[int, str, float]:
    """Exit status and message after Ctrl-C, and the seconds until then."""
    with subprocess.Popen(
        list(map(str, command)), stderr=subprocess.PIPE, text=True
    ) as process:
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        begun = time.monotonic()
        _, told = process.communicate(timeout=60)
    return process.returncode, told, time.monotonic() - begun


def test_ctrl_c_is_heard_while_a_finished_run_is_compared_with_its_inputs(tmp_path):
    path, output = tmp_path / "in.jsonl", tmp_path / "out"
    line = b'{"text": "a"}' + b" " * 1000 + b"\n"
    path.write_bytes(line)
    command = ["triptych-prep", "run", "--profile", "clean", "--input", path]
    _prep(*command[1:], "--output", output)
    size = 12 << 30  # a hole: it costs no disk, and takes seconds to hash
    manifest = json.loads((output / "manifest.json").read_text())
    manifest["made_from"]["inputs"][0]["bytes"] = size
    (output / "manifest.json").write_text(json.dumps(manifest))
    os.truncate(path, size)
    status, told, seconds = _stopped(*command, "--output", output)
    assert status == 130, told
    assert "interrupted" in told
    assert seconds < 2


FROM_A_PIPE = """
import sys
from triptych import prep
prep.run(prep.PrepConfig(
    input=("-",), output=sys.argv[2], profile="clean", threads=int(sys.argv[1]),
    format="jsonl", shard_bytes=1 << 20,
))
"""


@pytest.mark.parametrize("threads", [1, 3])
def test_ctrl_c_is_heard_while_a_run_waits_for_standard_input(tmp_path, threads):
    rows = _write(tmp_path, 200_000).read_bytes()
    for output, given in [("out", len(rows) // 2), ("out", 0), ("empty", 0)]:
        command = [sys.executable, "-c", FROM_A_PIPE, str(threads), tmp_path / output]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=False
        ) as process:
            process.stdin.write(rows[:given])
            process.stdin.flush()
            while process.poll() is None and not (tmp_path / f".tmp-{output}").exists():
                time.sleep(0.01)
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            try:
                status = process.wait(60)  # with the pipe still open
            finally:
                process.kill()
            assert status == -signal.SIGINT
            assert process.stderr.read().endswith(b"KeyboardInterrupt\n")
        state = tmp_path / f".tmp-{output}/status.json"  # gone if nothing is done
        assert not state.exists() or "interrupted" in state.read_text()
    for output in "out", "undisturbed":
        command = [sys.executable, "-c", FROM_A_PIPE, str(threads), tmp_path / output]
        subprocess.run(command, input=rows, check=True)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert "00003.jsonl" in names
    for name in names:
        found = (tmp_path / "out" / name).read_bytes()
        assert found == (tmp_path / "undisturbed" / name).read_bytes(), name
