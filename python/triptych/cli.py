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
from contextlib import contextmanager, nullcontext, suppress
from types import FrameType
from typing import Any

from triptych import streams
from triptych.verbs import VERBS


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


def _run(options: argparse.Namespace) -> int:
    verb = VERBS[options.verb]
    if verb.by_one and _is_a_later_process():
        return 0
    with _heeding_sigterm() if verb.goes_on else nullcontext():
        module, function = verb.run.split(":")
        run: Callable[[argparse.Namespace], int] = getattr(_import(module), function)
        return run(options)


def _is_a_later_process() -> bool:
    """Whether `torchrun` started this one beside a first; asked without importing torch."""
    several = os.environ.get("WORLD_SIZE", "1") not in ("", "1")
    return several and os.environ.get("RANK", "0") not in ("", "0")


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
    with suppress(OSError):  # where nobody hears it, the status says so
        os.write(
            2, b"error[interrupted] stopped: run the same command again to go on\n"
        )
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
    before = threading.excepthook
    threading.excepthook = before if debug else _quiet_where_told
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
    finally:
        threading.excepthook = before  # whoever calls `main` has one of their own


def _quiet_where_told(ended: threading.ExceptHookArgs) -> None:
    """Of a full disk TensorBoard's thread tells whoever waits for it, who says it once."""
    from triptych.errors import EXHAUSTED

    error = ended.exc_value
    if not (isinstance(error, OSError) and error.errno in EXHAUSTED):
        threading.__excepthook__(ended)


def _explain(error: Exception) -> int:
    """Prints what is wrong and what to do, a line each."""
    from triptych import errors
    from triptych.errors import code, exit_status, shown

    if errors.is_out_of_memory(error):
        error = errors.out_of_memory(error)
    known = errors.InternalError, errors.Interrupted, errors.TrainingDiverged
    expected = isinstance(error, (ValueError, OSError, *known))
    name = "" if expected else f"{type(error).__name__}: "
    hint = getattr(error, "hint", None) if expected else "add --debug for the traceback"
    message = str(error).removesuffix(f" (hint: {hint})")
    print(f"error[{code(error)}] {name}{shown(message)}", file=sys.stderr)
    if hint:
        print(f"hint: {shown(hint)}", file=sys.stderr)
    return exit_status(error)


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
        settings = VERBS[self.verb].settings if self.verb else None
        if settings is None:
            return text
        from triptych.settings_help import render

        module, name = settings.split(":")
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
    """The whole command line, without importing what runs it."""
    parser = _Parser(
        prog="triptych",
        description="Raw text to an aligned chat model, in three panels.",
        epilog="Exit status: 0 good; 1 failed; 2 usage or configuration; 3 more bad "
        "records than allowed; 4 integrity; 5 resources; 75 interrupted; 130 Ctrl-C.",
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    parser.set_defaults(verb=None, debug=False)
    verbs = parser.add_subparsers(dest="verb", metavar="COMMAND")
    for name, verb in VERBS.items():
        command = verbs.add_parser(name, help=verb.line, description=verb.line)
        command.verb = name
        command.add_argument("--debug", action="store_true", help="show tracebacks")
        verb.add_arguments(command)
    return parser
