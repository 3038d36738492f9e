"""Exports have the bytes that megatron-core writes; what it writes is imported as it was."""

from __future__ import annotations

import random

import numpy as np
import pytest

from triptych import _core
from triptych.tokens import export_tokens, import_tokens

pytest.importorskip("torch")
indexed = pytest.importorskip("megatron.core.datasets.indexed_dataset")


@pytest.fixture(scope="module")
def tokenizer():
    return _core.train_tokenizer(None, ["the cat sat on the mat"] * 3, 300)


@pytest.fixture(scope="module")
def documents():
    """Lists of sequences, lists of ids; some of each are empty."""
    rng = random.Random(0)
    ids = [[rng.randrange(270) for _ in range(n % 40)] for n in range(400)]
    return [ids[start : start + 1 + start % 3] for start in range(0, 396, 4)]


def write(prefix, documents, dtype):
    builder = indexed.IndexedDatasetBuilder(f"{prefix}.bin", dtype=dtype)
    for sequences in documents:
        flat = [token for ids in sequences for token in ids]
        builder.add_document(np.array(flat, dtype), [len(ids) for ids in sequences])
    builder.finalize(f"{prefix}.idx")


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.int64])
def test_a_dataset_of_megatron_is_imported(tokenizer, documents, tmp_path, dtype):
    write(tmp_path / "set", documents, dtype)
    done = import_tokens(
        tmp_path, format="megatron", tokenizer=tokenizer, output=tmp_path / "out"
    )
    flat = [[token for ids in one for token in ids] for one in documents]
    total = done["ledger"]["total"]
    assert total["documents_read"] == len(flat)
    assert total["empty_documents"] == sum(not ids for ids in flat)
    stored = np.fromfile(tmp_path / "out" / "00000.bin", "<u2").tolist()
    assert stored == [token for ids in flat for token in ids]
    lengths = [len(ids) for ids in flat if ids]
    assert total["documents_written"] == len(lengths)


def test_an_export_has_the_bytes_of_megatron(tokenizer, documents, tmp_path):
    rows = [ids for sequences in documents for ids in sequences if ids]
    shards = [(str(n), "s", ids, None) for n, ids in enumerate(rows)]
    _core.write_token_shards(shards, tokenizer, tmp_path / "shards", 1)
    export_tokens(tmp_path / "shards", tmp_path / "ours")
    dtype = indexed.DType.optimal_dtype(tokenizer.vocab_size)
    write(tmp_path / "theirs", [[ids] for ids in rows], dtype)
    for ending in ("bin", "idx"):
        ours, theirs = (tmp_path / f"{name}.{ending}" for name in ("ours", "theirs"))
        assert ours.read_bytes() == theirs.read_bytes(), ending
    dataset = indexed.IndexedDataset(str(tmp_path / "ours"), mmap=True)
    assert [dataset[n].tolist() for n in range(len(dataset))] == rows
