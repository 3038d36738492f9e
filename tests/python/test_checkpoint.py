"""Checkpoints and artefacts: whole or refused."""

import errno
import hashlib
import json
import resource
import shutil
from contextlib import contextmanager

import pytest

from tiny import TinyData, same_weights, tiny_model, tiny_train_config
from triptych import artefact
from triptych.artefact import Draft, read_manifest, verify, write_json
from triptych.errors import ConfigError, IntegrityError, ResourceError
from triptych.language_model import find_model
from triptych.model.huggingface import (
    CHECKPOINT_FORMAT,
    copy_surroundings,
    load_model,
)
from triptych.train import PretrainObjective, Trainer, checkpoint
from triptych.train.optimizer import OptimizerConfig, create_optimizer


def truncate(path):
    path.write_bytes(path.read_bytes()[:-7])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@contextmanager
def files_of_at_most(size):
    """Within, no file of this process may have more bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def _little_room():
    """Files may be smaller than the tiny model's weights."""
    with files_of_at_most(20_000):
        yield


@pytest.mark.usefixtures("_little_room")
@pytest.mark.parametrize("beside", [False, True])
def test_a_checkpoint_without_room_names_its_file_and_leaves_nothing(tmp_path, beside):
    config = tiny_train_config(tmp_path, async_checkpoints=beside)
    run = Trainer(tiny_model(), PretrainObjective(), TinyData(), config)
    with pytest.raises(ResourceError, match=r"model\.safetensors`: expected to write"):
        run.run()
    assert list((tmp_path / "checkpoints").iterdir()) == []


@pytest.fixture
def _hardly_any_room():
    """Files may be as long as the metrics of a few steps."""
    with files_of_at_most(1_500):
        yield


@pytest.mark.usefixtures("_hardly_any_room")
def test_metrics_without_room_name_their_file(tmp_path):
    run = Trainer(
        tiny_model(),
        PretrainObjective(),
        TinyData(),
        tiny_train_config(tmp_path, checkpoint_every_steps=99),
    )
    with pytest.raises(ResourceError, match=r"metrics\.jsonl`: expected to write it"):
        run.run()


@pytest.mark.usefixtures("_hardly_any_room")
def test_a_file_of_a_checkpoint_without_room_is_named(tmp_path):
    message = r"state\.json`: expected to write it, found: File too large; make room"
    with pytest.raises(ResourceError, match=message):
        write_json(tmp_path / "state.json", {"x": "y" * 2000})


def test_a_tokenizer_that_is_copied_without_room_is_named_where_it_goes(tmp_path):
    (tmp_path / "tokenizer.json").write_text("x" * 2000)
    with Draft(tmp_path / "step-00000001") as draft, files_of_at_most(1_500):
        message = r"\.tmp-step-0+1/tokenizer\.json`: expected to write it, found: File"
        with pytest.raises(ResourceError, match=message):
            copy_surroundings(tmp_path, draft)


def newest(run):
    return run / "checkpoints" / "step-00000010"


FILES = ["model.safetensors", "optimizer.safetensors", "state.json", "config.json"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, r"expected \d+ bytes, found \d+ bytes"),
        (flip_a_bit, "expected SHA-256 .*, found SHA-256"),
        (lambda path: path.unlink(), r"expected \d+ bytes, found .*No such file"),
    ],
)
def test_a_damaged_checkpoint_names_file_expected_and_found(run, name, damage, message):
    damage(newest(run) / name)
    with pytest.raises(IntegrityError, match=f"{name}` is damaged: {message}"):
        load_model(newest(run))


def test_a_manifest_that_was_changed_is_said_to_be_damaged_once(run):
    with open(newest(run) / "manifest.json", "a") as file:
        file.write(" ")
    with pytest.raises(IntegrityError, match=r"as `.*manifest\.sha256` says") as found:
        verify(newest(run), CHECKPOINT_FORMAT)
    assert str(found.value).count("is damaged") == 1
    assert "IntegrityError" not in str(found.value)


def test_a_checkpoint_whose_format_has_a_turned_bit_is_damaged_and_no_other_folder(run):
    manifest = newest(run) / "manifest.json"
    manifest.write_text(manifest.read_text().replace("triptych-ch", "triptyci-ch"))
    with pytest.raises(IntegrityError, match=r"manifest\.json` is damaged"):
        load_model(newest(run))


@pytest.mark.parametrize("name", [*FILES, "manifest.sha256"])
def test_a_checkpoint_without_one_of_its_files_names_it(run, name):
    (newest(run) / name).unlink()
    with pytest.raises(IntegrityError, match=rf"{name}` is damaged: .*[nN]o such file"):
        verify(newest(run), CHECKPOINT_FORMAT)


