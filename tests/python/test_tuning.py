"""Fine-tuning and alignment by their commands: what they read, and what they refuse."""

import dataclasses
import json
import math
import re
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from triptych._core import Tokenizer, write_token_shards
from triptych.commands import dpo, sft
from triptych.commands.export import ExportConfig, export
from triptych.commands.shell import StepProgress
from triptych.conversation import (
    CHAT_TEMPLATE,
    read_conversations,
    read_preferences,
    write_conversations,
    write_preferences,
)
from triptych.data import TokenShards
from triptych.errors import ConfigError
from triptych.evaluate import bits_per_byte, text_bytes, token_loss
from triptych.language_model import load_model
from triptych.train.metrics import read_metrics
from triptych.train.parallel import ParallelConfig

pytestmark = pytest.mark.usefixtures("one_thread")


def said(role, content):
    return {"role": role, "content": content}


CHAT = {"messages": [said("user", "one latte"), said("assistant", "ok")]}
PAIR = {
    "prompt": [said("user", "one latte")],
    "chosen": [said("assistant", "ok")],
    "rejected": [said("assistant", "no")],
}


@pytest.fixture
def written(tmp_path):
    """Writes records as lines; gives the path as the settings have it."""

    def write(*records):
        path = tmp_path / "records.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return (str(path),)

    return write


@pytest.fixture
def chats(model_folder, tmp_path):
    """Settings of a fine-tuning run, but for what is changed."""

    def make(conversations, **changes):
        shared = {"model": str(model_folder), "output": str(tmp_path / "run")}
        small = {"seq_len": 32, "batch_size": 2, "epochs": 1.0, "threads": 1}
        values = {**shared, **small, "tensorboard": False, **changes}
        return sft.SftConfig(conversations=conversations, **values)

    return make


@pytest.fixture
def pairs(model_folder, tmp_path):
    """Settings of an alignment run, but for what is changed."""

    def make(preferences, **changes):
        shared = {"model": str(model_folder), "output": str(tmp_path / "run")}
        small = {"seq_len": 64, "batch_size": 2, "threads": 1, "tensorboard": False}
        return dpo.DpoConfig(preferences=preferences, **{**shared, **small, **changes})

    return make


def test_a_plan_leaves_the_folder_of_the_run_as_it_is(chats, pairs, written, tmp_path):
    output = tmp_path / "run"
    assert sft.plan(chats(written(CHAT)))["sources"]
    assert dpo.plan(pairs(written(PAIR)))["sources"]
    assert not output.exists()
    sft.sft(chats(written(CHAT)))
    before = {x: x.read_bytes() for x in output.rglob("*") if x.is_file()}
    sft.plan(chats(written(CHAT, CHAT)))
    assert before == {x: x.read_bytes() for x in output.rglob("*") if x.is_file()}


@pytest.mark.parametrize("kind", ["chats", "pairs"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch_size: expected at least 1, found 0"),
        ({"epochs": 0.0}, "epochs: expected above 0, found 0.0"),
        ({"epochs": -1.0}, "epochs: expected above 0, found -1.0"),
        ({"warmup_fraction": 1.5}, "warmup_fraction: expected in"),
    ],
)
def test_a_run_of_no_length_is_refused_by_name(request, kind, change, message):
    make = request.getfixturevalue(kind)
    with pytest.raises(ConfigError, match=message):
        make(("nowhere.jsonl",), **change)


