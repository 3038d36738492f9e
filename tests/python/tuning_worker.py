"""What processes do for `test_tuning_ranks`; a module of its own, as `rank_worker` is."""

from rank_worker import meet
from triptych.commands.dpo import DpoConfig, dpo
from triptych.commands.sft import SftConfig, sft
from triptych.errors import ConfigError, InputError
from triptych.train import OptimizerConfig
from triptych.train.parallel import ParallelConfig
from triptych.train.ranks import joined

# Leaves gradients that are nothing but rounding, as `sharded_worker.CALM` does.
CALM = OptimizerConfig(eps=1e-4, weight_decay=0.0)


def tune(folder, stage, name, parallel, conversations="conversations.jsonl"):
    """One run of a command; all share the model of `folder`."""
    shared = {
        "output": str(folder / f"{stage}-{name}"),
        "model": str(folder / "run"),
        "batch_size": 2,
        "seq_len": 64,
        "micro_batch_rows": 1,
        "learning_rate": 1e-3,
        "precision": "fp32",
        "threads": 1,
        "compile": False,
        "optimizer": CALM,
        "parallel": ParallelConfig(**parallel),
    }
    if stage == "sft":
        sft(SftConfig(conversations=(str(folder / conversations),), **shared))
    else:
        paths = (str(folder / "preferences.jsonl"),)
        dpo(DpoConfig(preferences=paths, epochs=2.0, **shared))


def tune_all(rank, size, port, folder, cases, grids):
    """One run after another, in the same processes."""
    meet(rank, size, port)
    with joined():
        for stage, name in cases:
            tune(folder, stage, name, grids[name])


def refused(rank, size, port, folder):
    """What each process is told of a file that cannot be read."""
    meet(rank, size, port)
    with joined():
        try:
            tune(folder, "sft", "broken", {}, "broken.jsonl")
        except (ConfigError, InputError) as error:
            (folder / f"said-{rank}").write_text(str(error))
