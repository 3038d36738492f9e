"""`triptych generate`: completions of prompts."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass

from triptych.config import require_numbers
from triptych.device import DeviceName
from triptych.errors import shown
from triptych.language_model import load_model, use_threads


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """What to complete and how; `Sampling` has the five settings not said here.

    Attributes:
        model: run, checkpoint or Hugging Face folder.
        prompts: texts to go on from.
        threads: CPU threads; None takes all cores.
        device: `auto` is a GPU that torch finds, else the CPU; `cpu` or `cuda`.
    """

    model: str
    prompts: tuple[str, ...]
    max_new_tokens: int = 64
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    seed: int = 0
    threads: int | None = None
    device: DeviceName = "auto"

    def __post_init__(self) -> None:
        require_numbers(self)


def generate(settings: GenerateConfig) -> list[str]:
    """Completes each prompt as plain text: what follows it, without it.

    Raises:
        ConfigError: if there is no such model, or a prompt is too long for it.
    """
    use_threads(settings.threads)
    return load_model(settings.model, settings.device).generate(
        settings.prompts,
        max_new_tokens=settings.max_new_tokens,
        temperature=settings.temperature,
        top_k=settings.top_k,
        top_p=settings.top_p,
        seed=settings.seed,
    )


def run(options: argparse.Namespace) -> int:
    """The command's door from the shell."""
    prompts = options.prompt or [line.rstrip("\n") for line in sys.stdin]
    completions = generate(
        GenerateConfig(
            model=options.model,
            prompts=tuple(prompts),
            max_new_tokens=options.max_new_tokens,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            seed=options.seed,
            threads=options.threads,
            device=options.device,
        )
    )
    # A model must not steer the terminal; a pipe gets what it said.
    spoken = shown if sys.stdout.isatty() else str
    for prompt, completion in zip(prompts, completions, strict=True):
        record = {"prompt": prompt, "completion": completion, "seed": options.seed}
        print(
            json.dumps(record, ensure_ascii=False)
            if options.json
            else spoken(prompt + completion)
        )
    return 0