@pytest.mark.parametrize("kind", ["chats", "pairs"])
@pytest.mark.parametrize(
    ("batch_size", "epochs", "said"),
    [
        (100, 6.0, "100 rows a step .* reads 100 epochs; .* at most 6 "),
        (9, 4.0, "9 rows a step .* reads 9 epochs; .* at most 4 "),
        (8, 6.0, None),  # what rounding to whole steps does
        (2, 1.0, None),
    ],
)
def test_a_batch_that_reads_small_data_far_more_often_than_asked_is_warned_of(
    request, written, caplog, kind, batch_size, epochs, said
):
    make, command = request.getfixturevalue(kind), {"chats": sft, "pairs": dpo}[kind]
    records = written(CHAT | PAIR, CHAT | PAIR)  # one row of both
    command.plan(make(records, batch_size=batch_size, epochs=epochs))
    warned = [x.getMessage() for x in caplog.records if x.name == "triptych.train"]
    assert len(warned) == (said is not None)
    assert said is None or re.search(said, warned[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta": 0.0}, "beta: expected above 0, found 0.0"),
        ({"micro_batch_rows": 0}, "micro_batch_rows: expected"),
        ({"keep_checkpoints": 0}, "keep_checkpoints: expected"),
        (
            {"label_smoothing": 0.5},
            r"label_smoothing: expected in \[0, 0.5\), found 0.5",
        ),
    ],
)
def test_an_alignment_is_refused_before_its_reference_is_computed(
    pairs, written, tmp_path, change, message
):
    with pytest.raises(ConfigError, match=message):
        dpo.dpo(pairs(written(PAIR), **change))
    assert not (tmp_path / "run" / "reference").exists()


@pytest.mark.parametrize("what", ["a file", "an artefact"])
def test_a_run_is_refused_where_something_else_is(
    chats, pairs, written, model_folder, tmp_path, what
):
    (tmp_path / "run.toml").write_text("seed = 1\n")
    output, expected = {
        "a file": (tmp_path / "run.toml", "a folder, or a place for a new one"),
        "an artefact": (model_folder, "a new folder"),
    }[what]
    before = bytes_in(tmp_path)
    for verb, make in ((sft.sft, chats), (dpo.dpo, pairs)):
        settings = make(written(CHAT | PAIR), output=str(output))
        with pytest.raises(ConfigError, match=f"output: expected {expected}.*{what}"):
            verb(settings)
    (tmp_path / "records.jsonl").unlink()
    assert bytes_in(tmp_path) == before


def test_the_folder_of_another_commands_run_is_refused_and_left_as_it_was(
    chats, pairs, written, tmp_path
):
    dpo.dpo(pairs(written(CHAT | PAIR)))
    shutil.rmtree(tmp_path / "run" / "tokens")
    before = bytes_in(tmp_path)
    with pytest.raises(ConfigError, match=r"output: .*`triptych sft`.*`triptych dpo`"):
        sft.sft(chats(written(CHAT | PAIR)))
    assert bytes_in(tmp_path) == before


@pytest.mark.parametrize("verb", ["chats", "pairs"])
def test_a_run_of_one_step_learns_from_it(
    request, written, model_folder, tmp_path, verb
):
    settings = request.getfixturevalue(verb)(written(CHAT | PAIR), learning_rate=1e-3)
    {"chats": sft.sft, "pairs": dpo.dpo}[verb](settings)
    (line,) = read_metrics(tmp_path / "run")
    assert line["lr"] == 1e-3
    before = load_file(model_folder / "model.safetensors")
    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
    after = load_file(checkpoint / "model.safetensors")
    assert any(not before[name].equal(after[name]) for name in before)


def bytes_in(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("verb", "record", "other"),
    [
        (sft.sft, CHAT, {"messages": [*CHAT["messages"], said("user", "thanks")]}),
        (dpo.dpo, PAIR, PAIR | {"prompt": [said("user", "two")]}),
    ],
)
def test_the_texts_that_a_run_was_trained_with_are_not_replaced(
    chats, pairs, written, tmp_path, verb, record, other
):
    make = {sft.sft: chats, dpo.dpo: pairs}[verb]
    verb(make(written(record)))
    before = bytes_in(tmp_path / "run" / "tokens")
    with pytest.raises(ConfigError, match="tokens` belongs to another run: expected"):
        verb(make(written(other)))
    assert bytes_in(tmp_path / "run" / "tokens") == before
    assert verb(make(written(record))).step == 1


