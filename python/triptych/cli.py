"""The command `triptych`: one verb a stage, each a function of the package too.

Parsing imports nothing heavy; a verb's module is imported when it runs. Every error
that triptych raises on purpose becomes one `error:` line and its exit status.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import importlib.metadata
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import Any

from triptych import streams

# verb -> (module and function that runs it, one line of help)
VERBS: dict[str, tuple[str, str]] = {
    "demo": ("triptych.commands.demo:run", "raw text to a chat model, on this machine"),
    "prep": ("triptych._core:main", "prepare text; the same as `triptych-prep`"),
    "pretrain": ("triptych.commands.pretrain:run", "train a base model from shards"),
    "plan": (
        "triptych.commands.plan:run",
        "say what a pre-training run will take",
    ),
    "ladder": (
        "triptych.commands.ladder:run",
        "train small models, fit a scaling law, predict a larger run",
    ),
    "sft": ("triptych.commands.sft:run", "fine-tune a model on conversations"),
    "dpo": ("triptych.commands.dpo:run", "align a model with preferences"),
    "average": (
        "triptych.commands.average:run",
        "merge the last checkpoints of a run",
    ),
    "eval": ("triptych.commands.eval:run", "measure a model on held-out data"),
    "generate": ("triptych.commands.generate:run", "print completions of prompts"),
    "chat": ("triptych.commands.chat:run", "talk with a model in the terminal"),
    "export": ("triptych.commands.export:run", "write a Hugging Face model folder"),
    "import": ("triptych.commands.import_model:run", "read a Hugging Face folder"),
    "inspect": ("triptych.commands.inspect:run", "show the rows of a training step"),
    "verify": (
        "triptych.commands.verify:run",
        "check an artefact against its manifest",
    ),
    "report": ("triptych.commands.report:run", "write a run's report.html"),
    "doctor": ("triptych.commands.doctor:run", "say what this machine can do"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status.

    Args:
        argv: arguments without the program's name; the process' own by default.
    """
    streams.open_all()
    streams.speak_in_any_locale()
    with streams.unfailing_errors():
        return _main(list(sys.argv[1:] if argv is None else argv))


def _main(arguments: list[str]) -> int:
    if arguments[:1] == ["--version"]:
        print(f"triptych {importlib.metadata.version('triptych')}")
        return 0
    if arguments[:1] == ["prep"]:
        return _prep(arguments[1:])
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.verb is None:
        parser.print_help()
        return 2
    return _guarded(lambda: _run(options), debug=options.debug)


def _prep(arguments: list[str]) -> int:
    """Hands over to the engine, which must receive Ctrl-C itself to stop at once."""
    from triptych import _core

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _guarded(lambda: _core.main(["triptych prep", *arguments]), debug=False)


# Verbs that go on where they were stopped.
GOING_ON = ("demo", "pretrain", "ladder", "sft", "dpo")


def _run(options: argparse.Namespace) -> int:
    module, function = VERBS[options.verb][0].split(":")
    with _heeding_sigterm() if options.verb in GOING_ON else nullcontext():
        run: Callable[[argparse.Namespace], int] = getattr(_import(module), function)
        return run(options)


@contextmanager
def _heeding_sigterm() -> Iterator[None]:
    """Gives SIGTERM its exit status also before and after a command trains.

    While it trains, the Trainer notes it and saves first.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # where Python lets nobody set a handler
        return
    before: Any = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except Exception as error:
        from triptych.errors import Interrupted

        if isinstance(error, Interrupted):  # it ends by one: another changes nothing
            before = _terminate
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(_: int, __: FrameType | None) -> None:
    """Ends at once: an exception aborts torch's import, and a kill costs nothing here."""
    os.write(2, b"error[interrupted] stopped: run the same command again to go on\n")
    os._exit(75)


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        from triptych.errors import ConfigError

        if (error.name or "").startswith("triptych"):
            raise
        raise ConfigError(
            f"this command needs `{error.name}`, which is not installed: "
            "run `pip install 'triptych[train]'`"
        ) from None


def _guarded(work: Callable[[], int], *, debug: bool) -> int:
    """Runs `work`; what it raises becomes a line on stderr and an exit status."""
    try:
        return work()
    except BrokenPipeError:  # the reader of our output, `head` say, has had enough
        streams.silence(sys.stdout)
        return 0
    except KeyboardInterrupt:
        print("interrupted: run the same command again to continue", file=sys.stderr)
        return 130
    except Exception as error:
        if debug:
            raise
        return _explain(error)


def _explain(error: Exception) -> int:
    """Prints what is wrong and what to do, a line each."""
    from triptych import errors
    from triptych.errors import code, exit_status

    known = errors.InternalError, errors.Interrupted, errors.TrainingDiverged
    expected = isinstance(error, (ValueError, OSError, *known))
    name = "" if expected else f"{type(error).__name__}: "
    hint = getattr(error, "hint", None) if expected else "add --debug for the traceback"
    message = str(error).removesuffix(f" (hint: {hint})")
    print(f"error[{code(error)}] {name}{message}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
    return exit_status(error)


# verb -> the settings that its file holds; `--help` lists them
SETTINGS = {
    "pretrain": "triptych.commands.pretrain:PretrainConfig",
    "sft": "triptych.commands.sft:SftConfig",
    "dpo": "triptych.commands.dpo:DpoConfig",
}


class _Parser(argparse.ArgumentParser):
    """Names the nearest verb or option to one that is not there.

    At the end of a verb's help it lists its settings, imported only for that.
    """

    verb = ""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        found, unknown = super().parse_known_args(args, namespace)
        if unknown and self.verb:  # argparse would say so without the verb's options
            hint = _nearest(unknown[0].split("=")[0], self._option_string_actions)
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return found, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            hint = _nearest(str(value), action.choices or ())
            raise argparse.ArgumentError(action, f"{error.message}{hint}") from None

    def format_help(self) -> str:
        text = super().format_help()
        if self.verb not in SETTINGS:
            return text
        from triptych.settings_help import render

        module, name = SETTINGS[self.verb].split(":")
        try:
            kind = getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            return f"{text}\nsettings: listed where `{error.name}` is installed\n"
        return f"{text}\n{render(kind)}"


def _nearest(name: str, known: Iterable[Any]) -> str:
    """`; did you mean …?`, if a known name is near."""
    near = difflib.get_close_matches(name, map(str, known), n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; the README's table of verbs is made from it."""
    parser = _Parser(
        prog="triptych",
        description="Raw text to an aligned chat model, in three panels.",
        epilog="Exit status: 0 good; 1 failed; 2 usage or configuration; 3 more bad "
        "records than allowed; 4 integrity; 5 resources; 75 interrupted; 130 Ctrl-C.",
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    parser.set_defaults(verb=None, debug=False)
    verbs = parser.add_subparsers(dest="verb", metavar="COMMAND")
    for verb, (_, line) in VERBS.items():
        command = verbs.add_parser(verb, help=line, description=line)
        command.verb = verb
        command.add_argument("--debug", action="store_true", help="show tracebacks")
        ARGUMENTS[verb](command)
    return parser


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


ARGUMENTS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "demo": _demo,
    "prep": _nothing,
    "pretrain": _pretrain,
    "plan": _plan,
    "ladder": _ladder,
    "sft": _training,
    "dpo": _training,
    "average": _average,
    "eval": _eval,
    "generate": _generate,
    "chat": _chat,
    "export": _export,
    "import": _import_model,
    "inspect": _inspect,
    "verify": _verify,
    "report": _folder,
    "doctor": _doctor,
}
