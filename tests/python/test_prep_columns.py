"""Columns and files of Arrow that only other writers make, through preparation."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest

from triptych import prep

TEXTS = ["some text of one", "some text of two", "some text of three"]
LONGEST = 2**63 - 1


def prepared(
    path: Path, **settings: object
) -> tuple[list[dict[str, object]], list[str]]:
    """The documents of a run over `path`, and the reasons of its bad records."""
    folder = path.parent / f"out-{path.name}"
    config = prep.PrepConfig(
        input=(str(path),),
        output=str(folder),
        profile="clean",
        format="jsonl",
        max_bad=1.0,
        **settings,  # type: ignore[arg-type]
    )
    prep.run(config)
    lines = [
        line
        for shard in sorted(folder.glob("[0-9]*.jsonl"))
        for line in shard.read_text().splitlines()
    ]
    bad = (folder / "quarantine.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines], [json.loads(b)["reason"] for b in bad]


def stream(path: Path, table: pa.Table) -> Path:
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)
    return path


def times(values: list[int | None], of: pa.DataType) -> pa.Array:
    width = pa.int32() if of.bit_width == 32 else pa.int64()
    return pa.array(values, width).view(of)


COLUMNS = {
    "a map by numbers": (
        pa.array([[(1, "v"), (2, None)], None, []], pa.map_(pa.int32(), pa.string())),
        [{"1": "v", "2": None}, None, {}],
    ),
    "a map by days": (
        pa.array(
            [[(datetime.date(2020, 1, 1), 1.5)], None, []],
            pa.map_(pa.date32(), pa.float64()),
        ),
        [{"2020-01-01": 1.5}, None, {}],
    ),
    "a map by strings": (
        pa.array([[('"', 1)], None, []], pa.map_(pa.string(), pa.int8())),
        [{'"': 1}, None, {}],
    ),
    "a dense union": (
        pa.UnionArray.from_dense(
            pa.array([0, 1, 0], pa.int8()),
            pa.array([0, 0, 1], pa.int32()),
            [pa.array([1, None]), pa.array(["s"])],
        ),
        [1, "s", None],
    ),
    "a sparse union": (
        pa.UnionArray.from_sparse(
            pa.array([0, 1, 0], pa.int8()),
            [pa.array([1, 2, 3]), pa.array(["s", "t", "u"])],
        ),
        [1, "t", 3],
    ),
    "points in time": (
        times([0, None, LONGEST], pa.timestamp("s")),
        ["1970-01-01T00:00:00", None, LONGEST],
    ),
    "days": (times([0, None, 2**31 - 1], pa.date32()), ["1970-01-01", None, 2**31 - 1]),
    "times of a day": (
        times([1, None, -1], pa.time64("ns")),
        ["00:00:00.000000001", None, -1],
    ),
    "spans": (times([-5, None, LONGEST], pa.duration("s")), ["-PT5S", None, LONGEST]),
    "an unknown time zone": (
        times([0, None, 1], pa.timestamp("us", "Moon/Sea")),
        [0, None, 1],
    ),
    "times in a list": (
        pa.array([[0, LONGEST], None, []], pa.list_(pa.int64())).cast(
            pa.list_(pa.timestamp("ms"))
        ),
        [["1970-01-01T00:00:00", LONGEST], None, []],
    ),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_of_any_type_is_carried_and_costs_no_row(tmp_path, name):
    column, expected = COLUMNS[name]
    path = stream(tmp_path / "a.arrow", pa.table({"text": TEXTS, "x": column}))
    records, bad = prepared(path)
    assert not bad
    assert [record["text"] for record in records] == TEXTS
    assert [record["x"] for record in records] == expected


def test_a_file_of_the_format_before_version_0_15_is_read_to_its_end(tmp_path):
    texts = [f"text number {number}" for number in range(3000)]
    options = pa.ipc.IpcWriteOptions(
        metadata_version=pa.ipc.MetadataVersion.V4, use_legacy_format=True
    )
    table = pa.table({"text": texts})
    for num_rows in (0, 3000):
        path = tmp_path / f"{num_rows}.arrow"
        with pa.ipc.new_file(path, table.schema, options=options) as writer:
            writer.write_table(table.slice(0, num_rows), max_chunksize=500)
        records, bad = prepared(path)
        assert not bad
        assert [record["text"] for record in records] == texts[:num_rows]


def test_what_is_not_read_is_named_and_not_called_damage(tmp_path):
    path = tmp_path / "a.feather"
    with pytest.warns(DeprecationWarning, match="Feather V1"):
        feather.write_feather(pa.table({"text": TEXTS}), str(path), version=1)
    assert prepared(path) == (
        [],
        ["found Feather version 1, which is not read: write it as version 2"],
    )


class PlainKeys(pe.KmsClient):
    """Wraps a key in nothing."""

    def wrap_key(self, key_bytes: bytes, _master: str) -> str:
        return key_bytes.hex()

    def unwrap_key(self, wrapped: str, _master: str) -> bytes:
        return bytes.fromhex(wrapped)


def test_columns_that_are_encrypted_are_called_so(tmp_path):
    factory = pe.CryptoFactory(lambda _: PlainKeys())
    encryption = pe.EncryptionConfiguration(
        footer_key="f", column_keys={"c": ["text"]}, plaintext_footer=True
    )
    keys = factory.file_encryption_properties(pe.KmsConnectionConfig(), encryption)
    path, table = tmp_path / "a.parquet", pa.table({"text": TEXTS})
    with pq.ParquetWriter(path, table.schema, encryption_properties=keys) as writer:
        writer.write_table(table)
    assert prepared(path) == (
        [],
        ["not Parquet, or damaged: columns are encrypted, which is not read"],
    )


REPEATED = {
    "list views": pa.ListViewArray.from_arrays(
        pa.array([0] * 600, pa.int32()),
        pa.array([1000] * 600, pa.int32()),
        pa.array(["x" * 1000] * 1000),
    ),
    "a run": pa.RunEndEncodedArray.from_arrays(
        pa.array([600], pa.int32()), pa.array(["x" * 1_000_000])
    ),
    "a union": pa.UnionArray.from_dense(
        pa.array([0] * 600, pa.int8()),
        pa.array([0] * 600, pa.int32()),
        [pa.array(["x" * 1_000_000])],
    ),
}


@pytest.mark.parametrize("name", REPEATED)
def test_a_value_that_many_rows_show_is_not_held_for_all_of_them(tmp_path, name):
    table = pa.table({"text": ["a text"] * 600, "x": REPEATED[name]})
    path = stream(tmp_path / "a.arrow", table)
    code = (
        "import sys\nfrom triptych import prep\n"
        "config = prep.PrepConfig(input=(sys.argv[1],), output=sys.argv[2], "
        'profile="clean", threads=1)\n'
        'assert prep.run(config)["documents"] == 600\n'
        # Of this program: `ru_maxrss` is that of the one that started it, if larger.
        "status = open('/proc/self/status').read()\n"
        "print(int(status.split('VmHWM:')[1].split()[0]) // 1024)"
    )
    command = [sys.executable, "-c", code, str(path), str(tmp_path / "out")]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(found.stdout.split()[-1]) < 400  # MiB; 600 rows of a megabyte each


def test_pages_may_have_their_text_in_a_field_of_any_name(tmp_path):
    path = tmp_path / "a.html"
    path.write_text("<title>A title</title><p>A page of one sentence.")
    records, bad = prepared(path, text_field="title")
    assert not bad
    assert [record["text"] for record in records] == ["A page of one sentence."]


def test_the_kind_of_a_record_is_read_in_any_case(tmp_path):
    kinds = ["conversion", "Conversion", "CONVERSION"]
    path = tmp_path / "a.warc"
    path.write_text(
        "".join(
            f"WARC/1.0\r\nWARC-Type: {kind}\r\nContent-Type: text/plain\r\n"
            "Content-Length: 6\r\n\r\na text\r\n\r\n"
            for kind in kinds
        ),
        newline="",
    )
    records, bad = prepared(path)
    assert not bad
    assert len(records) == len(kinds)


def test_a_wrong_length_of_gigabytes_and_noise_behind_it_cost_no_other_record(tmp_path):
    def record(name, length):
        return (
            f"WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Record-ID: {name}\r\n"
            f"Content-Type: text/plain\r\nContent-Length: {length}\r\n\r\n"
            "a text\r\n\r\n"
        )

    path = tmp_path / "a.warc"
    wrong = record("wrong", 99_999_999_999_999) + "noise\r\n"  # no empty line
    rest = "".join(record(number, 6) for number in range(100))
    path.write_text(record("first", 6) + wrong + rest, newline="")
    records, bad = prepared(path)
    assert len(bad) == 1
    # The one behind the noise cannot be told from a part of the text before it.
    names = [record["id"] for record in records]
    assert names == ["first", *map(str, range(1, 100))]


def test_a_page_of_many_lines_behind_wide_spaces_takes_no_longer_than_its_length(
    tmp_path,
):
    path = tmp_path / "a.html"
    lines = 150_000
    path.write_text(f"<p>{chr(0x3000) * lines}" + "<br>a" * lines)  # took minutes
    records, _ = prepared(path)
    assert records[0]["text"].count("a") == lines


FEW_FILES = """
import os, resource, sys
from triptych import prep

table, folder = sys.argv[1:]
taken = max(map(int, os.listdir("/proc/self/fd"))) + 1
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
for more in range(1, 16):
    config = prep.PrepConfig(
        input=(table,), output=f"{folder}/{more}", profile="clean", max_bad=1.0, threads=2
    )
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken + more, hard))
    try:
        total = prep.run(config)["ledger"]["total"]
        print("read", total["kept"], total["quarantined"])
    except (OSError, ValueError) as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
"""


def test_rows_that_the_system_refused_to_read_are_not_quarantined(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"text": [f"row {i}" for i in range(50)]}), path)
    found = subprocess.run(
        [sys.executable, "-c", FEW_FILES, str(path), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = found.stdout.splitlines()
    refusals = [line for line in lines if "Too many open files" in line]
    assert 1 < len(refusals) < len(lines) == 15
    assert set(lines) - set(refusals) == {"read 50 0"}
