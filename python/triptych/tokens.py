"""Training a tokenizer, and token files of other tools in and out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from triptych import _core
from triptych._core import Tokenizer
from triptych.errors import ConfigError

__all__ = [
    "Tokenizer",
    "export_tokens",
    "import_tokens",
    "local_shards",
    "measure_fertility",
    "train_tokenizer",
]

_FILE_ENDINGS = (
    *(".jsonl", ".ndjson", ".txt", ".md", ".markdown", ".html", ".htm", ".xhtml"),
    *(".warc", ".wet", ".parquet", ".arrow", ".feather"),
    *(".gz", ".zst", ".zstd", ".xz", ".bz2"),
)


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
            `.jsonl[.gz|.zst]`, `.txt`) or is named like a file that is read; texts
            otherwise. `Path` objects are always paths.
        vocab_size: tokens in all, the 256 bytes and the special tokens included.
        special_tokens: beside triptych's own seven.
        pattern: how text is split into words, by name (`gpt2`, `llama3`, `qwen2`,
            `o200k`, ...) or as a regular expression; Llama 3's with marks by default.
        weights: what a word of a source counts; 1 for sources that are not named.

    Raises:
        ConfigError: for a path that does not exist, or a vocabulary out of range.
        InputError: if there is nothing to train on.
    """
    settings = (vocab_size, special_tokens, pattern, weights)
    paths, texts = _paths_and_texts(texts_or_paths)
    return _core.train_tokenizer(paths or None, texts, *settings)


def measure_fertility(
    tokenizer: Tokenizer,
    texts_or_paths: Iterable[str | os.PathLike[str]] | str | os.PathLike[str],
    *,
    identify_language: bool = False,
) -> dict[str, Any]:
    """Bytes a token and tokens a word (fertility) of texts, by source and language.

    Args:
        tokenizer: what is measured.
        texts_or_paths: as of `train_tokenizer`.
        identify_language: name the language of documents without a field `language` or
            `lang` by the built-in identifier.

    Returns:
        `total`, and tables `sources` and `languages`: each entry has `documents`,
        `bytes` (UTF-8), `words` (of `str.split`), `tokens` (without BOS and EOS),
        `bytes_per_token` and `tokens_per_word`.

    Raises:
        ConfigError: for a path that does not exist.
    """
    paths, texts = _paths_and_texts(texts_or_paths)
    measured = _core.measure_fertility(tokenizer, paths, texts, identify_language)
    return dict(json.loads(measured))


def import_tokens(
    input: Iterable[str | os.PathLike[str]] | str | os.PathLike[str],
    *,
    format: str,
    tokenizer: Tokenizer | str | os.PathLike[str],
    output: str | os.PathLike[str],
    dtype: str | None = None,
    eos_id: int | None = None,
    bos_id: int | None = None,
    source: str | None = None,
) -> dict[str, Any]:
    """Writes token files of other tools as a folder of token shards.

    Ids are kept as they are stored; each must be below the tokenizer's `vocab_size`.

    Args:
        input: files, or folders of them; of Megatron also the prefix.
        format: `megatron` (`.bin` with `.idx`), `npy` (one dimension), `raw` (ids and
            nothing else) or `datatrove` (`.ds` with `.ds.index`).
        tokenizer: the one that made the ids, or its `tokenizer.json`.
        output: the folder to write; it appears when it is complete.
        dtype: type of the ids of raw files, as "u16" or "i32".
        eos_id: of npy and raw: a document ends after each of this id. Without it and
            `bos_id`, a file is one document.
        bos_id: of npy and raw: a document begins at each of this id.
        source: of all documents; by default the file name without endings.

    Returns:
        `manifest` of the folder, and `ledger`: for each file, and in all, the documents
        and tokens that were read and written.

    Raises:
        ConfigError: for a path that is not there, or an option that is missing or does
            not go with the format.
        InputError: for a file that is not of the format, with the byte if it is known,
            or an id outside the vocabulary.
        ResourceError: for a document of more than 2^28 tokens.
    """
    if isinstance(input, (str, os.PathLike)):
        input = [input]
    if not isinstance(tokenizer, Tokenizer):
        tokenizer = Tokenizer.from_file(tokenizer)
    options = (dtype, eos_id, bos_id, source)
    done = _core.import_tokens(list(input), format, tokenizer, output, *options)
    return dict(json.loads(done))


def export_tokens(
    input: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    format: str = "megatron",
    drop_mask: bool = False,
) -> dict[str, Any]:
    """Writes a folder of token shards as a dataset of another tool.

    Args:
        input: the folder; its hashes are checked first.
        output: what the files are called, without ending.
        format: `megatron`: `.bin` with `.idx`, a sequence a document; ids are u16 for
            vocabularies below 65,500 and i32 from there on, as Megatron chooses.
        drop_mask: leave a supervision mask out, which the format cannot hold.

    Returns:
        `bin`, `idx`, `dtype`, `documents`, `tokens` and `bytes` of what was written.

    Raises:
        ConfigError: for shards that the format cannot hold.
        IntegrityError: for shards that are not as their manifest says.
    """
    if format != "megatron":
        raise ConfigError(f"unknown format `{format}`: expected `megatron`")
    return dict(json.loads(_core.export_megatron(input, output, drop_mask)))


def local_shards(
    address: str | os.PathLike[str], *, cache: str | os.PathLike[str] | None = None
) -> Path:
    """The folder on this machine with the token shards at an address.

    A path of this machine is itself. Shards at `s3://`, `gs://` or `https://` are copied
    to the cache first, checked against their manifest; what is there is not fetched
    again, and what an interrupted run has fetched is gone on with. Credentials are
    those of the environment (`AWS_ACCESS_KEY_ID`, `GOOGLE_APPLICATION_CREDENTIALS`, …).

    Args:
        address: a folder, or where it stands.
        cache: the folder of copies; `$TRIPTYCH_CACHE/tokens` by default, or
            `triptych/tokens` in the user's cache folder.

    Raises:
        ConfigError: if no token shards are there, or the address is malformed.
        IntegrityError: for content that is not as its manifest says.
        InputError: if it cannot be fetched.
    """
    return _core.local_token_shards(address, cache)


def _paths_and_texts(
    given: Iterable[str | os.PathLike[str]] | str | os.PathLike[str],
) -> tuple[list[str], list[str]]:
    items = [given] if isinstance(given, (str, os.PathLike)) else list(given)
    if _are_paths(items):
        return [os.fspath(item) for item in items], []
    paths = [os.fspath(item) for item in items if isinstance(item, os.PathLike)]
    return paths, [item for item in items if not isinstance(item, os.PathLike)]


def _are_paths(items: list[str | os.PathLike[str]]) -> bool:
    return bool(items) and all(
        isinstance(item, os.PathLike) or _exists(item) or _names_file(item)
        for item in items
    )


def _names_file(name: str) -> bool:
    """Whether a string is one word that ends like a file: mistyped, it is no text."""
    is_word = len(name.split()) == 1 and "://" not in name
    return is_word and name.casefold().endswith(_FILE_ENDINGS)


def _exists(name: str) -> bool:
    try:
        return name != "" and Path(name).exists()  # `Path("")` is the folder itself
    except (OSError, ValueError):  # too long for a path, or with a NUL: a text
        return False
