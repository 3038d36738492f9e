"""Sources by the lengths of their documents, stages over them, and their batches."""

import functools

import numpy as np

from triptych._core import train_tokenizer, write_token_shards

LENGTHS = {"web": [5, 9, 30, 2, 8] * 6, "code": [17, 3] * 5, "books": [100, 41]}
DTYPES = {
    "input_ids": np.int64,
    "labels": np.int64,
    "position_ids": np.int64,
    "weights": np.float32,
    "cu_seqlens": np.int32,
    "documents": np.int64,
    "sources": np.int32,
}


def ids_of(document: int, length: int) -> list[int]:
    return [7 + (document * 31 + token) % 250 for token in range(length)]


@functools.cache
def tokenizer():
    return train_tokenizer(None, ["some words to learn"] * 3, 300)


def write_lengths(folder, lengths, masks=None, per_unit=1) -> str:
    """Token shards of documents of these lengths; gives the folder."""
    masks = masks or [None] * len(lengths)
    documents = [
        (f"doc-{i}", "s", ids_of(i, length), mask)
        for i, (length, mask) in enumerate(zip(lengths, masks, strict=True))
    ]
    write_token_shards(documents, tokenizer(), str(folder), per_unit)
    return str(folder)


def stage(steps, rows_per_step, seq_len=16, name="s", **weights):
    return {
        "name": name,
        "steps": steps,
        "rows_per_step": rows_per_step,
        "seq_len": seq_len,
        "weights": weights,
    }


def arrays(batch) -> dict[str, np.ndarray]:
    assert batch.keys() == {*DTYPES, "ids_hash"}
    assert {name: batch[name].dtype for name in DTYPES} == DTYPES
    return {name: batch[name] for name in DTYPES}
