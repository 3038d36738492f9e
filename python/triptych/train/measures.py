"""What a step costs: floating point operations, their share of the peak, memory, goodput.

Model FLOPs utilisation (Chowdhery et al. 2022, appendix B) with these rules: 6 operations
a token for each parameter of a matrix product (the head counts, the embedding is looked
up; of experts those count that a token goes to), and 12 * heads * head_dim for every pair
of a query and a key that it may look at: causal, windowed, within its document. What is
computed again to save memory is not counted.
"""

from __future__ import annotations

import json
import re
import resource
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from triptych.artefact import damaged, named
from triptych.model.config import ModelConfig
from triptych.train.batch import Batch

SESSIONS = "sessions.jsonl"

# Dense peaks in tera-operations a second, from the vendors' data sheets: bf16 or fp16, and
# fp32 without tensor cores. Searched for as words of the device's name, in this order.
PEAK_TFLOPS: Sequence[tuple[str, float, float]] = (
    ("B200", 2250.0, 75.0),
    ("GB200", 2500.0, 80.0),
    ("GH200", 989.0, 67.0),
    ("H200 NVL", 835.0, 60.0),
    ("H200", 989.0, 67.0),
    ("H100 PCIe", 756.0, 51.0),
    ("H100 NVL", 835.0, 60.0),
    ("H100", 989.0, 67.0),
    ("A100", 312.0, 19.5),
    ("L40S", 362.0, 91.6),
    ("L40", 181.0, 90.5),
    ("L4", 121.0, 30.3),
    ("MI300X", 1307.0, 163.4),
)
# Of the square matrices that an unknown device is probed with. A CPU that emulates bf16
# took 2 s for one product of the larger: after this long no other is begun.
PROBE_SIZES = (256, 1024)
PROBE_SECONDS = 0.1


def attended_pairs(lengths: Iterable[int], window: int | None) -> int:
    """Pairs of query and key in causal documents; a query sees `window` keys at most."""
    total = 0
    for length in lengths:
        reach = min(length, window or length)
        total += reach * (reach + 1) // 2 + (length - reach) * reach
    return total


def step_flops(config: ModelConfig, batches: Iterable[Batch]) -> int:
    """Operations of a forward and a backward pass over packed rows."""
    lengths = (batch.cu_seqlens.diff().tolist() for batch in batches)
    return sum(document_flops(config, row) for row in lengths)


def document_flops(config: ModelConfig, lengths: Sequence[int]) -> int:
    """Operations of a forward and a backward pass over documents of these lengths.

    6 a token for each parameter of a matrix product and 12 a number of the heads for
    each pair of query and key that is looked at (Chowdhery et al. 2022, appendix B,
    which counts all pairs).
    """
    windows = [config.window(layer) for layer in range(config.num_hidden_layers)]
    pairs = {window: attended_pairs(lengths, window) for window in set(windows)}
    width = config.num_attention_heads * config.head_dim
    attention = 12 * width * sum(pairs[window] for window in windows)
    return 6 * config.num_matmul_parameters() * sum(lengths) + attention


def peak_flops(device: torch.device, dtype: torch.dtype) -> tuple[float, str]:
    """Operations a second that `device` can do in `dtype`, and where that is from."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        for part, half, single in PEAK_TFLOPS:
            if re.search(rf"\b{part}\b", name):
                peak = single if dtype == torch.float32 else half
                return peak * 1e12, f"data sheet of {part}"
    peak, size = _probed(device, dtype)
    return peak, f"best product of square matrices of up to {size}"


def _probed(device: torch.device, dtype: torch.dtype) -> tuple[float, int]:
    """The best rate, and the largest size that there was time for."""
    best, largest = 0.0, PROBE_SIZES[0]
    for size in PROBE_SIZES:
        matrix = torch.ones(size, size, dtype=dtype, device=device)
        begun = time.perf_counter()
        for _ in range(5):
            started = time.perf_counter()
            torch.mm(matrix, matrix)[0, 0].item()  # waits for the device
            ended = time.perf_counter()
            best, largest = max(best, 2.0 * size**3 / (ended - started)), size
            if ended - begun > PROBE_SECONDS:
                return best, largest
    return best, largest


def peak_memory_mib(device: torch.device) -> float:
    """Most memory that this process has held: of a GPU, or of the machine."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    own = _high_water_kib()
    if own is not None:
        return own / 2**10
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _high_water_kib() -> int | None:
    """Linux's own mark; `ru_maxrss` begins there with what the process held that started it."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)
    return None if found is None else int(found[1])


class Goodput:
    """Seconds of steps that stand, as a share of all since the run was first started.

    Lost are interruptions, what was computed again after them, steps without an update,
    start-up, evaluation and saving. Of one process at a time.
    """

    def __init__(self, folder: Path, lines: Iterable[dict[str, Any]]) -> None:
        """Enters a start; `lines` are the metrics of the steps that stand so far."""
        self.useful_s = sum(map(useful_seconds, lines))
        path = folder / SESSIONS
        now = time.time()
        with named(path), open(path, "a", encoding="utf-8") as sessions:
            sessions.write(json.dumps({"started": now}) + "\n")
        self.first = _first_start(path, now)

    def share(self, metrics: dict[str, Any]) -> float:
        """Takes a step in; returns the share with it."""
        self.useful_s += useful_seconds(metrics)
        elapsed = time.time() - self.first
        return min(self.useful_s / elapsed, 1.0) if elapsed > 0.0 else 1.0


def useful_seconds(metrics: dict[str, Any]) -> float:
    """Seconds of a step, or 0 where it changed nothing."""
    return 0.0 if "fault" in metrics else float(metrics.get("step_seconds", 0.0))


def _first_start(path: Path, now: float) -> float:
    """When the run was first started; a clock set back since then does not count."""
    with open(path, encoding="utf-8", errors="backslashreplace") as sessions:
        line = sessions.readline()
    try:
        first = float(json.loads(line)["started"])
    except (ValueError, TypeError, KeyError) as error:
        raise damaged(f"{path}:1", "the time of a start", repr(line[:80])) from error
    return min(first, now)
