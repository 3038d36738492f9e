"""The verbs of the command `triptych`: who runs each, and with which arguments.

Nothing heavy is imported here: a verb's module is named, and imported when it runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple


class Verb(NamedTuple):
    """What the command line knows of a verb.

    Attributes:
        run: `module:function` that runs it, imported then.
        line: its line of help.
        add_arguments: gives a parser its arguments.
        settings: `module:class` of what its file holds, which `--help` lists.
        goes_on: stopped, it goes on when it is run again.
        by_one: it writes something once; of the processes of `torchrun` the first does.
    """

    run: str
    line: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    settings: str | None = None
    goes_on: bool = False
    by_one: bool = False


def _configured(command: argparse.ArgumentParser) -> None:
    command.add_argument("--config", metavar="FILE", help="TOML file")
    command.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one key, as --set optimizer.weight_decay=0.05",
    )


def _training(command: argparse.ArgumentParser) -> None:
    _configured(command)
    command.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    command.add_argument("--json", action="store_true", help="result as JSON on stdout")
    command.add_argument(
        "--dry-run", action="store_true", help="show the resolved plan, write nothing"
    )
    command.add_argument(
        "--track",
        dest="overrides",
        action="append",
        type=_tracking,
        metavar="NAMES",
        help="show metrics in trackio or wandb too, offline: trackio,wandb",
    )


def _tracking(names: str) -> str:
    """`a,b` as the override that it stands for."""
    listed = ", ".join(f'"{name.strip()}"' for name in names.split(","))
    return f"tracking.use=[{listed}]"


def _pretrain(command: argparse.ArgumentParser) -> None:
    _training(command)
    command.add_argument(
        "--size",
        dest="overrides",
        action="append",
        type="model.size={}".format,
        metavar="SIZE",
        help="shape, batch and rate of the dial: 10m, 100m, ... or d7 for depth 7",
    )


def _plan(command: argparse.ArgumentParser) -> None:
    _configured(command)
    command.add_argument(
        "--hardware",
        metavar="NAME",
        help="H100, A100, ...: plan for it, measure nothing",
    )
    command.add_argument("--devices", type=int, help="of them (default: 1)")
    command.add_argument("--mfu", type=float, help="share of their peak (default: 0.4)")
    command.add_argument("--price", type=float, help="of a device for an hour")
    command.add_argument(
        "--no-measure", action="store_true", help="run no steps here, say no time"
    )
    command.add_argument("--json", action="store_true", help="the plan as JSON")


def _ladder(command: argparse.ArgumentParser) -> None:
    _training(command)
    command.add_argument(
        "--sizes",
        dest="overrides",
        action="append",
        type=lambda text: _list_override("ladder.sizes", text, quote='"'),
        metavar="SIZE,...",
        help="WIDTHxLAYERS or of the dial (default: 1/64 to 1/4 of the run's own)",
    )
    command.add_argument(
        "--durations",
        dest="overrides",
        action="append",
        type=lambda text: _list_override("ladder.durations", text),
        metavar="N,...",
        help="tokens a parameter (default: half, once and twice the run's own)",
    )
    command.add_argument(
        "--with-target",
        action="store_true",
        help="train the predicted run as well, after predicting it, and compare",
    )
    command.add_argument(
        "--no-measure", action="store_true", help="in a dry run: no steps, no time"
    )


def _list_override(key: str, text: str, quote: str = "") -> str:
    return f"{key}=[{','.join(f'{quote}{part}{quote}' for part in text.split(','))}]"


def _demo(command: argparse.ArgumentParser) -> None:
    command.add_argument("--output", default="runs/demo", help="folder of the run")
    command.add_argument(
        "--minutes",
        type=float,
        default=10.0,
        help="scale of the work: minutes on 2 cores (default: 10)",
    )
    command.add_argument("--seed", type=int, default=0)
    command.add_argument(
        "--threads", type=int, default=2, help="CPU threads (default: 2)"
    )
    command.add_argument("--json", action="store_true", help="result as JSON on stdout")
    command.add_argument("--dry-run", action="store_true", help="show the plan only")


def _placed(command: argparse.ArgumentParser) -> None:
    command.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    command.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="default: a GPU where torch finds one",
    )


def _sampling(command: argparse.ArgumentParser, temperature: float) -> None:
    command.add_argument("model", help="run, checkpoint or Hugging Face folder")
    command.add_argument("--max-new-tokens", type=int, default=64)
    command.add_argument("--temperature", type=float, default=temperature)
    command.add_argument("--top-k", type=int)
    command.add_argument("--top-p", type=float, default=1.0)
    command.add_argument("--seed", type=int, default=0)
    _placed(command)


def _generate(command: argparse.ArgumentParser) -> None:
    _sampling(command, temperature=0.0)
    command.add_argument(
        "--prompt", action="append", help="repeatable; else stdin lines"
    )
    command.add_argument("--json", action="store_true", help="one JSON object a prompt")


def _chat(command: argparse.ArgumentParser) -> None:
    _sampling(command, temperature=0.0)
    command.add_argument("--system", help="a system message")


def _eval(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", help="run, checkpoint or Hugging Face folder")
    command.add_argument(
        "--shards",
        action="append",
        required=True,
        metavar="[NAME=]FOLDER",
        help="token shards held out from training; repeatable",
    )
    command.add_argument("--seq-len", type=int, help="cut (default: the model's)")
    _placed(command)
    command.add_argument("--json", action="store_true")


def _export(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", help="run or checkpoint folder")
    command.add_argument("--output", required=True, help="folder to write")


def _average(command: argparse.ArgumentParser) -> None:
    command.add_argument("run", help="folder of a run that kept several checkpoints")
    command.add_argument("--output", required=True, help="folder to write")
    command.add_argument(
        "--last", type=int, metavar="N", help="checkpoints to merge (default: all kept)"
    )
    command.add_argument(
        "--decay",
        choices=["linear", "sqrt", "cosine"],
        default="linear",
        help="of the learning rate, which the merge emulates (default: linear, a mean)",
    )


def _import_model(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", help="Hugging Face model folder, safetensors only")
    command.add_argument("--output", required=True, help="artefact to write")


def _inspect(command: argparse.ArgumentParser) -> None:
    command.add_argument("what", choices=["order"])
    command.add_argument("--run", required=True, help="folder of a pre-training run")
    command.add_argument("--step", type=int, required=True, help="from 0")
    command.add_argument(
        "--verify",
        action="store_true",
        help="read all steps up to this one again and compare their hashes",
    )
    command.add_argument("--json", action="store_true")


def _folder(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", help="run or artefact folder")
    command.add_argument("--json", action="store_true")


def _verify(command: argparse.ArgumentParser) -> None:
    _folder(command)
    command.add_argument(
        "--resume-at",
        type=int,
        metavar="STEP",
        help="run a pre-training run again from this checkpoint to the next; compare bits",
    )


def _doctor(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true")


def _nothing(command: argparse.ArgumentParser) -> None:
    """`prep` parses its own arguments, in Rust."""


VERBS = {
    "demo": Verb(
        "triptych.commands.demo:run",
        "raw text to a chat model, on this machine",
        _demo,
        goes_on=True,
    ),
    "prep": Verb(
        "triptych._core:main", "prepare text; the same as `triptych-prep`", _nothing
    ),
    "pretrain": Verb(
        "triptych.commands.pretrain:run",
        "train a base model from shards",
        _pretrain,
        settings="triptych.commands.pretrain:PretrainConfig",
        goes_on=True,
    ),
    "plan": Verb(
        "triptych.commands.plan:run", "say what a pre-training run will take", _plan
    ),
    "ladder": Verb(
        "triptych.commands.ladder:run",
        "train small models, fit a scaling law, predict a larger run",
        _ladder,
        goes_on=True,
    ),
    "sft": Verb(
        "triptych.commands.sft:run",
        "fine-tune a model on conversations",
        _training,
        settings="triptych.commands.sft:SftConfig",
        goes_on=True,
    ),
    "dpo": Verb(
        "triptych.commands.dpo:run",
        "align a model with preferences",
        _training,
        settings="triptych.commands.dpo:DpoConfig",
        goes_on=True,
    ),
    "average": Verb(
        "triptych.commands.average:run",
        "merge the last checkpoints of a run",
        _average,
        by_one=True,
    ),
    "eval": Verb(
        "triptych.commands.eval:run", "measure a model on held-out data", _eval
    ),
    "generate": Verb(
        "triptych.commands.generate:run", "print completions of prompts", _generate
    ),
    "chat": Verb(
        "triptych.commands.chat:run", "talk with a model in the terminal", _chat
    ),
    "export": Verb(
        "triptych.commands.export:run",
        "write a Hugging Face model folder",
        _export,
        by_one=True,
    ),
    "import": Verb(
        "triptych.commands.import_model:run",
        "read a Hugging Face folder",
        _import_model,
        by_one=True,
    ),
    "inspect": Verb(
        "triptych.commands.inspect:run", "show the rows of a training step", _inspect
    ),
    "verify": Verb(
        "triptych.commands.verify:run",
        "check an artefact against its manifest",
        _verify,
    ),
    "report": Verb(
        "triptych.commands.report:run",
        "write a run's report.html",
        _folder,
        by_one=True,
    ),
    "doctor": Verb(
        "triptych.commands.doctor:run", "say what this machine can do", _doctor
    ),
}
