"""`triptych eval`: what it counts, how often it reads, what it refuses."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from triptych import evaluate as measures
from triptych._core import write_token_shards
from triptych.cli import main
from triptych.commands.eval import EvalConfig, evaluate
from triptych.conversation import Conversation
from triptych.data import TokenShards
from triptych.errors import ConfigError
from triptych.evaluate import reply_quality
from triptych.model.huggingface import export

pytestmark = pytest.mark.usefixtures("one_thread")
TEXTS = {"a": ["The house stood on a hill.", "ok"], "b": ["Straße, naïve café"]}


@pytest.fixture
def shards(tokenizer, tmp_path):
    """A folder of token shards of each source."""
    folders = {name: str(tmp_path / name) for name in TEXTS}
    for name, folder in folders.items():
        ids = [
            [tokenizer.bos_id, *tokenizer.encode(text), tokenizer.eos_id]
            for text in TEXTS[name]
        ]
        rows = [(f"{name}{i}", name, row, None) for i, row in enumerate(ids)]
        write_token_shards(rows, tokenizer, folder, 1)
    return folders


def test_bits_are_nats_over_the_bytes_of_the_texts(model_folder, shards, tiny_model):
    found = evaluate(EvalConfig(model=str(model_folder), shards=shards, threads=1))
    nats, size = 0.0, 0
    for name, folder in shards.items():
        loss = measures.token_loss(tiny_model, TokenShards(folder), seq_len=128)
        here = sum(len(text.encode()) for text in TEXTS[name])
        assert found[name]["documents"] == len(TEXTS[name])
        assert found[name]["tokens"] == loss.tokens
        assert found[name]["nats_per_token"] == pytest.approx(loss.mean)
        bits = loss.nats / math.log(2) / here
        assert found[name]["bits_per_byte"] == pytest.approx(bits)
        nats, size = nats + loss.nats, size + here
    assert found["all"]["bits_per_byte"] == pytest.approx(nats / math.log(2) / size)


def test_what_nothing_predicts_counts_neither_as_nats_nor_as_bytes(
    tokenizer, tiny_model, tmp_path
):
    texts = ["The house stood.", "日本語のテキスト", "ok", ""]
    ids = [[*tokenizer.encode(text), tokenizer.eos_id] for text in texts]
    rows = [(str(i), "a", row, None) for i, row in enumerate(ids)]
    write_token_shards(rows, tokenizer, str(tmp_path / "a"), 1)
    shards = TokenShards(tmp_path / "a")
    loss = measures.token_loss(tiny_model, shards, seq_len=128)
    assert loss.tokens == sum(len(row) - 1 for row in ids)
    firsts = [tokenizer.decode(row[:1], True) for row in ids]
    expected = sum(len(text.encode()) for text in texts)
    expected -= sum(len(text.encode()) for text in firsts)
    assert measures.text_bytes(shards, tokenizer) == expected


def test_a_loss_that_is_no_number_is_null_in_json(
    tiny_model, tokenizer_path, shards, tmp_path, capsys
):
    with torch.no_grad():
        tiny_model.model.norm.weight.fill_(math.nan)
    export(tiny_model, tmp_path / "model", tokenizer_path, verified=False)
    command = [
        "eval",
        str(tmp_path / "model"),
        "--shards",
        f"a={shards['a']}",
        "--json",
    ]
    assert main([*command, "--threads", "1"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found["all"] == {"bits_per_byte": None}
    assert found["a"]["nats_per_token"] is None
    assert found["a"]["documents"] == 2


def test_every_source_is_read_once(model_folder, shards, monkeypatch):
    read = []

    def token_loss(model, source, *, seq_len):
        read.append(source)
        return measures.TokenLoss(1.0, 1)

    monkeypatch.setattr(measures, "token_loss", token_loss)
    evaluate(EvalConfig(model=str(model_folder), shards=shards, threads=1))
    assert len(read) == len(shards)


def test_positions_that_the_model_never_learnt_are_refused(model_folder, shards):
    config = EvalConfig(model=str(model_folder), shards=shards, seq_len=129, threads=1)
    with pytest.raises(ConfigError, match=r"seq_len: expected at most 128.*found 129"):
        evaluate(config)


def test_a_folder_of_something_else_is_named_and_not_called_damaged(
    model_folder, shards
):
    manifest = Path(shards["a"]) / "manifest.json"
    tokens, documents = "triptych-tokens/1", "triptych-documents/1"
    manifest.write_text(manifest.read_text().replace(tokens, documents))
    config = EvalConfig(model=str(model_folder), shards=shards, threads=1)
    message = f"folder `.*`: expected format `{tokens}`, found `{documents}`"
    with pytest.raises(ConfigError, match=message):
        evaluate(config)


def test_a_reply_is_to_the_last_question_wherever_it_stands(tiny_model, tokenizer):
    question = {"role": "user", "content": "one latte"}
    answer = {"role": "assistant", "content": "ok"}
    chats = [
        Conversation("asked", "", [question, answer, question]),
        Conversation("answered", "", [question, answer, question, answer]),
        Conversation("twice", "", [question, answer, question, answer, answer]),
        Conversation("unasked", "", [answer]),
    ]
    found = reply_quality(tiny_model, tokenizer, chats, max_new_tokens=4)
    assert found.replies == 3
    assert [sample["prompt"] for sample in found.samples] == ["one latte"] * 3
    assert len({sample["reply"] for sample in found.samples}) == 1
