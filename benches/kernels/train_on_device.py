"""Trains the quickstart's model on the GPU that is here, in every precision.

    python benches/kernels/train_on_device.py [--steps 60] [--json FILE] [--device cpu]

Checks that losses are finite and near those of fp32; that a run ends in the same bits if
it is stopped and resumed, if the host reads every step before it launches the next, and if
one loss is not a number the first time it is computed. Says which implementation of each
operator ran. The text is the package's own documentation, byte by byte.
"""

import argparse
import json
import logging
import math
import sys
import tempfile
from pathlib import Path

# Behind what is installed: a clone alone has no compiled engine.
sys.path.append(str(Path(__file__).resolve().parents[2] / "kernels"))
sys.path.append(str(Path(__file__).resolve().parents[2] / "python"))

import timing
import torch

from triptych.errors import Interrupted
from triptych.model import ModelConfig, Transformer
from triptych.model.transformer import positions_of
from triptych.train import (
    Batch,
    PretrainObjective,
    StageSchedule,
    TrainConfig,
    Trainer,
    gradient,
)

ROOT = Path(__file__).resolve().parents[2]
ROWS, ROW_TOKENS = 16, 1024
# Of a mean loss in nats, against fp32 after the same steps: the runs part in the last
# bits and drift on, to either side.
LARGEST_LOSS_GAP = {"fp32": 0.0, "bf16": 0.1, "fp16": 0.1}


class Bytes:
    """Rows cut from one text, each in documents of uneven length."""

    def __init__(self, text, steps):
        self.ids = torch.tensor(list(text))
        self.num_steps = steps

    def rows_per_step(self, step):
        return ROWS

    def step_hash(self, step):
        return f"{step} of {self.num_steps}, {self.ids.numel()} bytes"

    def batch(self, step, first_row=0, num_rows=None):
        last = ROWS if num_rows is None else first_row + num_rows
        documents = [
            piece for row in range(first_row, last) for piece in self._row(step, row)
        ]
        ids = torch.cat(documents)
        lengths = torch.tensor([0, *(d.numel() for d in documents)])
        cu_seqlens = lengths.cumsum(0).int()
        labels = ids.roll(-1)
        labels[cu_seqlens[1:].long() - 1] = -100
        return Batch(
            input_ids=ids,
            labels=labels,
            position_ids=positions_of(cu_seqlens),
            weights=(labels != -100).float(),
            cu_seqlens=cu_seqlens,
            documents=torch.arange(len(documents)),
            sources=torch.zeros(len(documents), dtype=torch.int32),
        )

    def _row(self, step, row):
        generator = torch.Generator().manual_seed(step * ROWS + row)
        most = self.ids.numel() - ROW_TOKENS
        start = int(torch.randint(0, most, (), generator=generator))
        cut = int(torch.randint(1, ROW_TOKENS, (), generator=generator))
        return self.ids[start : start + ROW_TOKENS].split([cut, ROW_TOKENS - cut])


def model(device):
    """The shape of `triptych demo`: 2.4 M parameters."""
    torch.manual_seed(0)
    shape = {
        "vocab_size": 4096,
        "hidden_size": 192,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "qk_norm": True,
        "initializer_range": 0.04,
        "tie_word_embeddings": True,
    }
    return Transformer(ModelConfig.from_dict(shape)).to(device)


class FaultyOnce(PretrainObjective):
    """The loss of one call is not a number."""

    def loss_sum(self, model, batch):
        calls = self.__dict__["calls"] = self.__dict__.get("calls", 0) + 1
        return super().loss_sum(model, batch) * (math.nan if calls == 7 else 1.0)


def train(
    folder,
    text,
    steps,
    precision,
    device,
    *,
    stop_after=None,
    objective=PretrainObjective,
):
    """Losses by step, speed, and the model; goes on where the folder stands."""
    losses, speeds, scales = [], [], []
    trained = model(device)
    trainer = Trainer(
        trained,
        objective(z_loss=1e-4),
        Bytes(text, steps),
        TrainConfig(
            output=folder,
            stages=[
                StageSchedule(name="all", steps=steps, max_lr=3e-3, warmup_steps=5)
            ],
            precision=precision,
            tensorboard=False,
        ),
        on_step=lambda metrics: (
            losses.append(metrics["loss"]),
            speeds.append(metrics["tokens_per_second"]),
            scales.append(trainer.scaler.get_scale()),
        ),
        should_stop=lambda: stop_after is not None and len(losses) >= stop_after,
    )
    skipped = None
    try:
        skipped = trainer.run().skipped_steps
    except Interrupted:
        pass
    return {
        "losses": losses, "speed": sorted(speeds)[len(speeds) // 2],
        "skipped_steps": skipped, "scale": scales[-1], "model": trained,
    }  # fmt: skip


def check(precision, text, steps, device, expected):
    """One row: whole run against others that must end like it, and against fp32."""
    given = text, steps, precision, device
    with tempfile.TemporaryDirectory() as folder:
        whole = train(Path(folder, "whole"), *given)
        first = train(Path(folder, "halved"), *given, stop_after=steps // 2)
        second = train(Path(folder, "halved"), *given)
        faulty = train(Path(folder, "faulty"), *given, objective=FaultyOnce)
        ahead, gradient.ASYNCHRONOUS = gradient.ASYNCHRONOUS, ()
        waited = train(Path(folder, "waited"), *given)
        gradient.ASYNCHRONOUS = ahead
    resumed = first["losses"] + second["losses"] == whole["losses"]
    same = {
        "resume_is_bitwise": resumed and ends_alike(whole, second),
        "waiting_is_bitwise": ends_alike(whole, waited),
        # Under fp16 a loss that is not finite is routine: the step is left out.
        "a_fault_is_healed": precision == "fp16" or ends_alike(whole, faulty),
    }
    last = sum(whole["losses"][-5:]) / 5
    gap = 0.0 if expected is None else abs(last - expected)
    finite = all(loss is not None and math.isfinite(loss) for loss in whole["losses"])
    return {
        "precision": precision,
        "passed": finite and all(same.values()) and gap <= LARGEST_LOSS_GAP[precision],
        "finite": finite, **same, "first_loss": whole["losses"][0],
        "last_loss": last, "gap_to_fp32": gap,
        "skipped_steps": whole["skipped_steps"], "scale": whole["scale"],
        "tokens_per_second": whole["speed"],
        "tokens_per_second_waiting": waited["speed"],
    }  # fmt: skip


def ends_alike(run, other):
    pairs = zip(run["model"].parameters(), other["model"].parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    timing.require_gpu(options.device, "--device cpu trains without")
    logging.basicConfig(level=logging.INFO, format="%(name)s %(message)s")
    text = b"\n".join(p.read_bytes() for p in sorted((ROOT / "docs").glob("*.md")))
    rows, expected = [], None
    for precision in (
        ("fp32", "bf16", "fp16") if options.device == "cuda" else ("fp32",)
    ):
        row = check(precision, text, options.steps, options.device, expected)
        expected = row["last_loss"] if expected is None else expected
        rows.append(row)
        print(json.dumps(row), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    sys.exit(0 if all(row["passed"] for row in rows) else 1)


if __name__ == "__main__":
    main()
