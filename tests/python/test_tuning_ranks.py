"""Fine-tuning and alignment in several processes are those of one."""

import json

import pytest
from safetensors.torch import load_file

import tuning_worker
from test_ranks import start, write_run
from triptych import config
from triptych.commands.dpo import DpoConfig
from triptych.commands.pretrain import PretrainConfig, pretrain
from triptych.errors import ConfigError
from triptych.model.huggingface import load_model
from triptych.train import checkpoint
from triptych.train.metrics import read_metrics

pytestmark = pytest.mark.usefixtures("one_thread")  # as in the processes

GRIDS = {
    "copies": {},
    "shards": {"shard": 2},
    "products": {"tensor": 2},
    "tokens": {"context": 2},
}
CASES = [(stage, name) for stage in ("sft", "dpo") for name in GRIDS]
CASES.remove(("dpo", "tokens"))


def said(role, content):
    return {"role": role, "content": content}


def write_jsonl(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A base model, conversations and preferences; then every run in two processes."""
    root = tmp_path_factory.mktemp("tuning")
    pretrain(config.load(PretrainConfig, write_run(root, "steps = 2")))
    words = ["some", "words", "to", "learn", "some words", "words to learn"]
    asked = [said("user", f"{a} {b}") for a in words for b in words[:4]]
    write_jsonl(
        root / "conversations.jsonl",
        [
            {"messages": [ask, said("assistant", words[n % 6])]}
            for n, ask in enumerate(asked)
        ],
    )
    write_jsonl(
        root / "preferences.jsonl",
        [
            {
                "prompt": [ask],
                "chosen": [said("assistant", words[n % 6])],
                "rejected": [said("assistant", words[(n + 1) % 6])],
            }
            for n, ask in enumerate(asked)
        ],
    )
    start(tuning_worker.tune_all, 2, root, CASES, GRIDS)
    return root


@pytest.fixture(scope="module")
def alone(folder):
    """The same in this process."""
    for stage in ("sft", "dpo"):
        tuning_worker.tune(folder, stage, "alone", {})
    return folder


def load_table(folder):
    tensors = load_file(folder / "logps.safetensors")
    keys = map(tuple, tensors["keys"].tolist())
    return dict(zip(keys, tensors["logps"].tolist(), strict=True))


def newest(run):
    return checkpoint.steps_in(run / "checkpoints")[-1]


@pytest.mark.parametrize(("stage", "name"), CASES)
def test_losses_and_weights_are_those_of_one_process(folder, alone, stage, name):
    found, expected = (folder / f"{stage}-{n}" for n in (name, "alone"))
    lines, others = read_metrics(found), read_metrics(expected)
    assert len(lines) == len(others) >= 6
    for line, other in zip(lines, others, strict=True):
        assert (line["ids_hash"], line["count"]) == (other["ids_hash"], other["count"])
        assert line["loss"] == pytest.approx(other["loss"], abs=1e-5)
        if stage == "dpo":
            assert line["margin"] == pytest.approx(other["margin"], abs=1e-5)
    assert {line["processes"] for line in lines} == {2}
    models = [load_model(newest(run)).state_dict() for run in (found, expected)]
    for key, weight in models[1].items():
        assert (models[0][key] - weight).abs().max() < 1e-5, key


def test_the_reference_is_spread_and_the_same(folder, alone):
    first = read_metrics(folder / "dpo-copies")[0]
    assert first["loss"] == pytest.approx(0.6931472, abs=1e-6)
    names = ("copies", "alone")
    found, expected = (load_table(folder / f"dpo-{n}/reference") for n in names)
    assert found == expected
    assert len(found) == 48


def test_what_the_first_process_cannot_read_stops_all_with_its_sentence(folder):
    (folder / "broken.jsonl").write_text('{"messages": 1}\n')
    start(tuning_worker.refused, 2, folder)
    for rank in range(2):
        assert "broken.jsonl" in (folder / f"said-{rank}").read_text()


def test_the_tokens_of_a_pair_stay_in_one_process():
    values = {"output": "x", "model": "m", "preferences": ["p"]}
    with pytest.raises(ConfigError, match="expected 1 for `triptych dpo`, found 2"):
        config.from_mapping(DpoConfig, {**values, "parallel": {"context": 2}})
