"""Token shards that are written from docs/formats.md alone, with numpy and pyarrow."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from triptych._core import train_tokenizer, verify_token_shards
from triptych.data import TokenShards
from triptych.errors import IntegrityError

DOCUMENTS = [[1, 40, 2], [1, 41, 42, 2]]
ROWS = {
    "id": ["a", "b"],
    "source": ["s", "s"],
    "offset": pa.array([0, 3], pa.uint64()),
    "length": pa.array([3, 4], pa.uint64()),
}


@pytest.fixture
def write(tmp_path):
    """Writes a folder; columns of the table and keys of the manifest may be others."""
    tokenizer = train_tokenizer(None, ["a b a b"], 263)

    def write(table=(), manifest=(), without=None):
        np.array([token for ids in DOCUMENTS for token in ids], "<u2").tofile(
            tmp_path / "00000.bin"
        )
        rows = pa.table(ROWS | dict(table))
        pq.write_table(rows, tmp_path / "00000.docs.parquet")
        content = {"dtype": "u16", "vocab_size": tokenizer.vocab_size}
        content |= {"num_documents": 2, "num_tokens": 7, "has_mask": False}
        content |= {"documents_per_unit": 1, "bos_id": 1, "eos_id": 2, "pad_id": 0}
        content["shards"] = [{"name": "00000", "documents": 2, "tokens": 7}]
        values = {"format": "triptych-tokens/1", "triptych": "0.1.0"}
        values["made_from"] = {"tokenizer_sha256": tokenizer.sha256, "inputs": {}}
        values |= {"content": content, "files": _files(tmp_path), **dict(manifest)}
        values.pop(without, None)
        (tmp_path / "manifest.json").write_text(json.dumps(values))
        return tmp_path

    return write


def _files(folder):
    contents = {path.name: path.read_bytes() for path in folder.iterdir()}
    return {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in contents.items()
    }


def test_a_folder_written_from_the_page_is_read(write):
    folder = write()
    verify_token_shards(str(folder))
    shards = TokenShards(folder)
    assert [shards.tokens(i).tolist() for i in range(len(shards))] == DOCUMENTS


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("id", ["a", None]),
        ("source", [None, "s"]),
        ("offset", pa.array([0, None], pa.uint64())),
        ("length", pa.array([None, 4], pa.uint64())),
    ],
)
def test_a_null_of_the_table_is_found_when_it_is_opened(write, column, values):
    folder = str(write(table={column: values}))
    for read in (TokenShards, verify_token_shards):
        with pytest.raises(IntegrityError, match=f"a null in the column {column}"):
            read(folder)


def test_other_columns_are_named_as_a_person_would(write):
    with pytest.raises(
        IntegrityError, match=r"the columns id BYTE_ARRAY, .* more INT64"
    ):
        verify_token_shards(str(write(table={"more": [1, 2]})))


@pytest.mark.parametrize("key", ["format", "triptych", "made_from", "content", "files"])
def test_a_key_that_a_manifest_lacks_is_named(write, key):
    folder = str(write(without=key))
    for read in (TokenShards, verify_token_shards):
        with pytest.raises(IntegrityError, match=f"found .*missing field `{key}`"):
            read(folder)


def test_a_key_that_no_manifest_has_is_named(write):
    folder = str(write(manifest={"more": 1}))
    for read in (TokenShards, verify_token_shards):
        with pytest.raises(IntegrityError, match="found unknown field `more`"):
            read(folder)
