"""`triptych generate`: completions of prompts."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass

from triptych.commands.models import open_model, use_threads
from triptych.evaluate import special_ids
from triptych.generation import Sampling, generate as complete


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """What to complete and how; see `Sampling` for the last four.

    Attributes:
        model: run, checkpoint or Hugging Face folder.
        prompts: texts to go on from.
        threads: CPU threads; None takes all cores.
    """

    model: str
    prompts: tuple[str, ...]
    max_new_tokens: int = 64
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    seed: int = 0
    threads: int | None = None

    @property
    def sampling(self) -> Sampling:
        """The sampling settings alone."""
        return Sampling(
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            seed=self.seed,
        )


def generate(config: GenerateConfig) -> list[str]:
    """Completes each prompt as plain text: what follows it, without it.

    Raises:
        ConfigError: if there is no such model, or a prompt is too long for it.
    """
    use_threads(config.threads)
    opened = open_model(config.model)
    tokenizer = opened.tokenizer
    prompts = [
        [tokenizer.bos_id, *ids] for ids in tokenizer.encode_batch(list(config.prompts))
    ]
    completions = complete(
        opened.model, prompts, config.sampling, stop_ids=special_ids(tokenizer)
    )
    return [tokenizer.decode(completion.ids) for completion in completions]


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
        )
    )
    for prompt, completion in zip(prompts, completions, strict=True):
        record = {"prompt": prompt, "completion": completion, "seed": options.seed}
        print(json.dumps(record, ensure_ascii=False) if options.json else prompt + completion)
    return 0