@pytest.mark.parametrize("name", ["raw.safetensors", "shards.json", "tokenizer.json"])
def test_a_file_that_nobody_hashed_is_not_read(run, name):
    shutil.copy(newest(run) / "model.safetensors", newest(run) / name)
    model = tiny_model()
    optimizer = create_optimizer(model, OptimizerConfig(), 1e-3)
    with pytest.raises(IntegrityError, match=f"{name}` is damaged: expected no such"):
        checkpoint.load(newest(run), model, optimizer)
    (newest(run) / name).rename(newest(run) / "notes.txt")
    checkpoint.load(newest(run), model, optimizer)


def test_a_damaged_newest_checkpoint_is_named_and_passed_over(run, caplog):
    truncate(newest(run) / "model.safetensors")
    found = checkpoint.latest(run / "checkpoints")
    assert found is not None
    assert found.name == "step-00000009"
    assert "step-00000010/model.safetensors` is damaged" in caplog.text


def test_a_checkpoint_by_the_name_of_another_step_is_not_the_model(run, caplog):
    folder = run / "checkpoints"
    shutil.copytree(folder / "step-00000009", folder / "step-00000011")
    assert checkpoint.latest(folder) == folder / "step-00000010"
    assert "expected a checkpoint of step 11, as its folder is called" in caplog.text


def is_a_folder(path):
    path.unlink()
    path.mkdir()


def points_to_itself(path):
    path.unlink()
    path.symlink_to(path)


@pytest.mark.parametrize("damage", [is_a_folder, points_to_itself])
@pytest.mark.parametrize("name", ["manifest.json", "manifest.sha256", "state.json"])
def test_a_file_that_cannot_be_read_is_damage_and_passed_over(
    run, caplog, name, damage
):
    damage(newest(run) / name)
    folder = run / "checkpoints"
    assert checkpoint.latest(folder) == folder / "step-00000009"
    assert f"step-00000010/{name}` is damaged" in caplog.text


def test_a_bad_sector_is_damage_and_passed_over(run, caplog, monkeypatch):
    def read(path):
        if "step-00000010" in str(path):
            raise OSError(errno.EIO, "Input/output error", str(path))
        return hashlib.sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr(artefact, "sha256_file", read)
    folder = run / "checkpoints"
    assert checkpoint.latest(folder) == folder / "step-00000009"
    assert "Input/output error" in caplog.text


def test_a_run_with_a_damaged_checkpoint_ends_with_the_same_weights(run, finished):
    truncate(newest(run) / "optimizer.safetensors")
    model = tiny_model()
    Trainer(model, PretrainObjective(), TinyData(), tiny_train_config(run)).run()
    assert same_weights(model, load_model(newest(finished)))


def test_a_checkpoint_is_not_removed_for_damaged_ones_of_later_steps(run):
    shutil.copytree(newest(run), run / "checkpoints" / "step-00000011")
    for name in ("step-00000010", "step-00000011"):
        truncate(run / "checkpoints" / name / "state.json")
    folder = run / "checkpoints"
    (folder / "step-00000009").rename(folder / "step-00000008")
    model = tiny_model()
    state = checkpoint.TrainState(step=9)
    optimizer = create_optimizer(model, OptimizerConfig(), 1e-3)
    checkpoint.write(folder, checkpoint.take(model, optimizer, state, copied=False))
    assert checkpoint.latest(folder) == folder / "step-00000009"
    assert (folder / "step-00000008").exists()


@pytest.mark.parametrize("name", ["step-00000009.bak", "step-best", "step-", "step-9 "])
def test_a_copy_of_a_checkpoint_by_another_name_is_none_of_the_run(run, name):
    older = run / "checkpoints" / "step-00000009"
    shutil.copytree(older, run / "checkpoints" / name)
    shutil.rmtree(older)
    assert checkpoint.steps_in(run / "checkpoints") == [newest(run)]
    assert find_model(run) == newest(run)


def test_checkpoints_are_in_the_order_of_their_steps(run):
    later = run / "checkpoints" / "step-100000000"
    newest(run).rename(run / "checkpoints" / "step-99999999")
    shutil.copytree(run / "checkpoints" / "step-00000009", later)
    assert checkpoint.steps_in(run / "checkpoints")[-1] == later


def test_a_folder_of_damaged_checkpoints_is_an_error_not_a_fresh_start(run):
    for folder in (run / "checkpoints").iterdir():
        truncate(folder / "state.json")
    with pytest.raises(IntegrityError, match=r"no checkpoint in .* is whole"):
        checkpoint.latest(run / "checkpoints")


@pytest.mark.parametrize("name", ["metrics.jsonl", "incidents.jsonl", "sessions.jsonl"])
def test_a_line_that_is_no_object_is_named_with_its_file(run, name):
    (run / name).write_text("no object\n")
    config = tiny_train_config(run)
    again = Trainer(tiny_model(), PretrainObjective(), TinyData(), config)
    with pytest.raises(IntegrityError, match=f"{name}:1` is damaged: expected"):
        again.run()