@pytest.mark.parametrize(("verb", "record"), [(sft.sft, CHAT), (dpo.dpo, PAIR)])
def test_a_run_goes_on_with_its_texts_by_another_path(
    chats, pairs, written, tmp_path, monkeypatch, verb, record
):
    make = {sft.sft: chats, dpo.dpo: pairs}[verb]
    (path,) = written(record)
    done = verb(make((path,)))
    before = bytes_in(tmp_path / "run" / "tokens")
    monkeypatch.chdir(tmp_path)
    assert verb(make((Path(path).name,))).step == done.step
    assert bytes_in(tmp_path / "run" / "tokens") == before


def test_another_process_finds_what_the_first_one_rendered(
    chats, written, tokenizer, tmp_path, monkeypatch
):
    paths = written(CHAT)
    folder = sft.shards(paths, str(tmp_path / "run"), tokenizer)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "2")
    assert sft.shards(paths, str(tmp_path / "run"), tokenizer) == folder
    assert sft.plan(chats(paths))["sources"]  # each plans in a folder of its own
    assert before == {path: path.stat().st_mtime_ns for path in folder.iterdir()}


@pytest.mark.parametrize("verb", [sft.sft, dpo.dpo])
def test_a_grid_of_other_processes_is_refused_before_anything_is_rendered(
    chats, pairs, written, verb, tmp_path, monkeypatch
):
    make, record = {sft.sft: (chats, CHAT), dpo.dpo: (pairs, PAIR)}[verb]
    settings = dataclasses.replace(
        make(written(record)), parallel=ParallelConfig(shard=3)
    )
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"the 2 processes .* = 3; the nearest for 2"):
        verb(settings)
    assert not (tmp_path / "run").exists()


@pytest.fixture
def folders(tokenizer, tmp_path, written):
    """A token shard folder of each kind."""
    kinds = ("conversations", "preference pairs", "documents")
    paths = {kind: tmp_path / kind for kind in kinds}
    write_conversations(
        read_conversations(written(CHAT)), tokenizer, paths["conversations"]
    )
    write_preferences(
        read_preferences(written(PAIR)), tokenizer, paths["preference pairs"]
    )
    plain = [("a", "web", [1, 8, 9, 2], None)]
    write_token_shards(plain, tokenizer, str(paths["documents"]), 1)
    return {kind: (str(path),) for kind, path in paths.items()}


def test_shards_of_another_kind_are_refused(chats, pairs, folders):
    wanted = {"conversations": (chats, sft.plan), "preference pairs": (pairs, dpo.plan)}
    for name, (make, plan) in wanted.items():
        for kind, paths in folders.items():
            if kind == name:
                assert plan(make(paths))["sources"]
                continue
            with pytest.raises(
                ConfigError, match=f"of {name}, .* found those of {kind}"
            ):
                plan(make(paths))


@pytest.mark.parametrize("per_unit", [1, 2])
def test_shards_of_which_nothing_is_supervised_are_refused(
    chats, pairs, tokenizer, tmp_path, per_unit
):
    # The first token of a text is predicted by none, so its mask is nothing to learn.
    text = ("a", "web", [1, 8, 9, 2], bytes([1, 0, 0, 0]))
    folder = str(tmp_path / "masked")
    write_token_shards([text] * 4, tokenizer, folder, per_unit)
    plan, make = {1: (sft.plan, chats), 2: (dpo.plan, pairs)}[per_unit]
    with pytest.raises(ConfigError, match="expected tokens that are supervised, found"):
        plan(make((folder,)))


