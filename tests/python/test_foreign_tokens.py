"""Token files of other tools, against readers and writers by the letter of the formats."""

import itertools
import json
import struct
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from triptych._core import ConfigError, InputError, train_tokenizer, write_token_shards
from triptych.tokens import export_tokens, import_tokens

DTYPES = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}
DOCUMENTS = [[7, 8, 9], [10], [11, 12, 13, 14]]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(None, ["the cat sat on the mat"] * 3, 300)


def read_megatron(prefix):
    """The documents of an indexed dataset, each the list of its sequences."""
    index = prefix.with_name(prefix.name + ".idx").read_bytes()
    assert index[:9] == b"MMIDIDX\x00\x00"
    version, code, sequences, entries = struct.unpack_from("<QBQQ", index, 9)
    assert version == 1
    lengths = np.frombuffer(index, "<i4", sequences, 34)
    pointers = np.frombuffer(index, "<i8", sequences, 34 + 4 * sequences)
    bounds = np.frombuffer(index, "<i8", entries, 34 + 12 * sequences)
    assert len(index) == 34 + 12 * sequences + 8 * entries
    data = prefix.with_name(prefix.name + ".bin").read_bytes()
    rows = [
        np.frombuffer(data, DTYPES[code], length, pointer).tolist()
        for length, pointer in zip(lengths.tolist(), pointers.tolist(), strict=True)
    ]
    return [rows[start:end] for start, end in itertools.pairwise(bounds)], code


def shards_of(folder):
    content = json.loads((folder / "manifest.json").read_text())["content"]
    ids = np.memmap(
        folder / "00000.bin", {"u16": "<u2", "u32": "<u4"}[content["dtype"]]
    )
    rows = pq.read_table(folder / "00000.docs.parquet").to_pylist()
    spans = [(row["offset"], row["offset"] + row["length"]) for row in rows]
    return [ids[start:end].tolist() for start, end in spans]


def test_an_export_of_other_documents_as_long_is_not_written_over(tokenizer, tmp_path):
    """Their indexes are the same, as wherever documents are cut to one length."""
    for name, first in (("one", 7), ("other", 8)):
        rows = [("0", "s", [first, 9, 10], None)]
        write_token_shards(rows, tokenizer, tmp_path / name, 1)
    prefix = tmp_path / "set"
    for _ in range(2):
        export_tokens(tmp_path / "one", prefix)
    with pytest.raises(ConfigError, match="remove it, or choose another prefix"):
        export_tokens(tmp_path / "other", prefix)
    assert read_megatron(prefix)[0] == [[[7, 9, 10]]]


def test_an_export_reads_as_megatron_reads_it_and_imports_again(tokenizer, tmp_path):
    shards, prefix = tmp_path / "shards", tmp_path / "set.v1"
    rows = [(str(n), "s", ids, None) for n, ids in enumerate(DOCUMENTS)]
    write_token_shards(rows, tokenizer, shards, 1)
    done = export_tokens(shards, prefix)
    assert (done["documents"], done["tokens"], done["dtype"]) == (3, 8, "u16")
    assert read_megatron(prefix) == ([[ids] for ids in DOCUMENTS], 8)
    again = import_tokens(
        prefix, format="megatron", tokenizer=tokenizer, output=tmp_path / "again"
    )
    assert shards_of(tmp_path / "again") == DOCUMENTS
    total = again["ledger"]["total"]
    assert total["documents_read"] == total["documents_written"] == 3
    assert total["tokens_read"] == total["tokens_written"] == 8


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("dtype", ["u1", "<u2", "<i2", "<i4", "<u4", "<i8", "<u8"])
def test_arrays_of_numpy_itself_are_read(tokenizer, tmp_path, dtype, version):
    path = tmp_path / "ids.npy"
    ids = np.array([7, 8, 2, 9, 2], dtype)
    with path.open("wb") as file:
        np.lib.format.write_array(file, ids, version=version)
    import_tokens(
        path, format="npy", tokenizer=tokenizer, output=tmp_path / "out", eos_id=2
    )
    assert shards_of(tmp_path / "out") == [[7, 8, 2], [9, 2]]


