"""The demo, scaled down: whole, and the same however often it was killed.

Run by itself (`make test-demo`): it takes minutes.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

import triptych
from triptych.artefact import sha256_file

MINUTES = "0.2"
# Seconds until each kill. They grow, so that the longest part gets done at last.
KILLS = (5, 9, 13, 17, 21, 25, 30, 35, 40, 50, 60)


def command(output: Path, *more: str) -> list[str]:
    start = [sys.executable, "-m", "triptych", "demo", "--minutes", MINUTES]
    return [*start, "--output", str(output), *more]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[Path, str]:
    """The run and what it printed on standard output."""
    output = tmp_path_factory.mktemp("demo") / "run"
    result = subprocess.run(command(output), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return output, result.stdout


def results(run: Path) -> dict:
    found = json.loads((run / "results.json").read_text())
    del found["seconds"]
    return found


def test_it_ends_by_saying_how_to_chat_and_the_report_is_there(undisturbed):
    run, printed = undisturbed
    assert f"triptych chat {run}" in printed
    assert "<svg" in (run / "report.html").read_text()


def test_what_was_measured_is_there_for_every_stage(undisturbed):
    found = results(undisturbed[0])
    stages = ("initial", "foundation", "knowledge", "reasoning", "synthesis", "dpo")
    assert {f"text-{stage}" for stage in stages} < found.keys()
    bits = [found[f"text-{stage}"]["all"] for stage in stages[:5]]
    # A dozen steps a stage: too few for each to beat the one before on every seed.
    assert bits[-1] < 0.9 * bits[0]
    assert max(bits[1:]) < bits[0]
    assert (
        found["replies-sft"]["response_loss"] < found["replies-base"]["response_loss"]
    )
    assert found["preferences-dpo"]["pairs"] > 50


def test_the_export_is_what_transformers_loads(undisturbed):
    export = undisturbed[0] / "export"
    ours = triptych.load_model(export)
    ids = AutoModelForCausalLM.from_pretrained(export).eval()
    import torch

    tokens = torch.randint(8, 4000, (2, 40), generator=torch.manual_seed(0))
    with torch.no_grad():
        theirs = ids(tokens).logits
    torch.testing.assert_close(ours.logits(tokens), theirs, atol=1e-5, rtol=0)


def test_the_finished_demo_only_prints_its_results_again(undisturbed):
    run, printed = undisturbed
    again = subprocess.run(command(run), capture_output=True, text=True, timeout=60)
    assert again.stdout == printed


def test_other_settings_in_the_same_folder_are_refused(undisturbed):
    run, _ = undisturbed
    result = subprocess.run(
        command(run, "--seed", "1"), capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert "expected the settings of this command" in result.stderr


def test_a_demo_killed_at_any_moment_ends_with_the_same_weights(undisturbed, tmp_path):
    output, killed = tmp_path / "run", 0
    for seconds in KILLS:
        process = subprocess.Popen(
            command(output), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            process.wait(timeout=seconds)
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
    last = subprocess.run(command(output), capture_output=True, text=True, check=False)
    assert last.returncode == 0, last.stderr
    assert killed >= 3
    for part in ("pretrain", "sft", "dpo"):
        ends = [
            max(run.glob(f"{part}/checkpoints/step-*"))
            for run in (output, undisturbed[0])
        ]
        assert ends[0].name == ends[1].name
        hashes = {sha256_file(end / "model.safetensors") for end in ends}
        assert len(hashes) == 1, part
    assert results(output) == results(undisturbed[0])
    leftovers = [path for path in output.rglob("*") if "tmp" in path.name]
    assert leftovers == []
