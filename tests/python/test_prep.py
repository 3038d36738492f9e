"""Preparation through its three doors: the binary, `triptych prep`, and Python."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

import seed_twin as twin
from triptych import prep
from triptych.errors import ConfigError

BINARY = Path(sys.executable).parent / "triptych-prep"
DOORS = {
    "binary": [str(BINARY)],
    "triptych prep": [sys.executable, "-m", "triptych", "prep"],
}
SENTENCE = "house{1} on road{1} by hill{1} near mile{1} of {0}, write to a{0}@b.org"


def corpus(count: int = 300) -> list[dict]:
    """Documents to keep, too short ones, and repeats."""
    records = []
    for i in range(count):
        text = " ".join(SENTENCE.format(i, i * 7 + j) for j in range(12))
        if i % 5 == 3:
            text = "too short"
        if i % 7 == 5:
            text = records[i - 5]["text"]
        records.append({"id": f"d{i}", "text": text, "score": i / 7})
    return records


def write(path: Path, records: list[dict]) -> Path:
    lines = "".join(json.dumps(record) + "\n" for record in records).encode()
    if path.suffix == ".gz":
        half = len(lines) // 2  # two members, as concatenated archives have
        lines = gzip.compress(lines[:half]) + gzip.compress(lines[half:])
    if path.suffix == ".zst":
        lines = zstandard.compress(lines[:999]) + zstandard.compress(lines[999:])
    path.write_bytes(lines)
    return path


def run(door: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [*DOORS[door], *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def read(folder: Path) -> list[dict]:
    records = []
    for path in sorted(folder.glob("[0-9]*.jsonl*")):
        kind = "zstd" if path.suffix == ".zst" else None
        data = pa.input_stream(str(path), compression=kind).read()
        records += [json.loads(line) for line in data.split(b"\n") if line]
    return records


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("door", DOORS)
def test_a_run_keeps_what_the_twin_keeps_and_carries_other_fields(tmp_path, door):
    records = corpus()
    source = write(tmp_path / "in.jsonl", records)
    result = run(door, "run", "--input", source, "--output", tmp_path / "out", "--json")
    assert result.returncode == 0, result.stderr
    kept = read(tmp_path / "out")
    expected = twin.process([record["text"] for record in records], 128, 4096)
    assert [record["text"] for record in kept] == expected
    by_id = {record["id"]: record for record in records}
    assert all(record["score"] == by_id[record["id"]]["score"] for record in kept)
    assert all(record["source"] == "in" for record in kept)
    total = json.loads(result.stdout)["ledger"]["total"]
    rejected = sum(total["rejected"].values())
    assert total["read"] == len(records)
    assert total["read"] == total["kept"] + rejected + total["duplicates"]


def test_every_door_and_format_of_input_writes_the_same_documents(tmp_path):
    records = corpus(60)
    outputs = []
    for number, ending in enumerate(("jsonl", "jsonl.gz", "jsonl.zst", "ndjson")):
        folder = tmp_path / str(number)
        folder.mkdir()
        source = write(folder / f"in.{ending}", records)
        door = list(DOORS)[number % 2]
        run(door, "run", "--input", source, "--output", folder / "out")
        outputs.append(files(folder / "out")["00000.jsonl.zst"])
    table = pa.Table.from_pylist(records)
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=7)
    prep.run(
        prep.PrepConfig(
            input=(str(tmp_path / "in.parquet"),), output=str(tmp_path / "out")
        )
    )
    assert outputs == [outputs[0]] * 4
    keys = ("id", "text", "source", "score")
    rows, lines = (
        [[r[k] for k in keys] for r in read(folder)]
        for folder in (tmp_path / "out", tmp_path / "0" / "out")
    )
    assert rows == lines


def test_a_text_file_is_one_document(tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(corpus(1)[0]["text"].split()))
    output = tmp_path / "out"
    prep.run(prep.PrepConfig(input=(str(tmp_path),), output=str(output)))
    (record,) = read(output)
    assert (record["id"], record["source"]) == ("a.txt:1", "a")
    assert "[EMAIL]" in record["text"]


def test_a_folder_or_glob_stands_for_its_files_in_order(tmp_path):
    for name in ("b", "a"):
        write(tmp_path / f"{name}.jsonl", corpus(30))
    for number, given in enumerate((tmp_path, tmp_path / "*.jsonl")):
        output = tmp_path / f".out{number}"
        prep.run(prep.PrepConfig(input=(str(given),), output=str(output)))
        ledger = json.loads((output / "ledger.json").read_text())
        names = [Path(entry["file"]).name for entry in ledger["files"]]
        assert names == ["a.jsonl", "b.jsonl"]
        assert ledger["files"][1]["kept"] == 0  # the second file repeats the first


# (options, exit status, what standard error must say)
def _sized(key: str) -> list[str]:
    """Options of a run that is to hold nothing."""
    return ["--input", "in.jsonl", "--output", "x", "--set", f"{key}=0"]


BAD_CALLS = [
    (["--input", "nowhere", "--output", "x"], 2, "no input at `nowhere`: expected"),
    (["--output", "x"], 2, "`input`: expected at least one file"),
    (["--input", "in.jsonl"], 2, "`output`: expected a folder to write to"),
    (["--input", "in.pdf", "--output", "x"], 2, "found `.pdf`"),
    (["--input", "in.jsonl", "--set", "min_lenght=3"], 2, "did you mean `min_length`?"),
    (["--input", "in.jsonl", "--profile", "sede"], 2, "did you mean `seed`?"),
    (["--input", "in.jsonl", "--set", "ngram=0"], 2, "`ngram`: expected at least 1"),
    (["--input", "in.jsonl", "--config", "none.toml"], 2, "`none.toml`"),
    (
        ["--input", "in.jsonl", "--config", "."],
        2,
        "`.`: expected a file, found a folder",
    ),
    (["--input", "in.jsonl", "--output", "in.jsonl/x"], 2, "found a file"),
    (_sized("shard_bytes"), 2, "`shard_bytes`: expected at least 1, found 0"),
    (_sized("max_line_bytes"), 2, "`max_line_bytes`: expected at least 1, found 0"),
    (_sized("max_file_bytes"), 2, "`max_file_bytes`: expected at least 1, found 0"),
    (_sized("max_expansion"), 2, "`max_expansion`: expected at least 1, found 0"),
    (["--inptu", "in.jsonl"], 2, "--input"),
]


@pytest.mark.parametrize("verb", ["clean", "dedup"])
def test_a_verb_that_is_a_profile_takes_no_other(tmp_path, verb):
    source, output = write(tmp_path / "in.jsonl", corpus(5)), tmp_path / "out"
    assert "--profile" not in run("triptych prep", verb, "--help").stdout
    for option in (["--profile", "gopher"], ["--set", "profile=gopher"]):
        call = [verb, "--input", source, "--output", output, *option]
        result = run("triptych prep", *call)
        assert result.returncode == 2
        assert f"`--profile`: expected none beside `{verb}`" in result.stderr
    (tmp_path / "prep.toml").write_text('profile = "gopher"\n')  # for `run`
    result = run("binary", *call[:-2], "--config", tmp_path / "prep.toml")
    assert result.returncode == 0


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(("options", "status", "message"), BAD_CALLS)
def test_a_wrong_call_gets_a_sentence_and_its_status(
    tmp_path, monkeypatch, door, options, status, message
):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in.jsonl", corpus(5))
    (tmp_path / "in.pdf").touch()
    result = run(door, "run", *options)
    assert result.returncode == status
    assert message in result.stderr
    assert "panicked" not in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "in.pdf"]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("text", ["", "\n \n"])
def test_an_input_without_documents_is_a_warning(tmp_path, monkeypatch, door, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.jsonl").write_text(text)
    result = run(door, "run", "--input", "empty.jsonl", "--output", "x", "--json")
    assert result.returncode == 0
    assert "warning: no documents in `empty.jsonl`" in result.stderr
    summary = json.loads(result.stdout)
    assert (summary["documents"], summary["ledger"]["total"]["read"]) == (0, 0)
    assert run(door, "verify", "x").returncode == 0
    with pytest.warns(UserWarning, match="no documents in `empty.jsonl`"):
        prep.run(prep.PrepConfig(input=("empty.jsonl",), output="y"))


def test_too_many_bad_records_end_with_status_3_and_the_good_ones_written(tmp_path):
    source = write(tmp_path / "in.jsonl", corpus(30))
    with source.open("a") as file:
        file.write("this is no JSON\n")
    options = ["--input", source, "--output", tmp_path / "out"]
    result = run("binary", "run", *options)
    assert result.returncode == 3
    assert "1 of 31 records are bad" in result.stderr
    assert read(tmp_path / "out")
    allowed = run("binary", "run", *options, "--max-bad", "0.1")
    assert allowed.returncode == 0


def test_a_dry_run_shows_the_plan_and_writes_nothing(tmp_path):
    source = write(tmp_path / "in.jsonl", corpus(5))
    output = tmp_path / "out"
    result = run("binary", "run", "--input", source, "--output", output, "--dry-run")
    plan = json.loads(result.stdout)
    assert plan["config"]["profile"] == "seed"
    assert plan["files"] == [{"file": str(source), "bytes": source.stat().st_size}]
    assert not output.exists()


def test_a_killed_run_leaves_nothing_under_the_final_name_and_its_rerun_is_the_same(
    tmp_path,
):
    source = write(tmp_path / "in.jsonl", corpus(20_000))
    output = tmp_path / "out"
    command = [str(BINARY), "run", "--input", str(source), "--threads", "1"]
    killed = 0
    for delay in (0.01, 0.03, 0.06, 0.1):
        process = subprocess.Popen(
            [*command, "--output", str(output)], stderr=subprocess.DEVNULL
        )
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        assert not output.exists() or (output / "manifest.json").exists()
    assert killed > 0
    for folder in (output, tmp_path / "undisturbed"):
        done = subprocess.run([*command, "--output", str(folder)], capture_output=True)
        assert done.returncode == 0
    assert files(output) == files(tmp_path / "undisturbed")
    assert not list(tmp_path.glob(".tmp-*"))


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    """50 MB: half a second of work, so that it can be stopped in the middle."""
    folder = tmp_path_factory.mktemp("large")
    lines = write(folder / "some.jsonl", corpus(20_000)).read_bytes()
    (folder / "in.jsonl").write_bytes(lines * 3)
    return folder / "in.jsonl"


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("signal_sent", "status"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)]
)
def test_a_run_asked_to_stop_says_how_to_go_on_and_then_ends_the_same(
    tmp_path, large, door, signal_sent, status
):
    settings = ["--profile", "clean", "--set", "shard_bytes=1000000"]
    arguments = ["run", "--input", str(large), "--threads", "1", *settings]
    output = tmp_path / "out"
    process = subprocess.Popen(
        [*DOORS[door], *arguments, "--output", str(output)],
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not (tmp_path / ".tmp-out/journal.json").exists():
        time.sleep(0.005)
    process.send_signal(signal_sent)
    _, said = process.communicate()
    assert process.returncode == status, said
    assert "run the same command again to continue" in said
    assert not output.exists()
    for folder in (output, tmp_path / "undisturbed"):
        assert run(door, *arguments, "--output", folder).returncode == 0
    assert files(output) == files(tmp_path / "undisturbed")


@pytest.mark.parametrize("door", DOORS)
def test_what_several_machines_share_merges_into_what_one_would_write(tmp_path, door):
    inputs = [
        write(tmp_path / f"{name}.jsonl", corpus(count))
        for name, count in (("a", 4000), ("b", 200), ("c", 300))
    ]
    parts = [tmp_path / f"part-{index}" for index in (1, 2, 3)]
    for index, part in enumerate(parts, 1):
        share = ["--shard", f"{index}/3", "--output", part]
        assert run(door, "run", "--input", *inputs, *share).returncode == 0
    missing = run(door, "merge", "--input", *parts[:2], "--output", tmp_path / "merged")
    assert missing.returncode == 2
    assert "no part 3/3" in missing.stderr
    merged = run(door, "merge", "--input", *parts, "--output", tmp_path / "merged")
    assert merged.returncode == 0, merged.stderr
    run(door, "run", "--input", *inputs, "--output", tmp_path / "one")
    assert files(tmp_path / "merged") == files(tmp_path / "one")


def test_policy_languages_and_own_rules_stand_in_one_configuration(tmp_path):
    texts = {
        "kept": "The quick brown fox jumps over the lazy dog near the old river bank.",
        "german": "Der schnelle braune Fuchs springt am alten Flussufer über den Hund.",
        "short": "The dog was sleeping in the house all day.",
        "secret": "Please write to the office at ann@example.org about the old house.",
    }
    source = write(
        tmp_path / "in.jsonl", [{"id": k, "text": v} for k, v in texts.items()]
    )
    (tmp_path / "prep.toml").write_text(
        "profile = 'clean'\n"
        "pii = { email = 'drop' }\n"
        "language = { keep = ['en'] }\n"
        "[[rule]]\nname = 'few'\nfeature = 'num_words'\nmin = 12\n"
    )
    output = tmp_path / "out"
    options = ["--config", tmp_path / "prep.toml", "--input", source]
    result = run("binary", "run", *options, "--output", output)
    assert result.returncode == 0, result.stderr
    total = json.loads((output / "ledger.json").read_text())["total"]
    assert [record["id"] for record in read(output)] == ["kept"]
    assert total["rejected"] == {"few": 1, "language": 1, "pii_email": 1}
    assert total["pii"] == {"email": 1}


def test_verify_tells_a_whole_folder_from_a_damaged_one(tmp_path):
    source = write(tmp_path / "in.jsonl", corpus(30))
    output = tmp_path / "out"
    run("binary", "run", "--input", source, "--output", output)
    assert run("binary", "verify", output).returncode == 0
    shard = output / "00000.jsonl.zst"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(bytes(content))
    result = run("binary", "verify", output)
    assert result.returncode == 4
    assert "00000.jsonl.zst` is damaged: expected SHA-256" in result.stderr


def test_personal_data_of_bad_records_is_nowhere_in_the_output(tmp_path):
    records = corpus(20)
    source = write(tmp_path / "in.jsonl", records)
    with source.open("a") as file:
        file.write('{"text": "ann@example.org 123-45-6789"\n')
    output = tmp_path / "out"
    result = run("binary", "run", "--input", source, "--output", output, "--json")
    said = result.stdout + result.stderr + (output / "quarantine.jsonl").read_text()
    assert "ann@example.org" not in said
    assert "123-45-6789" not in said


def test_arrow_batches_are_cleaned_and_keep_their_other_columns():
    records = corpus(40)
    batch = pa.RecordBatch.from_pylist(records)
    (cleaned,) = prep.clean([batch])
    texts = [record["text"] for record in records]
    assert cleaned.column("text").to_pylist() == twin.process(texts, 128, 4096)
    assert cleaned.schema == batch.schema
    ids = cleaned.column("id").to_pylist()
    assert ids[0] == "d0"
    with pytest.raises(ConfigError, match="unknown column `body`"):
        list(prep.clean([batch], prep.CleanConfig(text_field="body")))


def test_python_raises_what_the_binary_says(tmp_path):
    config = prep.PrepConfig(input=("nowhere",), output=str(tmp_path / "out"))
    with pytest.raises(ConfigError, match="no input at `nowhere`"):
        prep.run(config)
