"""`triptych eval`: loss of a model on token shards held out from training."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from triptych.config import require_numbers
from triptych.data import TokenShards, require_same_tokenizer
from triptych.device import DeviceName
from triptych.errors import ConfigError, shown
from triptych.evaluate import ALL, NO_SOURCE, source_losses
from triptych.language_model import load_model, use_threads
from triptych.train.health import finite


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """What to measure.

    Attributes:
        model: run, checkpoint or Hugging Face folder.
        shards: token shard folder of each source, by name.
        seq_len: tokens read together, up to the model's most, which None takes.
        threads: CPU threads; None takes all cores.
        device: `auto` is a GPU that torch finds, else the CPU; `cpu` or `cuda`.
    """

    model: str
    shards: dict[str, str] = field(default_factory=dict)
    seq_len: int | None = None
    threads: int | None = None
    device: DeviceName = "auto"

    def __post_init__(self) -> None:
        """Checks the length, which 0 would leave to the model."""
        require_numbers(self)
        if self.seq_len is not None and self.seq_len < 1:
            raise ConfigError(f"seq_len: expected at least 1, found {self.seq_len}")
        if ALL in self.shards:
            raise ConfigError(f"--shards {ALL}=…: {NO_SOURCE}")


def evaluate(config: EvalConfig) -> dict[str, dict[str, Any]]:
    """Nats a supervised token and bits a byte, by source, and of all together.

    Raises:
        ConfigError: for a wrong path, or shards of another tokenizer.
        IntegrityError: if a shard is not as its manifest says.
    """
    use_threads(config.threads)
    opened = load_model(config.model, config.device)
    seq_len = _seq_len(config, opened.model.config.max_position_embeddings)
    require_same_tokenizer(config.shards, opened.tokenizer.sha256)
    sources = {name: TokenShards(folder) for name, folder in config.shards.items()}
    losses = source_losses(opened.model, sources, opened.tokenizer, seq_len=seq_len)
    rows: dict[str, dict[str, Any]] = {
        name: {
            "nats_per_token": losses[name].loss.mean,
            "tokens": losses[name].loss.tokens,
            "documents": len(shards),
            "bits_per_byte": losses[name].bits_per_byte,
        }
        for name, shards in sources.items()
    }
    return {**rows, ALL: {"bits_per_byte": losses[ALL].bits_per_byte}}


def _seq_len(config: EvalConfig, longest: int) -> int:
    """Tokens read together: no position that the model was not made for."""
    if config.seq_len is not None and config.seq_len > longest:
        raise ConfigError(
            f"seq_len: expected at most {longest}, the model's max_position_embeddings, "
            f"found {config.seq_len}"
        )
    return config.seq_len or longest


def named(arguments: Sequence[str]) -> dict[str, str]:
    """Folders by name, of `NAME=FOLDER` or `FOLDER`.

    Raises:
        ConfigError: two have one name.
    """
    found: dict[str, str] = {}
    for argument in arguments:
        name, separator, folder = argument.partition("=")
        if not separator:
            name, folder = Path(argument).name, argument
        elif not (name and folder):
            raise ConfigError(
                f"--shards: expected NAME=FOLDER or a folder, found `{argument}`"
            )
        if name in found:
            raise ConfigError(
                f"--shards: expected another name for each folder, found `{name}` for "
                f"`{found[name]}` and `{folder}`; NAME=FOLDER names one"
            )
        found[name] = folder
    return found


def run(options: argparse.Namespace) -> int:
    """The command's door from the shell."""
    result = evaluate(
        EvalConfig(
            model=options.model,
            shards=named(options.shards),
            seq_len=options.seq_len,
            threads=options.threads,
            device=options.device,
        )
    )
    if options.json:
        print(json.dumps({name: _plain(row) for name, row in result.items()}))
        return 0
    print(f"{'source':<24}{'bits/byte':>12}{'nats/token':>12}{'tokens':>12}")
    for name, row in result.items():
        nats, tokens = row.get("nats_per_token"), row.get("tokens")
        right = f"{nats:>12.4f}{tokens:>12,}" if nats is not None else ""
        print(f"{shown(name):<24}{row['bits_per_byte']:>12.4f}{right}")
    return 0


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Null for what is not finite, as JSON has no NaN."""
    return {name: finite(value) for name, value in row.items()}