def test_a_memory_map_of_numpy_is_read_as_raw(tokenizer, tmp_path):
    path = tmp_path / "train.bin"
    ids = np.memmap(path, "<u2", "w+", shape=4)
    ids[:] = [1, 7, 1, 8]
    ids.flush()
    out = tmp_path / "out"
    done = import_tokens(
        [path], format="raw", tokenizer=tokenizer, output=out, dtype="u16", bos_id=1
    )
    assert shards_of(out) == [[1, 7], [1, 8]]
    assert list(done["manifest"]["made_from"]["inputs"]) == ["train.bin"]
    assert done["ledger"] == json.loads((out / "ledger.json").read_text())


def test_what_is_wrong_is_an_exception_with_file_and_byte(tokenizer, tmp_path):
    path, out = tmp_path / "a.bin", tmp_path / "out"
    np.array([7, 300], "<u2").tofile(path)
    with pytest.raises(InputError, match="id 300 at token 1, byte 2") as caught:
        import_tokens(path, format="raw", tokenizer=tokenizer, output=out, dtype="u16")
    assert (caught.value.file, caught.value.byte) == (str(path), 2)
    with pytest.raises(ConfigError, match="dtype"):
        import_tokens(path, format="raw", tokenizer=tokenizer, output=out)
    with pytest.raises(ConfigError, match="megatron"):
        import_tokens(path, format="megatorn", tokenizer=tokenizer, output=out)
    assert not out.exists()


def test_files_without_a_token_are_named(tokenizer, tmp_path):
    np.save(tmp_path / "none.npy", np.zeros(0, "<u2"))
    with pytest.raises(InputError, match=r"no documents in `.*none\.npy`: expected"):
        import_tokens(
            tmp_path, format="npy", tokenizer=tokenizer, output=tmp_path / "out"
        )
    assert not (tmp_path / "out").exists()


def test_the_command_plans_and_does_the_same(tokenizer, tmp_path):
    np.array([7, 8, 2, 9], "<i4").tofile(tmp_path / "a.bin")
    tokenizer.save(tmp_path / "tokenizer.json")
    command = [sys.executable, "-m", "triptych", "prep", "import-tokens"]
    command += ["--format", "raw", "--dtype", "i32", "--eos-id", "2", "--json"]
    command += ["--input", tmp_path, "--output", tmp_path / "out"]
    command += ["--tokenizer", tmp_path / "tokenizer.json"]

    def run(*more):
        done = subprocess.run([*command, *more], check=True, capture_output=True)
        return json.loads(done.stdout)

    (planned,) = run("--dry-run")["files"]
    assert (planned["tokens"], planned["documents"], planned["dtype"]) == (
        4,
        None,
        "i32",
    )
    assert not (tmp_path / "out").exists()
    total = run()["ledger"]["total"]
    assert (total["documents_written"], total["unclosed_documents"]) == (2, 1)
    assert shards_of(tmp_path / "out") == [[7, 8, 2], [9]]


@pytest.mark.parametrize("width", [2, 4])
def test_a_file_that_datatrove_left_without_tokens_costs_no_other(
    tokenizer, tmp_path, width
):
    # With `max_tokens_per_file` datatrove 0.10 begins a file behind the last full one.
    for number, ids in enumerate([[7, 8, 9], []]):
        path = tmp_path / f"00000_0000{number}_shuffled.ds"
        np.array(ids, f"<u{width}").tofile(path)
        np.array([len(ids)] if ids else [], "<u8").tofile(f"{path}.index")
        metadata = f"tok|eos|{width}\n{len(ids)}\n{len(ids)} T"
        path.with_name(path.name + ".metadata").write_text(metadata)
    out = tmp_path / "out"
    done = import_tokens(tmp_path, format="datatrove", tokenizer=tokenizer, output=out)
    assert shards_of(out) == [[7, 8, 9]]
    read = [file["documents_read"] for file in done["ledger"]["files"]]
    assert read == [1, 0]
