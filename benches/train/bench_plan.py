"""What `triptych plan` says of a run, beside the run: memory and time, six times.

    python benches/train/bench_plan.py --json benches/results/plan.json

Size x length of rows x rows computed at once x what is computed again. Each configuration
is planned by `triptych plan` (which runs four steps), planned again without running a step,
and then trained by `triptych pretrain` for a dozen steps, all in processes of their own.
Memory is the most that the process held (`wait4`), time the median step without the first
two. Errors are (planned - real) / real.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "prep"))
import measuring  # noqa: E402

STEPS, WARM_STEPS, BATCH_ROWS = 12, 2, 8
VOCAB_SIZE = 4096


@dataclass(frozen=True)
class Case:
    """A configuration: `hidden_size` x layers, and how it is computed."""

    width: int
    layers: int
    seq_len: int
    micro_batch_rows: int
    recompute: str = "none"
    optimizer: str = "adamw"

    @property
    def name(self) -> str:
        """What tells it from the others."""
        rows = f"{self.micro_batch_rows} x {self.seq_len}"
        return (
            f"{self.width} x {self.layers}, {rows}, {self.recompute}, {self.optimizer}"
        )


CASES = (
    Case(128, 4, 256, 8),
    Case(256, 4, 512, 2),
    Case(256, 6, 256, 8, recompute="selective"),
    Case(384, 6, 512, 4, recompute="full"),
    Case(512, 8, 256, 4, optimizer="muon"),
    Case(512, 6, 1024, 2),
)


def main() -> None:
    """Plans and trains each configuration, and writes the errors."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", type=int, help="one case, by number; others stay")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_data(folder)
        found = {} if options.only is None else kept(options.json)
        for case in CASES if options.only is None else CASES[options.only :][:1]:
            found[case.name] = compared(case, folder, options.threads)
            print(case.name, found[case.name], file=sys.stderr, flush=True)
    worst = {
        key: max(abs(line[key]) for line in found.values())
        for key in ("memory_error", "memory_error_unmeasured", "time_error")
    }
    measuring.report({"runs": found, "worst": worst}, options.json)


def kept(report: Path | None) -> dict[str, Any]:
    """The runs of an earlier report, so that a bench may be made piece by piece."""
    if report is None or not report.exists():
        return {}
    runs: dict[str, Any] = json.loads(report.read_text("utf-8"))["runs"]
    return runs


def write_data(folder: Path) -> None:
    """A tokenizer, and shards of random ids: documents longer and shorter than rows."""
    from triptych import train_tokenizer
    from triptych._core import write_token_shards

    drawn = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [
        "".join(drawn.choices(letters, k=drawn.randint(2, 9))) for _ in range(9000)
    ]
    tokenizer = train_tokenizer([" ".join(words)] * 3, VOCAB_SIZE)
    tokenizer.save(str(folder / "tokenizer.json"))
    documents = [
        (f"{i}", "web", drawn.choices(range(8, tokenizer.vocab_size), k=length), None)
        for i, length in enumerate(drawn.choices(range(40, 1500), k=400))
    ]
    write_token_shards(documents, tokenizer, str(folder / "web"), 1)


def compared(case: Case, folder: Path, threads: int) -> dict[str, float]:
    """Planned and real, of one configuration."""
    output = folder / case.name.replace(" ", "").replace(",", "-")
    path = folder / "run.toml"
    path.write_text(configuration(case, folder, output, threads))
    planned, _ = triptych("plan", "--config", str(path), "--json")
    _, memory_mib = triptych("pretrain", "--config", str(path), "--json")
    lines = (output / "metrics.jsonl").read_text("utf-8").splitlines()
    seconds = [json.loads(line)["step_seconds"] for line in lines][WARM_STEPS:]
    step_seconds = statistics.median(seconds)
    measured, parts = planned["measured"], planned["memory"]
    unmeasured = parts["all"] - parts["allocators"]
    return {
        "parameters": planned["parameters"]["all"],
        "memory_mib": round(memory_mib, 1),
        "planned_mib": round(measured["memory_mib"], 1),
        "planned_mib_unmeasured": round(unmeasured, 1),
        "step_seconds": round(step_seconds, 4),
        "planned_step_seconds": round(measured["step_seconds"], 4),
        "memory_error": error(measured["memory_mib"], memory_mib),
        "memory_error_unmeasured": error(unmeasured, memory_mib),
        "time_error": error(measured["step_seconds"], step_seconds),
        "parts": {name: round(mib, 1) for name, mib in parts.items()},
    }


def error(planned: float, real: float) -> float:
    """Share of what was real."""
    return round((planned - real) / real, 4)


def configuration(case: Case, folder: Path, output: Path, threads: int) -> str:
    """The TOML file of a case."""
    return f"""
output = "{output}"
tokenizer = "{folder / "tokenizer.json"}"
seq_len = {case.seq_len}
micro_batch_rows = {case.micro_batch_rows}
recompute = "{case.recompute}"
precision = "fp32"
threads = {threads}
[sources]
web = "{folder / "web"}"
[optimizer]
name = "{case.optimizer}"
[model]
hidden_size = {case.width}
num_hidden_layers = {case.layers}
num_attention_heads = {case.width // 64}
[[stage]]
stage = "bench"
learning_rate = 1e-3
batch_size = {BATCH_ROWS}
steps = {STEPS}
"""


def triptych(*arguments: str) -> tuple[Any, float]:
    """What a command prints as JSON, and the most MiB that it held."""
    command = [sys.executable, "-m", "triptych", *arguments]
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(command, stdout=said) as run,
    ):
        _, status, usage = os.wait4(run.pid, 0)
        run.returncode = os.waitstatus_to_exitcode(status)
        if run.returncode:
            sys.exit(f"{' '.join(command)}: status {run.returncode}")
        said.seek(0)
        return json.load(said), usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
