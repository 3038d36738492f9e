"""Opening the model that a user names: a run, a checkpoint, or a Hugging Face folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from triptych._core import Tokenizer
from triptych.errors import ConfigError
from triptych.model import Transformer, load_model

# Where a run keeps its result, best first: the demo exports, a training run checkpoints.
RESULTS = ("export", "dpo", "sft", "pretrain")


@dataclass(frozen=True)
class OpenModel:
    """A model with its tokenizer and the folder that both came from."""

    model: Transformer
    tokenizer: Tokenizer
    folder: Path


def open_model(path: str | Path) -> OpenModel:
    """Loads model and tokenizer.

    Args:
        path: a folder with `config.json`, or a run that holds one.

    Raises:
        ConfigError: if there is no model, or its tokenizer does not fit it.
        IntegrityError: if a file is not as its manifest says.
    """
    folder = find_model(Path(path))
    model = load_model(folder)
    tokenizer_path = folder / "tokenizer.json"
    if not tokenizer_path.is_file():
        raise ConfigError(f"no tokenizer at `{tokenizer_path}`: expected one beside the model")
    tokenizer = Tokenizer.from_file(str(tokenizer_path))
    require_fit(tokenizer, model, folder)
    return OpenModel(model, tokenizer, folder)


def find_model(path: Path) -> Path:
    """The folder with `config.json` that `path` means: itself, or its latest result."""
    if (path / "config.json").is_file():
        return path
    for name in RESULTS:
        if (path / name / "config.json").is_file():
            return path / name
    checkpoints = sorted(path.glob("**/step-[0-9]*/config.json"))
    if len({checkpoint.parent.parent for checkpoint in checkpoints}) == 1:
        return checkpoints[-1].parent
    found = "several runs" if checkpoints else "none" if path.is_dir() else "no folder"
    raise ConfigError(
        f"no model at `{path}`: expected a folder with `config.json`, a checkpoint "
        f"`step-…`, or a run that holds one; found {found}"
    )


def require_fit(tokenizer: Tokenizer, model: Transformer, folder: Path) -> None:
    """Refuses a tokenizer whose ids the model has no embedding for."""
    if tokenizer.vocab_size > model.config.vocab_size:
        raise ConfigError(
            f"`{folder}`: expected a tokenizer of at most {model.config.vocab_size} "
            f"tokens, the model's vocab_size, found {tokenizer.vocab_size}"
        )


def use_threads(threads: int | None) -> int:
    """Sets torch's CPU threads, all cores by default, and returns their number."""
    count = threads or os.cpu_count() or 1
    if count < 1:
        raise ConfigError(f"threads: expected at least 1, found {count}")
    torch.set_num_threads(count)
    return count
