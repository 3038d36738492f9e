"""`triptych chat`: a conversation in the terminal."""

from __future__ import annotations

import argparse
import codecs
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from triptych.config import require_numbers
from triptych.conversation import Message, render, require_markers
from triptych.device import DeviceName
from triptych.errors import ConfigError, InputError, shown
from triptych.generation import Sampling, stream
from triptych.language_model import (
    LanguageModel,
    load_model,
    require_utf8,
    use_threads,
)

HELP = """\
/help           this list
/reset          forget the conversation
/seed N         seed of the next replies
/temperature T  0 takes the likeliest token
/quit           leave (or Ctrl-D)"""


@dataclass(frozen=True, kw_only=True)
class ChatConfig:
    """With whom to talk and how; `Sampling` has the five settings not said here.

    Attributes:
        model: run, checkpoint or Hugging Face folder.
        system: a message before the first one; None for none.
        threads: CPU threads; None takes all cores.
        device: `auto` is a GPU that torch finds, else the CPU; `cpu` or `cuda`.
    """

    model: str
    system: str | None = None
    max_new_tokens: int = 64
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    seed: int = 0
    threads: int | None = None
    device: DeviceName = "auto"

    def __post_init__(self) -> None:
        require_numbers(self)


class Session:
    """A conversation: the messages so far, the model, and how it samples."""

    def __init__(self, config: ChatConfig, opened: LanguageModel) -> None:
        self.config, self.opened = config, opened
        self.seed, self.temperature = config.seed, config.temperature
        self.messages: list[Message] = []
        # Refuses what cannot be before the first reply.
        require_utf8([config.system or ""])
        self._sampling()
        require_markers(opened.tokenizer)
        self.reset()

    def reset(self) -> None:
        """Forgets everything but the system message."""
        system = self.config.system
        self.messages = [{"role": "system", "content": system}] if system else []

    def reply(self, text: str) -> Iterator[str]:
        """Yields the reply to `text` in pieces and remembers both.

        Raises:
            ConfigError: the model has no room for it; the conversation is as before.
            InputError: it is no text, likewise.
        """
        require_utf8([text])
        before = list(self.messages)
        self.messages.append({"role": "user", "content": text})
        pieces = []
        try:
            for piece in self._pieces(self._prompt()):
                pieces.append(piece)
                yield piece
        except ConfigError:
            self.messages = before
            raise
        self.messages.append({"role": "assistant", "content": "".join(pieces)})

    def _prompt(self) -> list[int]:
        """Ids of the conversation; the oldest turns go when the model's room is full.

        A question goes with its answer; the system message and the newest turn stay.
        """
        room = self.opened.model.config.max_position_embeddings
        while True:
            ids = render(
                self.messages, self.opened.tokenizer, add_generation_prompt=True
            ).ids
            turns = [i for i, m in enumerate(self.messages) if m["role"] == "user"]
            if len(ids) + self.config.max_new_tokens <= room or len(turns) == 1:
                return ids
            del self.messages[turns[0] : turns[1]]

    def _pieces(self, prompt: list[int]) -> Iterator[str]:
        drawn = stream(
            self.opened.model,
            prompt,
            self._sampling(),
            stop_ids=self.opened.stop_ids,
        )
        return pieces(drawn, self.opened.text)

    def _sampling(self) -> Sampling:
        return Sampling(
            max_new_tokens=self.config.max_new_tokens,
            temperature=self.temperature,
            top_k=self.config.top_k,
            top_p=self.config.top_p,
            seed=self.seed,
        )

    def command(self, line: str) -> str:
        """Obeys a `/command`; returns what to say about it.

        Raises:
            EOFError: for `/quit`.
        """
        name, _, value = line.partition(" ")
        if name == "/quit":
            raise EOFError
        if name == "/reset":
            self.reset()
            return "forgotten"
        if name in ("/seed", "/temperature"):
            return self._set(name[1:], value)
        return HELP

    def _set(self, name: str, value: str) -> str:
        try:
            number = int(value) if name == "seed" else float(value)
        except ValueError:
            return f"{name}: expected a number, found `{value}`"
        if not number >= 0:  # NaN neither
            return f"{name}: expected a number >= 0, found `{value}`"
        setattr(self, name, number)
        return f"{name} = {number}"


def pieces(ids: Iterable[int], text_of: Callable[[list[int]], str]) -> Iterator[str]:
    """Yields the text of ids as they come: what each adds, once its characters are whole.

    Only ids since the piece before the last are read again, not the whole reply. That
    piece is among them as a tokenizer may write the first word of a text otherwise.
    """
    window: list[int] = []
    shown, text = 0, ""  # letters of the window that were yielded; all of it
    begin = 0  # where the next window begins: with the piece that is yielded next
    for number in ids:
        window.append(number)
        text = text_of(window)
        piece = text[shown:]
        if not piece or piece.endswith("\N{REPLACEMENT CHARACTER}"):
            continue  # of a character that is not whole
        yield piece
        window = window[begin:]
        begin, shown = len(window), len(text_of(window))
        text = ""
    if len(text) > shown:  # what came before an end within a character
        yield text[shown:]


def chat(config: ChatConfig) -> None:
    """Talks on standard input and output until `/quit` or the end of input.

    Raises:
        ConfigError: if there is no such model.
    """
    use_threads(config.threads)
    session = Session(config, load_model(config.model, config.device))
    interactive = sys.stdin.isatty()
    if interactive:
        print(f"{session.opened.folder} · /help for commands")
    while True:
        try:
            line = input("you: " if interactive else "").strip()
            _answer(session, line)
        except EOFError:
            return
        except (ConfigError, InputError) as error:
            if not interactive:
                raise
            print(shown(error))  # a person can say it in fewer words


def _answer(session: Session, line: str) -> None:
    if line.startswith("/"):
        print(session.command(line))
        return
    if line:
        for piece in session.reply(line):
            print(_printable(piece), end="", flush=True)
        print()


def _printable(text: str) -> str:
    """Text without control characters: a model must not steer the terminal."""
    return "".join(
        c
        if c in "\n\t" or c.isprintable()
        else codecs.encode(c, "unicode_escape").decode()
        for c in text
    )


def run(options: argparse.Namespace) -> int:
    """The command's door from the shell."""
    chat(
        ChatConfig(
            model=options.model,
            system=options.system,
            max_new_tokens=options.max_new_tokens,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            seed=options.seed,
            threads=options.threads,
            device=options.device,
        )
    )
    return 0