def test_a_checkpoint_of_another_model_is_refused(finished):
    model = tiny_model(hidden_size=16)
    optimizer = create_optimizer(model, OptimizerConfig(), 1e-3)
    differing = "hidden_size=16, head_dim=4, found hidden_size=32, head_dim=8$"
    with pytest.raises(ConfigError, match=f"another model: expected {differing}"):
        checkpoint.load(newest(finished), model, optimizer)


def test_only_the_newest_checkpoints_are_kept(finished):
    names = [path.name for path in checkpoint.steps_in(finished / "checkpoints")]
    assert names == ["step-00000009", "step-00000010"]


def test_checkpoints_of_round_steps_stay_for_good(tmp_path):
    config = tiny_train_config(
        tmp_path, checkpoint_every_steps=1, keep_checkpoints=1, keep_every_steps=4
    )
    Trainer(tiny_model(), PretrainObjective(), TinyData(), config).run()
    kept = checkpoint.steps_in(tmp_path / "checkpoints")
    assert list(map(checkpoint.step_of, kept)) == [4, 8, 10]


def test_a_checkpoint_holds_no_pickle_and_its_state_is_readable(finished):
    names = {path.name for path in newest(finished).iterdir()}
    assert names == {*FILES, "manifest.json", "manifest.sha256"}
    state = json.loads((newest(finished) / "state.json").read_text())
    assert state["step"] == 10
    assert state["run"]["seed"] == 0
    assert set(state) >= {"tokens", "skipped_steps", "torch"}


def test_the_hash_of_the_weights_comes_from_the_manifest(finished):
    manifest = verify(newest(finished), CHECKPOINT_FORMAT)
    expected = manifest.files["model.safetensors"].sha256
    assert checkpoint.weights_hash(newest(finished)) == expected


def commit(target, name="a.bin"):
    with Draft(target) as draft:
        draft.path(name).write_bytes(b"hello")
        return draft.commit("test/1", {"b": {"d": 1, "c": 2}, "a": []}, {})


def test_a_manifest_is_written_as_the_engine_writes_it(tmp_path):
    commit(tmp_path / "out")
    values = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert list(values) == ["format", "triptych", "made_from", "content", "files"]
    assert list(values["made_from"]) == ["a", "b"]
    assert list(values["made_from"]["b"]) == ["c", "d"]
    assert values["files"]["a.bin"] == {
        "bytes": 5,
        "sha256": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
    }
    assert verify(tmp_path / "out", "test/1").files["a.bin"].bytes == 5


def test_committing_over_a_finished_folder_replaces_it_whole(tmp_path):
    commit(tmp_path / "out")
    commit(tmp_path / "out", name="b.bin")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "b.bin",
        "manifest.json",
        "manifest.sha256",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def fail_half_way(target):
    with Draft(target) as draft:
        draft.path("b.bin").write_bytes(b"half")
        raise OSError("disk full")


def test_a_draft_that_fails_leaves_what_stood_there(tmp_path):
    commit(tmp_path / "out")
    with pytest.raises(OSError, match="disk full"):
        fail_half_way(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    verify(tmp_path / "out", "test/1")


def test_a_manifest_of_another_format_is_refused(tmp_path):
    commit(tmp_path / "out")
    with pytest.raises(IntegrityError, match="format `other/1`, found `test/1`"):
        read_manifest(tmp_path / "out", "other/1")
    with pytest.raises(ConfigError, match="expected a finished folder"):
        read_manifest(tmp_path, "test/1")
    (tmp_path / "out" / "manifest.json").write_text('{"format": "test/1"')
    with pytest.raises(IntegrityError, match=r"manifest\.json` is damaged: expected"):
        read_manifest(tmp_path / "out", "test/1")


def test_a_kill_while_an_old_checkpoint_is_removed_leaves_no_half_of_it(
    run, monkeypatch
):
    def removed_in_part(path, ignore_errors=False):
        if path.exists():
            sorted(path.iterdir())[0].unlink()
            raise KeyboardInterrupt

    folder = run / "checkpoints"
    monkeypatch.setattr(shutil, "rmtree", removed_in_part)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.remove_old(
            newest(run),
            keep=1,
            keep_every_steps=None,
            state={"bad_steps": 0, "first_bad_step": 0},
        )
    assert checkpoint.steps_in(folder) == [newest(run)]


def test_what_a_killed_run_had_begun_to_write_is_gone_when_it_goes_on(run):
    folder = run / "checkpoints"
    for name in (".tmp-step-00000007", ".tmp-step-00000003.old"):
        shutil.copytree(newest(run), folder / name)
    Trainer(tiny_model(), PretrainObjective(), TinyData(), tiny_train_config(run)).run()
    assert sorted(path.name for path in folder.iterdir()) == [
        "step-00000009",
        "step-00000010",
    ]
