"""Faults on purpose: bits turned over in a checkpoint, and a run killed again and again.

    python benches/train/faults.py --json benches/results/faults.json

A bit, anywhere in the files of a checkpoint, must be refused in the name of the file that it
is in. A run of a tiny model is killed with SIGKILL at a random step, at a random touch of the
disk inside a save, or after a random time; it is started again, and must end with the bytes
of a run that nobody disturbed. A third of the runs is killed twice, and half of them write
checkpoints beside the training. Any fault that is not as it must be ends this with status 1.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "prep"))
sys.path.insert(0, str(HERE.parents[1] / "tests" / "python"))
import measuring  # noqa: E402

from tiny import TinyData, tiny_model, tiny_train_config  # noqa: E402
from triptych import artefact  # noqa: E402
from triptych.commands.verify import VerifyConfig, verify  # noqa: E402
from triptych.errors import IntegrityError  # noqa: E402
from triptych.model.huggingface import CHECKPOINT_FORMAT  # noqa: E402
from triptych.train import (  # noqa: E402
    OptimizerConfig,
    PretrainObjective,
    Trainer,
    checkpoint,
)
from triptych.train.optimizer import create_optimizer  # noqa: E402

STEPS, SAVE_EVERY = 10, 3
# Touches of the disk in a save that a run may be killed at: opened, made, renamed, removed.
EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree")
LONGEST_SAVES = 120  # touches of the disk in all saves of a run, about


def main() -> None:
    """Does both, and reports."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--flips", type=int, default=300)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        report = run(Path(scratch), options)
    measuring.report(report, options.json)
    if report["flips"]["missed"] or report["kills"]["differing"]:
        sys.exit(1)


def run(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """An undisturbed run, then faults."""
    create_optimizer(tiny_model(), OptimizerConfig(), 1.0)  # imports, once for all
    drawn = random.Random(options.seed)
    started = time.perf_counter()
    status = in_child(lambda: train(folder / "straight"))
    longest_s = time.perf_counter() - started
    assert status == 0, f"the undisturbed run ended with {status}"
    saved = checkpoint.steps_in(folder / "straight" / "checkpoints")[-1]
    return {
        "flips": flips(saved, options.flips, drawn),
        "kills": kills(folder, options.kills, drawn, longest_s),
    }


def train(
    output: Path, *, beside: bool = False, die: Callable[..., None] = bool
) -> None:
    """Goes on with the tiny run; `die` is asked after each step."""
    config = tiny_train_config(
        output, steps=STEPS, checkpoint_every_steps=SAVE_EVERY, async_checkpoints=beside
    )
    data = TinyData(steps=STEPS)
    Trainer(tiny_model(), PretrainObjective(), data, config, on_step=die).run()


def flips(folder: Path, number: int, drawn: random.Random) -> dict[str, Any]:
    """Turns bits over, one at a time; which were not refused by name, out of how many."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    missed = []
    by_file = dict.fromkeys((path.name for path in files), 0)
    for n in range(number):
        # Every file in turn, since most bits are in the largest.
        path = files[n % len(files)]
        bit = drawn.randrange(8 * path.stat().st_size)
        by_file[path.name] += 1
        turn_over(path, bit)
        if not refused_by_name(path):
            missed.append({"file": path.name, "bit": bit})
        turn_over(path, bit)
    artefact.verify(folder, CHECKPOINT_FORMAT)
    return {"tried": number, "by_file": by_file, "missed": missed}


def turn_over(path: Path, bit: int) -> None:
    """Turns one bit of a file over."""
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def refused_by_name(path: Path) -> bool:
    """Whether reading the checkpoint, and `triptych verify`, name the damaged file."""
    (state,) = verify(VerifyConfig(folder=str(path.parent))).values()
    try:
        artefact.verify(path.parent, CHECKPOINT_FORMAT)
    except IntegrityError as error:
        return path.name in str(error) and path.name in state
    return False


def kills(
    folder: Path, number: int, drawn: random.Random, longest_s: float
) -> dict[str, Any]:
    """Kills runs; which of them ended otherwise than the undisturbed one."""
    expected = ending(folder / "straight")
    counts = dict.fromkeys(("step", "save", "time"), 0)
    done, differing, attempt = 0, [], 0
    while done < number:
        output, beside = folder / f"run-{attempt}", attempt % 2 == 1
        times = min(2 if attempt % 3 == 2 else 1, number - done)
        places = []
        for _ in range(times):
            place = drawn.choice(sorted(counts))
            if killed(output, place, drawn, beside, longest_s):
                counts[place] += 1
                places.append(place)
        done += len(places)
        status = in_child(lambda o=output, b=beside: train(o, beside=b))
        if status or ending(output) != expected:
            differing.append({"places": places, "beside": beside, "status": status})
        shutil.rmtree(output)
        attempt += 1
    return {"tried": done, "runs": attempt, "by_place": counts, "differing": differing}


def killed(
    output: Path, place: str, drawn: random.Random, beside: bool, longest_s: float
) -> bool:
    """Whether a run was killed there; it may have ended before."""
    step, touch = drawn.randint(1, STEPS), drawn.randint(1, LONGEST_SAVES)
    seconds = drawn.uniform(0.0, longest_s)

    def at_step() -> None:
        train(output, beside=beside, die=lambda line: line["step"] == step and die())

    def in_save() -> None:
        die_at_touch(touch, output / "checkpoints")
        train(output, beside=beside)

    work = {"step": at_step, "save": in_save}.get(place)
    if work is None:
        status = in_child(lambda: train(output, beside=beside), kill_after=seconds)
    else:
        status = in_child(work)
    assert status in (0, -signal.SIGKILL), f"a run ended with status {status}"
    return status != 0


def die() -> None:
    """Kills this process, which can do nothing about it."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_touch(number: int, folder: Path) -> None:
    """Kills this process at the n-th touch of what is in a folder."""
    left = number

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event in EVENTS and str(folder) in str(arguments[0]):
            left -= 1
            if left == 0:
                die()

    sys.addaudithook(hook)


def in_child(work: Callable[[], None], kill_after: float | None = None) -> int:
    """Exit status of some work in a process forked off, which has torch already."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def ending(output: Path) -> dict[str, Any]:
    """What a run has come to: hashes of its last checkpoint, and its losses."""
    last = checkpoint.steps_in(output / "checkpoints")[-1]
    files = artefact.verify(last, CHECKPOINT_FORMAT).files
    lines = (output / "metrics.jsonl").read_text("utf-8").splitlines()
    losses = [(line["step"], line["loss"]) for line in map(json.loads, lines)]
    return {"step": last.name, "files": files, "losses": losses}


if __name__ == "__main__":
    main()
