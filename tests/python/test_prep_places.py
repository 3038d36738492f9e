"""Where a run writes, and what its sample stands for."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard

from triptych import prep
from triptych.errors import ConfigError


def documents(path: Path, texts: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
    path.write_bytes(zstandard.compress(lines) if path.suffix == ".zst" else lines)
    return path


def prepare(source: Path, output: Path, **settings: object) -> dict[str, object]:
    config = prep.PrepConfig(
        input=(str(source),),
        output=str(output),
        profile="clean",
        **settings,  # type: ignore[arg-type]
    )
    return prep.run(config)


def test_a_run_that_writes_into_a_folder_that_it_reads_does_not_read_itself(tmp_path):
    documents(tmp_path / "in" / "a.jsonl", ["one", "two"])
    output = tmp_path / "in" / "out"
    assert prepare(tmp_path / "in", output)["documents"] == 2
    assert prepare(tmp_path / "in", output)["already_done"]
    again = prepare(tmp_path / "in", output, min_length=3, overwrite=True)
    assert again["documents"] == 2
    other = prepare(output, tmp_path / "other")
    assert other["documents"] == 2
    with pytest.raises(ConfigError, match="made from the same inputs"):
        prepare(output, output)


def test_files_of_a_folder_that_are_not_read_are_told(tmp_path):
    documents(tmp_path / "in" / "a.jsonl", ["one"])
    others = ("b.json", "c.json", "d.CSV", "sub/README", "sub/.hidden")
    for name in others:
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).touch()
    told = "4 files of other formats (2 `.json`, 1 `.CSV`, 1 without an end)"
    expected = f"not read in `{tmp_path / 'in'}`: {told}"
    for output in (tmp_path / "out", tmp_path / "out", tmp_path / "in" / "inside"):
        with pytest.warns(UserWarning, match="files of other formats"):
            assert prepare(tmp_path / "in", output)["warning"] == expected
    assert prepare(tmp_path / "out", tmp_path / "again")["warning"] is None
    (tmp_path / "in" / "e.jsonl").touch()
    with pytest.warns(UserWarning, match=r"no documents in .*e.jsonl`; not read in"):
        prepare(tmp_path / "in", tmp_path / "both")


def test_an_output_that_is_a_link_is_written_where_it_leads(tmp_path):
    source = documents(tmp_path / "a.jsonl", ["one", "two"])
    link, disk = tmp_path / "out", tmp_path / "disk"
    os.symlink(disk, link)
    with pytest.raises(ConfigError, match="a link that leads nowhere"):
        prepare(source, link)
    disk.mkdir()
    assert prepare(source, link)["documents"] == 2
    assert link.is_symlink()
    assert (disk / "manifest.json").exists()
    assert prepare(source, link)["already_done"]


def test_what_a_run_leaves_behind_is_safe_from_runs_of_like_names(tmp_path):
    source = documents(tmp_path / "a.jsonl", ["one", "two"])
    draft = tmp_path / ".tmp-out.old"  # of a run into `out.old` that was stopped
    draft.mkdir()
    (draft / "journal.json").write_text("{}")
    for name in ("out", "out.v2"):
        prepare(source, tmp_path / name)
        prepare(source, tmp_path / name, min_length=3, overwrite=True)
    assert (draft / "journal.json").exists()


def test_a_place_that_cannot_be_renamed_is_refused_before_any_work(
    tmp_path, monkeypatch
):
    source = documents(tmp_path / "a.jsonl", ["one", "two"])
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(ConfigError, match="a folder with a name of its own"):
        prepare(source, Path())
    assert os.listdir() == []


def test_compressed_files_weigh_in_a_sample_what_their_text_does(tmp_path):
    chance = random.Random(1)
    words = [f"{number:x}" for number in range(4000, 9000)]

    def texts(share_of_long: float) -> list[str]:
        """Texts of which so many have 60 words, the others 40."""
        lengths = [60 if chance.random() < share_of_long else 40 for _ in range(8000)]
        return [" ".join(chance.choices(words, k=length)) for length in lengths]

    folder = tmp_path / "in"
    documents(folder / "a.jsonl.zst", texts(0.9))
    documents(folder / "b.jsonl", texts(0.1))
    (tmp_path / "c.toml").write_text(
        '[[rule]]\nfeature = "num_split_words"\nmin = 50\n'
    )
    command = [sys.executable, "-m", "triptych", "prep", "run", "--dry-run", "--json"]
    command += ["--input", str(folder), "--output", str(tmp_path / "out")]
    command += ["--profile", "clean", "--config", str(tmp_path / "c.toml")]
    command += ["--sample-bytes", "1000000"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    kept = json.loads(found.stdout)["estimate"]["kept"]
    assert abs(kept["share"] - 0.5) < 0.04
    assert kept["low"] <= 0.5 <= kept["high"]


def test_what_a_terminal_would_obey_is_written_out_and_json_stays_json(tmp_path):
    path = tmp_path / "a\x1b[31m.jsonl"
    record = {"text": "a text", "id": "\x1b[2J\x7f\x9b1m", "\x1b[1m": 1}
    path.write_text(json.dumps(record) + "\n")
    command = [sys.executable, "-m", "triptych", "prep"]
    where = ["--output", str(tmp_path / "out"), "--profile", "clean"]
    for arguments in (
        ["explain", f"{path}:1", "--profile", "clean"],
        ["explain", str(tmp_path), "--id", "\x1b[1m"],
        ["run", "--input", str(tmp_path), *where, "--set", "text_field=\x1b[5m"],
        ["run", "--input", str(tmp_path), *where, "--overwrite"],
    ):
        found = subprocess.run(
            [*command, *arguments], capture_output=True, text=True, check=False
        )
        assert found.stdout or found.stderr
        obeyed = set("\x1b\x7f\x9b") & set(found.stdout + found.stderr)
        assert not obeyed, (arguments, found.stdout, found.stderr)
    command += ["explain", f"{path}:1", "--json"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(found.stdout)["id"] == record["id"]
