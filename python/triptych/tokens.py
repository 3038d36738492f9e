"""Training a tokenizer, from texts or from files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from triptych import _core
from triptych._core import Tokenizer

__all__ = ["Tokenizer", "train_tokenizer"]


def train_tokenizer(
    texts_or_paths: Iterable[str | os.PathLike[str]] | str | os.PathLike[str],
    vocab_size: int,
    *,
    special_tokens: list[str] | None = None,
    pattern: str | None = None,
    weights: Mapping[str, float] | None = None,
) -> Tokenizer:
    """Trains a byte-level BPE tokenizer (Sennrich et al. 2016; GPT-2's byte alphabet).

    Args:
        texts_or_paths: paths, if every item is one that exists (documents folders,
            `.jsonl[.gz|.zst]`, `.txt`); texts otherwise. `Path` objects are always paths.
        vocab_size: tokens in all, the 256 bytes and the special tokens included.
        special_tokens: beside triptych's own seven.
        pattern: how text is split into words, by name (`gpt2`, `llama3`, `qwen2`,
            `o200k`, ...) or as a regular expression; Llama 3's with marks by default.
        weights: what a word of a source counts; 1 for sources that are not named.

    Raises:
        ConfigError: for a path that does not exist, or a vocabulary out of range.
        InputError: if there is nothing to train on.
    """
    if isinstance(texts_or_paths, (str, os.PathLike)):
        texts_or_paths = [texts_or_paths]
    items = list(texts_or_paths)
    settings = (vocab_size, special_tokens, pattern, weights)
    if _are_paths(items):
        paths = [os.fspath(item) for item in items]
        return _core.train_tokenizer(paths, None, *settings)
    texts = [str(item) for item in items]
    return _core.train_tokenizer(None, texts, *settings)


def _are_paths(items: list[str | os.PathLike[str]]) -> bool:
    return bool(items) and all(
        isinstance(item, os.PathLike) or _exists(item) for item in items
    )


def _exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):  # too long for a path, or with a NUL: a text
        return False
