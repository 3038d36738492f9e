"""Checks and times every kernel against its peers on the GPU that is here.

    python benches/kernels/run_all.py [--json FILE] [--jobs 8] [--repeats 15]
        [--skip-checks] [--skip-timing] [--only WORD] [--interpret]

Peers that are not installed, or that do not run here, have a row that says so.
`--interpret` runs the same code on a CPU in Triton's interpreter, in tiny shapes: its
checks are real, its times are not and are not printed.
"""

import argparse
import json
import os
import platform
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path


def main():
    options = arguments()
    os.environ["TRITON_INTERPRET"] = "1" if options.interpret else "0"
    import checking  # after the interpreter is chosen: Triton asks once
    import timing

    device = "cpu" if options.interpret else "cuda"
    timing.require_gpu(device, "--interpret checks on a CPU")
    report = {
        "device": describe(device),
        "checks": [],
        "attention": [],
        "loss": [],
        "layers": [],
    }
    print(*(f"{key}: {value}" for key, value in report["device"].items()), sep="\n")
    if not options.skip_checks:
        started = time.perf_counter()
        report["checks"] = checking.check_all(device, options.jobs)
        report["check_seconds"] = time.perf_counter() - started
        print_checks(report["checks"])
        save(report, options.json)
    if not options.skip_timing:
        report["ceilings"] = timing.ceilings(timing.Clock(device))
        print({key: round(value) for key, value in report["ceilings"].items()})
        time_all(report, device, options)
    failed = [row for row in report["checks"] if not row["passed"]]
    sys.exit(1 if failed else 0)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, help="where the rows go")
    parser.add_argument("--jobs", type=int, default=8, help="processes that check")
    parser.add_argument("--repeats", type=int, default=15, help="of a measurement")
    parser.add_argument("--only", default="", help="of kind and name")
    parser.add_argument("--skip-checks", action="store_true")
    parser.add_argument("--skip-timing", action="store_true")
    parser.add_argument("--interpret", action="store_true", help="on a CPU")
    return parser.parse_args()


def describe(device):
    """What the numbers depend on."""
    import torch
    import triton

    found = {"torch": torch.__version__, "triton": triton.__version__}
    if device == "cpu":
        return {"name": "interpreter", **found, "python": platform.python_version()}
    properties = torch.cuda.get_device_properties(0)
    return {
        "name": properties.name,
        "multiprocessors": properties.multi_processor_count,
        "driver": driver(),
        "cuda": torch.version.cuda or torch.version.hip,
        **found,
        "python": platform.python_version(),
    }


def driver():
    """The kernel driver's version, or an empty text where no file tells."""
    path = Path("/sys/module/nvidia/version")
    return path.read_text().strip() if path.exists() else ""


def time_all(report, device, options):
    """Fills the report shape by shape, and saves it after each."""
    import attention_peers
    import layer_peers
    import loss_peers

    kinds = {"attention": attention_peers, "loss": loss_peers, "layers": layer_peers}
    listed = [
        (kind, module, name)
        for kind, module in kinds.items()
        for name in module.shapes(device)
        if options.only in f"{kind} {name}"
    ]
    repeats = options.repeats if device == "cuda" else 1
    if device == "cuda":
        fill_compile_caches(listed, options.jobs)
        print("\nforward ms, backward ms, times ours in all, peak MiB")
    for kind, module, name in listed:
        rows = module.measure(device, name, repeats)
        report[kind] += rows
        save(report, options.json)
        if device == "cuda":
            print_times(rows)


def fill_compile_caches(listed, jobs):
    """Runs every shape once in processes of their own, for what they compile.

    Most of the time goes into compilers, and theirs keep their results on disk.
    """
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "2")
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running = [pool.submit(m.measure, "cuda", name, 1) for _, m, name in listed]
        for future in running:
            if future.exception() is not None:
                print(future.exception())


def print_checks(rows):
    for row in rows:
        if not row["passed"]:
            print("FAILED", json.dumps(row))
    passed = sum(row["passed"] for row in rows)
    print(f"{passed} of {len(rows)} checks passed")


def print_times(rows):
    """One line a measurement; ours is the first of a shape."""
    ours = None
    for row in rows:
        label = f"{row['shape']:30} {row['implementation']:34}"
        if "forward_ms" not in row:
            print(label, row["error"][:90])
            continue
        backward = row.get("backward_ms", 0.0)
        total = row["forward_ms"] + backward
        ours = ours or total
        times = f"{row['forward_ms']:8.3f} {backward:8.3f} {total / ours:6.2f}"
        print(label, times, f"{row.get('peak_mib', 0.0):8.0f}", flush=True)


def save(report, path):
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
