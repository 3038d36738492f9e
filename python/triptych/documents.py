"""Reading and writing lines of text files, compressed or not, from Python.

The engine in Rust reads corpora; this reads the small files beside them:
conversations, preferences, a split of prepared documents.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from triptych.errors import ConfigError, InputError, placed

COMPRESSION = {".zst": "zstd", ".gz": "gzip"}
MAX_LINE_BYTES = 128 << 20  # a line is held whole; the longest books are 10 MB
MAX_TEXT_BYTES = 4 << 30  # of one decompressed file: a bomb stops here, memory does not


def read_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    r"""Yields (1-based number, text) of each line that is not blank; `\n` alone ends one.

    A byte order mark before the first is no part of it.

    Raises:
        ConfigError: if there is no such file.
        InputError: if it cannot be decompressed or decoded, with the line.
    """
    for number, line in enumerate(_byte_lines(Path(path)), start=1):
        content = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if content.strip():
            with placed(path, number):
                text = _decoded(content, f"{path}:{number}")
            yield number, text


def _decoded(line: bytes, where: str) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: expected UTF-8, found {error}") from None


def _byte_lines(path: Path) -> Iterator[bytes]:
    parts: list[bytes] = []  # of a line that goes on, joined once however long it is
    read, number, length = 0, 1, 0
    for block in _blocks(path):
        read += len(block)
        if read > MAX_TEXT_BYTES:
            raise InputError(
                f"`{path}`: expected at most {MAX_TEXT_BYTES} bytes of text"
            )
        head, *others = block.split(b"\n")
        parts.append(head)
        length += len(head)
        if length > MAX_LINE_BYTES:
            raise InputError(
                f"{path}:{number}: expected a line of at most {MAX_LINE_BYTES} bytes"
            )
        for line in others:
            yield b"".join(parts)
            parts, number, length = [line], number + 1, len(line)
    yield b"".join(parts)


def _blocks(path: Path, size: int = 1 << 20) -> Iterator[bytes]:
    if not path.is_file():
        raise ConfigError(
            f"no file at `{path}`: expected .jsonl, .jsonl.gz or .jsonl.zst"
        )
    try:
        with pa.input_stream(path, compression=COMPRESSION.get(path.suffix)) as stream:
            while block := stream.read(size):
                yield block
    except OSError as error:
        raise InputError(f"`{path}` cannot be read: {error}") from None


def read_records(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (1-based number, object) of each line that is not blank.

    Raises:
        ConfigError: if there is no such file.
        InputError: if it cannot be read, or a line is no JSON object.
    """
    for number, line in read_lines(path):
        with placed(path, number):
            record = _object(line, f"{path}:{number}")
        yield number, record


def read_documents(folder: str | Path) -> Iterator[dict[str, Any]]:
    """Yields the records of a documents folder in order.

    Raises:
        ConfigError: if the folder holds no `*.jsonl.zst`, which is what preparation writes.
    """
    files = sorted(Path(folder).glob("[0-9]*.jsonl*"))
    if not files:
        raise ConfigError(
            f"no documents in `{folder}`: expected what `triptych prep run` writes"
        )
    for path in files:
        for _, record in read_records(path):
            yield record


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits is one
        raise InputError(f"{where}: expected a JSON object, found {error}") from None
    if not isinstance(record, dict):
        raise InputError(
            f"{where}: expected a JSON object, found {type(record).__name__}"
        )
    return record


@contextmanager
def _writer(path: Path) -> Iterator[Any]:
    with pa.output_stream(path, compression=COMPRESSION.get(path.suffix)) as stream:
        yield stream


def write_records(path: str | Path, records: Iterable[Mapping[str, Any]]) -> int:
    """Writes one JSON object a line, compressed as the name says; returns how many."""
    count = 0
    with _writer(Path(path)) as stream:
        for record in records:
            stream.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
            count += 1
    return count
