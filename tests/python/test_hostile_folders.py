"""Folders that somebody else made: what they name, link to and hold is not to be trusted."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal

import pytest
import torch
from safetensors.torch import save_file

from small_shards import varied, write_sources
from tiny import tiny_model
from triptych import artefact, cli
from triptych.artefact import Draft
from triptych.commands.verify import VerifyConfig, verify
from triptych.errors import IntegrityError, shown
from triptych.model.huggingface import export
from triptych.model.shards import Shards

EMPTY = hashlib.sha256(b"").hexdigest()


@pytest.fixture(autouse=True)
def _ends_soon():
    """What reads a device reads for ever."""
    signal.alarm(60)
    yield
    signal.alarm(0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """An export and token shards, as nobody has touched them."""
    folder = write_sources(tmp_path_factory.mktemp("good"), shards=varied(9))
    export(tiny_model(), folder / "export", verified=False)
    return folder


def listed(folder, name, size=0, sha256=EMPTY):
    """Puts a file into a manifest, with the sum that it then has."""
    path = folder / "manifest.json"
    values = json.loads(path.read_text())
    values["files"][name] = {"bytes": size, "sha256": sha256}
    path.write_text(json.dumps(values))
    if (sums := path.with_name("manifest.sha256")).exists():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        sums.write_text(f"{digest}  manifest.json\n")


OUTSIDE = ["../../other.txt", "/dev/zero", "..", "", "a/b", "./config.json", "a\0b"]


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("kind", ["export", "shards"])
def test_a_manifest_that_names_a_file_elsewhere_is_refused_and_that_is_not_read(
    folders, tmp_path, kind, name
):
    folder = shutil.copytree(folders / kind, tmp_path / kind)
    listed(folder, name)
    (state,) = verify(VerifyConfig(folder=str(folder))).values()
    assert "expected names of files of its folder, found" in state
    assert "SHA-256" not in state


@pytest.mark.parametrize("kind", ["export", "shards"])
def test_a_pipe_or_a_device_in_place_of_a_file_is_named_and_not_read(
    folders, tmp_path, kind
):
    folder = shutil.copytree(folders / kind, tmp_path / kind)
    os.mkfifo(folder / "pipe.bin")
    listed(folder, "pipe.bin")
    (state,) = verify(VerifyConfig(folder=str(folder))).values()
    assert "pipe.bin" in state
    assert "no regular file" in state
    (folder / "pipe.bin").unlink()
    (folder / "pipe.bin").symlink_to("/dev/zero")
    (state,) = verify(VerifyConfig(folder=str(folder))).values()
    assert "no regular file" in state
    (folder / "manifest.json").unlink()
    os.mkfifo(folder / "manifest.json")
    (state,) = verify(VerifyConfig(folder=str(folder))).values()
    assert "no regular file" in state


def test_nesting_that_no_reader_takes_is_damage_of_the_file(folders, tmp_path):
    folder = shutil.copytree(folders / "export", tmp_path / "export")
    deep = "[" * 200_000 + "]" * 200_000
    (folder / "config.json").write_text(deep)
    with pytest.raises(IntegrityError, match=r"config\.json.*nesting that is too deep"):
        artefact.read_json(folder / "config.json")
    (folder / "manifest.json").write_text(deep)
    assert cli.main(["verify", str(folder)]) == 4


def test_a_format_that_is_no_text_is_damage(folders, tmp_path):
    folder = shutil.copytree(folders / "export", tmp_path / "export")
    (folder / "manifest.json").write_text('{"format": 7}')
    assert cli.main(["verify", str(folder)]) == 4


def test_names_that_steer_a_terminal_are_written_out(folders, tmp_path, capsys):
    folder = shutil.copytree(folders / "export", tmp_path / "export")
    listed(folder, "a\x1b[2J\x07\x9b\u202etxt.bin")
    assert cli.main(["verify", str(folder)]) == 4
    assert cli.main(["verify", f"{folder}/\x1b]0;title\x07\u2066"]) == 2
    assert cli.main(["verify", str(folder), "--json"]) == 4
    captured = capsys.readouterr()
    said = captured.out + captured.err
    assert r"a\x1b[2J\x07\x9b\u202etxt.bin" in said
    assert not set(said) & set("\x1b\x07\x9b\u202e\u2066")


def test_a_text_is_shown_as_it_is_but_for_what_a_terminal_obeys():
    assert shown("naïve 日本語\n\tx") == "naïve 日本語\n\tx"
    assert shown("\r\x00\x7f\u200f") == r"\r\x00\x7f\u200f"


def test_links_by_temporary_names_lead_to_nothing_that_is_touched(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "diary.txt").write_text("dear")
    for name in (".tmp-out", ".tmp-out.old"):
        (tmp_path / name).symlink_to(mine)
    with Draft(tmp_path / "out") as draft:
        draft.path("a.txt").write_text("a")
        draft.commit("test/1", {}, {})
    (tmp_path / ".tmp-status.json").symlink_to(mine / "diary.txt")
    artefact.write_text(tmp_path / "status.json", "{}")
    assert [x.name for x in mine.iterdir()] == ["diary.txt"]
    assert (mine / "diary.txt").read_text() == "dear"
    assert not (tmp_path / "out").is_symlink()
    assert (tmp_path / "status.json").read_text() == "{}"


def test_of_an_artefact_behind_a_link_only_the_link_is_removed(tmp_path):
    elsewhere = tmp_path / "disk" / "step-00000001"
    elsewhere.mkdir(parents=True)
    (elsewhere / "a.txt").write_text("a")
    (tmp_path / "step-00000001").symlink_to(elsewhere)
    artefact.remove(tmp_path / "step-00000001")
    assert [x.name for x in tmp_path.iterdir()] == ["disk"]
    assert (elsewhere / "a.txt").read_text() == "a"


def indexed(folder, shape, boxes):
    tensor = {
        "shape": shape,
        "dtype": "F32",
        "boxes": [
            {"file": f"weights-{i:05d}.safetensors", "offset": offset, "shape": lengths}
            for i, (offset, lengths) in enumerate(boxes)
        ],
    }
    (folder / "shards.json").write_text(json.dumps({"weights": {"w": tensor}}))
    return Shards.indexed(folder, "weights")


def test_an_index_that_promises_more_than_its_files_hold_takes_no_memory(tmp_path):
    save_file({"w": torch.zeros(4)}, tmp_path / "weights-00000.safetensors")
    size = 1 << 50
    with pytest.raises(IntegrityError, match="expected `w` of shape"):
        indexed(tmp_path, [size], [([0], [size])]).read("w")
    with pytest.raises(IntegrityError, match=f"expected {size} numbers .* found 4"):
        indexed(tmp_path, [size], [([0], [4])]).read("w")


def test_boxes_that_overlap_leave_no_number_unread(tmp_path):
    for i in range(2):
        path = tmp_path / f"weights-{i:05d}.safetensors"
        save_file({"w": torch.ones(2, 3)}, path)
    whole = indexed(tmp_path, [4, 3], [([0, 0], [2, 3]), ([2, 0], [2, 3])])
    assert whole.read("w").sum() == 12
    with pytest.raises(IntegrityError, match="each once, found some twice"):
        indexed(tmp_path, [4, 3], [([0, 0], [2, 3]), ([1, 0], [2, 3])]).read("w")