@pytest.fixture
def published(model_folder):
    """A model folder of others, with a template and several ids that end a text."""
    for name in ("manifest.json", "manifest.sha256"):
        (model_folder / name).unlink()
    (model_folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    ends = {"eos_token_id": [2, 6, 9], "pad_token_id": 0}
    (model_folder / "generation_config.json").write_text(json.dumps(ends))
    return model_folder


def test_what_surrounds_a_published_model_is_still_there_when_it_was_tuned(
    chats, published, tmp_path
):
    path = published / "tokenizer.json"
    path.write_text(path.read_text().replace("<|user|>", "<|human|>"))
    foreign, folder = Tokenizer.from_file(str(path)), str(tmp_path / "shards")
    rendered = ("a", "web", [1, 8, 9, 2], bytes([0, 1, 1, 1]))
    write_token_shards([rendered] * 4, foreign, folder, 1)
    done = sft.sft(chats((folder,)))
    assert 9 in load_model(done.checkpoint_folder).stop_ids
    out = tmp_path / "out"
    export(ExportConfig(model=str(done.checkpoint_folder), output=str(out)))
    for name in ("chat_template.jinja", "generation_config.json"):
        assert (out / name).read_text() == (published / name).read_text()


def test_a_model_tuned_on_conversations_is_exported_with_the_template_it_learnt(
    chats, written, published, tmp_path
):
    done = sft.sft(chats(written(CHAT), model=str(published)))
    out = tmp_path / "out"
    export(ExportConfig(model=str(done.checkpoint_folder), output=str(out)))
    settings = json.loads((out / "tokenizer_config.json").read_text())
    assert settings["chat_template"] == CHAT_TEMPLATE
    assert not (out / "chat_template.jinja").exists()


def test_questions_longer_than_many_steps_are_no_sign_of_divergence(
    chats, written, capsys
):
    ask = said("user", "one latte please " * 40)
    asked = {"messages": [ask, said("assistant", "ok")]}
    settings = chats(written(asked, CHAT), batch_size=1, seq_len=8, max_bad_steps=2)
    result = sft.sft(settings)
    lines = read_metrics(Path(settings.output))
    empty = [line for line in lines if line["count"] == 0]
    assert len(empty) > 4
    assert {line["fault"] for line in empty} == {"nothing_supervised"}
    StepProgress("sft").step(empty[0])
    assert capsys.readouterr().err.endswith(", nothing supervised\n")
    assert result.skipped_steps == len(empty) < len(lines) == result.step


def test_bits_of_replies_are_over_the_bytes_of_replies(
    tiny_model, tokenizer, folders, tmp_path
):
    shards = TokenShards(folders["conversations"][0])
    assert text_bytes(shards, tokenizer) == len("ok")
    bits = bits_per_byte(tiny_model, {"chats": shards}, tokenizer, seq_len=64)
    nats = token_loss(tiny_model, shards, seq_len=64).nats
    assert bits["all"] == pytest.approx(nats / math.log(2) / len("ok"))


def test_a_source_called_all_is_refused(tiny_model, tokenizer, folders):
    sources = {"all": TokenShards(folders["documents"][0])}
    with pytest.raises(ConfigError, match="`all`: expected another name"):
        bits_per_byte(tiny_model, sources, tokenizer, seq_len=8)


def test_texts_longer_than_the_model_reads_are_refused_and_longer_rows_are_not(
    chats, pairs, written
):
    reply = [said("assistant", "one latte please " * 60)]
    long_chat, long_pair = {"messages": reply}, PAIR | {"chosen": reply}
    with pytest.raises(
        ConfigError, match=r"seq_len: expected at most 128, .* found 999"
    ):
        sft.sft(chats(written(CHAT, long_chat), seq_len=999))
    with pytest.raises(
        ConfigError, match=r"seq_len: expected at most 128, .* found 999"
    ):
        dpo.dpo(pairs(written(PAIR, long_pair), seq_len=999))
    assert sft.sft(chats(written(CHAT, CHAT), seq_len=999)).step == 1


def as_published(folder, source):
    """The same model as somebody else publishes it: without our manifest."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("manifest.json"))
    return folder


def in_parts(folder, source):
    """Its weights in two files."""
    as_published(folder, source)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    halves = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for name, keys in halves.items():
        save_file({key: weights[key] for key in keys}, folder / name)
    table = {key: name for name, keys in halves.items() for key in keys}
    index = {"metadata": {}, "weight_map": table}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize("place", ["export", as_published, in_parts])
def test_any_folder_with_a_model_can_be_aligned(
    pairs, written, model_folder, tmp_path, place
):
    model = model_folder if place == "export" else place(tmp_path / "m", model_folder)
    for _ in range(2):  # made, then gone on with
        assert dpo.dpo(pairs(written(PAIR), model=str(model))).step == 1
    assert read_metrics(tmp_path / "run")[0]["loss"] == pytest.approx(math.log(2))
