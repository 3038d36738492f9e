"""What `triptych plan` says of a run, beside the run: memory and time, six times; memory of grids.

    python benches/train/bench_plan.py --json benches/results/plan.json

Size x length of rows x rows computed at once x what is computed again. Each configuration
is planned by `triptych plan` (which runs four steps), planned again without running a step,
and then trained by `triptych pretrain` for a dozen steps, all in processes of their own.
Memory is the most that the process held (`wait4`), time the median step without the first
two. Errors are (planned - real) / real.

Then seven grids of processes on this machine, planned by one and trained by `torchrun`: the
most that one of them held, beside what the plan says of each.
"""

from __future__ import annotations

import json
import math
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
    grid: tuple[tuple[str, int], ...] = ()

    @property
    def name(self) -> str:
        """What tells it from the others."""
        rows = f"{self.micro_batch_rows} x {self.seq_len}"
        grid = "".join(f", {key} {size}" for key, size in self.grid)
        return (
            f"{self.width} x {self.layers}, {rows}, {self.recompute}, "
            f"{self.optimizer}{grid}"
        )

    @property
    def processes(self) -> int:
        """Of the grid."""
        return math.prod(size for _, size in self.grid)


CASES = (
    Case(128, 4, 256, 8),
    Case(256, 4, 512, 2),
    Case(256, 6, 256, 8, recompute="selective"),
    Case(384, 6, 512, 4, recompute="full"),
    Case(512, 8, 256, 4, optimizer="muon"),
    Case(512, 6, 1024, 2),
)
SHARD, TENSOR, CONTEXT = ("shard", 2), ("tensor", 2), ("context", 2)
GRIDS = (
    Case(256, 4, 256, 4, grid=(SHARD,)),
    Case(512, 6, 256, 2, grid=(SHARD,)),
    Case(512, 6, 256, 2, grid=(TENSOR,)),
    Case(512, 6, 512, 2, grid=(CONTEXT,)),
    Case(384, 6, 512, 4, grid=(SHARD,)),
    Case(384, 4, 1024, 2, grid=(CONTEXT,)),
    Case(256, 4, 256, 4, grid=(SHARD, TENSOR)),
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
        found = kept(options.json if options.only is not None else None)
        every = CASES + GRIDS
        for case in every if options.only is None else every[options.only :][:1]:
            kind = "grids" if case.grid else "runs"
            found[kind][case.name] = compared(case, folder, options.threads)
            print(case.name, found[kind][case.name], file=sys.stderr, flush=True)
    worst = {
        key: max((abs(line[key]) for line in found["runs"].values()), default=0.0)
        for key in ("memory_error", "memory_error_unmeasured", "time_error")
    }
    worst["memory_error_of_grids"] = max(
        (abs(line["memory_error"]) for line in found["grids"].values()), default=0.0
    )
    measuring.report({**found, "worst": worst}, options.json)


def kept(report: Path | None) -> dict[str, dict[str, Any]]:
    """The runs of an earlier report, so that a bench may be made piece by piece."""
    earlier = {}
    if report is not None and report.exists():
        earlier = json.loads(report.read_text("utf-8"))
    return {kind: earlier.get(kind, {}) for kind in ("runs", "grids")}


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
    if case.grid:
        return of_grid(case, path, planned)
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


def of_grid(case: Case, path: Path, planned: dict[str, Any]) -> dict[str, Any]:
    """Planned and real memory of one of the processes of a grid."""
    start = ("torch.distributed.run", "--standalone", "--no-python")
    several = (f"--nproc-per-node={case.processes}", sys.executable, "-m", "triptych")
    _, memory_mib = told(*start, *several, "pretrain", "--config", str(path), "--json")
    parts = planned["memory"]
    return {
        "parameters": planned["parameters"]["all"],
        "memory_mib": round(memory_mib, 1),
        "planned_mib": round(parts["all"], 1),
        "memory_error": error(parts["all"], memory_mib),
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
threads = {1 if case.grid else threads}
compile = {"false" if case.grid else '"auto"'}
[sources]
web = "{folder / "web"}"
[optimizer]
name = "{case.optimizer}"
[model]
hidden_size = {case.width}
num_hidden_layers = {case.layers}
num_attention_heads = {case.width // 64}
[parallel]
{keys(case.grid)}
[[stage]]
stage = "bench"
learning_rate = 1e-3
batch_size = {BATCH_ROWS}
steps = {STEPS}
"""


def keys(values: tuple[tuple[str, int], ...]) -> str:
    """Keys of a TOML table."""
    return "\n".join(f"{key} = {value}" for key, value in values)


def triptych(*arguments: str) -> tuple[Any, float]:
    """What a command prints as JSON, and the most MiB that it held."""
    text, memory_mib = told("triptych", *arguments)
    return json.loads(text), memory_mib


def told(*arguments: str) -> tuple[bytes, float]:
    """What a module prints, and the most MiB that it or a process of its held."""
    command = [sys.executable, "-m", *arguments]
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(command, stdout=said) as run,
    ):
        _, status, usage = os.wait4(run.pid, 0)
        run.returncode = os.waitstatus_to_exitcode(status)
        if run.returncode:
            sys.exit(f"{' '.join(command)}: status {run.returncode}")
        said.seek(0)
        return said.read(), usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
