"""`triptych demo`: raw text to an aligned chat model, on this machine, from the wheel.

Each part writes one artefact, whole or not at all, and is skipped where it stands:
the same command again goes on where the last one was stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from triptych import artefact, prep, recipes
from triptych._core import Tokenizer, tokenize_documents, train_tokenizer
from triptych.commands.dpo import dpo
from triptych.commands.export import ExportConfig, export
from triptych.commands.pretrain import pretrain
from triptych.commands.sft import sft
from triptych.commands.shell import StepProgress
from triptych.commands.training import Watch, require_no_file_at
from triptych.config import require_numbers
from triptych.conversation import (
    read_conversations,
    read_preferences,
    write_conversations,
    write_preferences,
)
from triptych.errors import ConfigError
from triptych.language_model import find_model, load_model, use_threads
from triptych.model import Transformer
from triptych.quickstart.evaluation import Evaluations
from triptych.quickstart.results import summary, write_report
from triptych.quickstart.split import HELDOUT_BYTES, is_heldout, split_documents

SAMPLE = Path(__file__).resolve().parent.parent / "sample"


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """A demo run.

    Attributes:
        output: folder of the run.
        minutes: scale of the work; 10 are at most ten minutes on two cores.
        seed: of everything that is drawn.
        threads: CPU threads; another number rounds differently.
    """

    output: str = "runs/demo"
    minutes: float = 10.0
    seed: int = 0
    threads: int = 2

    def __post_init__(self) -> None:
        """Checks every bound once, at birth."""
        require_numbers(self)
        if not 0 < self.minutes <= 10_000:
            raise ConfigError(f"minutes: expected in (0, 10000], found {self.minutes}")
        if self.threads < 1:
            raise ConfigError(f"threads: expected >= 1, found {self.threads}")
        if not 0 <= self.seed < 2**32:  # as training has it, minutes later
            raise ConfigError(f"seed: expected from 0 to 2^32 - 1, found {self.seed}")


def demo(settings: DemoConfig | None = None) -> dict[str, Any]:
    """Runs or continues the demo and returns its results.

    Raises:
        ConfigError: if the folder holds a demo with other settings.
    """
    return _Demo(settings or DemoConfig()).run()


class _Demo:
    """The parts of the demo in their order, over one folder."""

    def __init__(self, settings: DemoConfig) -> None:
        self.settings = settings
        self.output = Path(settings.output)
        self.started = time.monotonic()
        self.console = Console(stderr=True, highlight=False)
        self.run_settings = recipes.RunSettings(
            output=self.output,
            seed=settings.seed,
            threads=settings.threads,
            scale=settings.minutes / 10.0,
        )

    def run(self) -> dict[str, Any]:
        self._claim()
        use_threads(self.settings.threads)
        self._prepare()
        self._tokenize()
        base = self._pretrain()
        tuned = self._sft(base)
        aligned = self._dpo(tuned)
        self._export(aligned)
        return self._finish()

    def _claim(self) -> None:
        """Writes the settings into the folder, or refuses a folder with others."""
        path = self.output / "demo.json"
        wanted = dataclasses.asdict(self.settings) | {"output": None}
        if path.is_file():
            found = json.loads(path.read_text(encoding="utf-8"))
            if found != wanted:
                raise ConfigError(
                    f"`{path}`: expected the settings of this command, {wanted}, found "
                    f"{found}: name another --output, or the same settings to continue"
                )
            return
        require_no_file_at(self.output)
        if self.output.is_dir() and any(self.output.iterdir()):
            raise ConfigError(f"`{self.output}`: expected an empty folder or a demo's")
        self.output.mkdir(parents=True, exist_ok=True)
        artefact.write_text(path, json.dumps(wanted) + "\n")

    @contextmanager
    def _part(self, title: str) -> Iterator[None]:
        begun = time.monotonic()
        with self.console.status(title):
            yield
        self.console.print(f"{title:<52}{time.monotonic() - begun:>8.1f} s")

    def _once(self, title: str, folder: Path, make: Callable[[], Any]) -> Path:
        """Makes an artefact unless it stands; what stands is checked where it is read."""
        if not (folder / artefact.FILE_NAME).is_file():
            with self._part(title):
                make()
        return folder

    def _prepare(self) -> None:
        documents = self.output / "documents"
        self._once(
            "prepare raw text",
            documents,
            lambda: prep.run(self._prep_config(documents)),
        )
        self._once(
            "split held-out documents off",
            self.output / "split",
            lambda: split_documents(documents, self.output / "split", recipes.SOURCES),
        )

    def _prep_config(self, documents: Path) -> prep.PrepConfig:
        return prep.PrepConfig(
            input=tuple(str(SAMPLE / f"{name}.jsonl.zst") for name in recipes.SOURCES),
            output=str(documents),
            min_length=recipes.MIN_WORDS,
            max_length=recipes.MAX_WORDS,
            threads=self.settings.threads,
        )

    def _tokenize(self) -> None:
        self._once(
            "train the tokenizer", self.output / "tokenizer", self._train_tokenizer
        )
        tokenizer = self.tokenizer()
        for name in recipes.SOURCES:
            for part in ("train", "heldout"):
                source = self.output / "split" / f"{name}-{part}.jsonl.zst"
                folder = self.tokens(f"{name}-{part}")
                self._once(
                    f"tokenize {name}, {part}",
                    folder,
                    partial(tokenize_documents, [source], tokenizer, folder),
                )
        self._render(tokenizer)

    def _train_tokenizer(self) -> None:
        paths = [
            str(self.output / "split" / f"{n}-train.jsonl.zst") for n in recipes.SOURCES
        ]
        tokenizer = train_tokenizer(paths, None, recipes.VOCAB_SIZE)
        with artefact.Draft(self.output / "tokenizer") as draft:
            tokenizer.save(str(draft.path("tokenizer.json")))
            draft.commit(
                "triptych-tokenizer/1", {}, {"vocab_size": tokenizer.vocab_size}
            )

    def _render(self, tokenizer: Tokenizer) -> None:
        conversations = list(read_conversations([SAMPLE / "conversations.jsonl.zst"]))
        preferences = list(read_preferences([SAMPLE / "preferences.jsonl.zst"]))
        for part, heldout in (("train", False), ("heldout", True)):
            dialogs = [
                c
                for c in conversations
                if is_heldout(c.messages[0]["content"]) == heldout
            ]
            pairs = [
                p for p in preferences if is_heldout(p.prompt[0]["content"]) == heldout
            ]
            folder = self.tokens(f"conversations-{part}")
            self._once(
                f"render conversations, {part}",
                folder,
                partial(write_conversations, dialogs, tokenizer, folder),
            )
            folder = self.tokens(f"preferences-{part}")
            self._once(
                f"render preferences, {part}",
                folder,
                partial(write_preferences, pairs, tokenizer, folder),
            )

    def tokenizer(self) -> Tokenizer:
        """The tokenizer of this run."""
        return Tokenizer.from_file(str(self.output / "tokenizer" / "tokenizer.json"))

    def tokens(self, name: str) -> Path:
        """Token shard folder of a part of the data."""
        return self.output / "tokens" / name

    @property
    def evaluations(self) -> Evaluations:
        """The measurements of this run; each is made once."""
        return Evaluations(self.output, self.tokenizer())

    def _pretrain(self) -> Path:
        sources = {name: self.tokens(f"{name}-train") for name in recipes.SOURCES}
        settings = recipes.demo_pretrain(self.run_settings, sources)
        evaluations = self.evaluations
        with self._part("measure the untrained model"):
            model = settings.model.build(self.tokenizer(), seed=settings.seed)
            evaluations.base("initial", model)

        def on_stage_end(name: str, index: int, model: Transformer) -> None:
            evaluations.base(name, model)

        total = sum(stage.num_steps for stage in settings.stage)
        with StepProgress("pretrain", total) as progress:
            pretrain(settings, Watch(on_step=progress.step, on_stage_end=on_stage_end))
        return find_model(self.output / "pretrain")

    def _sft(self, base: Path) -> Path:
        with self._part("measure the base model's replies"):
            self.evaluations.replies("base", base)
        settings = recipes.demo_sft(
            self.run_settings, base, self.tokens("conversations-train")
        )
        with StepProgress("sft") as progress:
            sft(settings, Watch(on_step=progress.step))
        tuned = find_model(self.output / "sft")
        with self._part("measure the fine-tuned model's replies"):
            self.evaluations.replies("sft", tuned)
        return tuned

    def _dpo(self, tuned: Path) -> Path:
        settings = recipes.demo_dpo(
            self.run_settings, tuned, self.tokens("preferences-train")
        )
        with StepProgress("dpo") as progress:
            dpo(settings, Watch(on_step=progress.step))
        aligned = find_model(self.output / "dpo")
        with self._part("measure the aligned model"):
            self.evaluations.preferences("dpo", aligned, reference=tuned)
            self.evaluations.replies("dpo", aligned)
            self.evaluations.base("dpo", load_model(aligned).model)
        return aligned

    def _export(self, aligned: Path) -> None:
        folder = self.output / "export"
        self._once(
            "export",
            folder,
            lambda: export(ExportConfig(model=str(aligned), output=str(folder))),
        )

    def _finish(self) -> dict[str, Any]:
        results = self.evaluations.all()
        results["seconds"] = round(time.monotonic() - self.started, 1)
        artefact.write_text(
            self.output / "results.json", json.dumps(results, indent=2) + "\n"
        )
        write_report(self.output, results)
        return results


def run(options: argparse.Namespace) -> int:
    """The command's door from the shell."""
    settings = DemoConfig(
        output=options.output,
        minutes=options.minutes,
        seed=options.seed,
        threads=options.threads,
    )
    if options.dry_run:
        print(json.dumps(plan(settings), indent=2))
        return 0
    results = demo(settings)
    if options.json:
        print(json.dumps(results))
    else:
        print(summary(Path(settings.output), results))
    return 0


def plan(settings: DemoConfig) -> dict[str, Any]:
    """What a demo would do: its steps and tokens; nothing is written."""
    stages = recipes.demo_stages(settings.minutes / 10.0)
    return {
        "settings": dataclasses.asdict(settings),
        "sample_bytes": sum(path.stat().st_size for path in SAMPLE.glob("*.zst")),
        "heldout_bytes_per_source": HELDOUT_BYTES,
        "stages": [
            {
                "stage": s.name,
                "steps": s.num_steps,
                "tokens": s.num_rows * recipes.SEQ_LEN,
            }
            for s in stages
        ],
        "python": sys.version.split()[0],
    }
