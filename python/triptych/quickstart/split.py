"""Held-out data: chosen by a hash of what it is, never by its place in a file."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from triptych import artefact
from triptych.documents import read_documents, write_records

# About 12,000 tokens a source: the error of bits per byte is then below 0.02.
HELDOUT_BYTES = 40_000
HELDOUT_SHARE = (
    0.2  # of conversations and pairs: 100 pairs have a standard error of 5 points
)


def hash_fraction(key: str) -> float:
    """A number in [0, 1) that depends on `key` alone."""
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def is_heldout(key: str) -> bool:
    """Whether what `key` names is held out; everything with one key goes together."""
    return hash_fraction(key) < HELDOUT_SHARE


def split_documents(documents: Path, output: Path, sources: Sequence[str]) -> None:
    """Writes `<source>-train.jsonl.zst` and `<source>-heldout.jsonl.zst` into `output`.

    Of each source the documents with the smallest hashes are held out, up to
    `HELDOUT_BYTES` of text, at least one.
    """
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for document in read_documents(documents):
        groups[document["source"]].append(document)
    content = {}
    with artefact.Draft(output) as draft:
        for source in sources:
            heldout = _heldout_ids(groups[source])
            parts = {"train": [], "heldout": []}  # type: dict[str, list[dict[str, Any]]]
            for document in groups[source]:
                parts["heldout" if document["id"] in heldout else "train"].append(
                    document
                )
            for part, records in parts.items():
                path = draft.path(f"{source}-{part}.jsonl.zst")
                content[f"{source}-{part}"] = write_records(path, records)
        draft.commit(
            "triptych-split/1",
            {"documents": artefact.sha256_file(documents / artefact.FILE_NAME)},
            content,
        )


def _heldout_ids(documents: Sequence[dict[str, Any]]) -> set[str]:
    chosen: set[str] = set()
    size = 0
    for document in sorted(documents, key=lambda d: hash_fraction(d["id"])):
        length = len(document["text"].encode())
        if not chosen or size + length <= HELDOUT_BYTES:
            chosen.add(document["id"])
            size += length
    return chosen
