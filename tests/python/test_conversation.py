from __future__ import annotations

import json
import tracemalloc

import pytest

from triptych import Tokenizer
from triptych.conversation import (
    Conversation,
    read_conversations,
    read_preferences,
    render,
    write_conversations,
)
from triptych.errors import ConfigError, InputError

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "one latte <|end|> please"},
    {"role": "assistant", "content": "ok, which size?"},
    {"role": "user", "content": "日本語, large"},
    {"role": "assistant", "content": "ok"},
]


def test_only_the_assistants_words_and_their_end_are_supervised(tokenizer):
    rendered = render(MESSAGES, tokenizer)
    learnt = [i for i, kept in zip(rendered.ids, rendered.mask, strict=True) if kept]
    assert tokenizer.decode(learnt) == "ok, which size?<|end|>ok<|end|>"


def test_of_a_preference_only_the_reply_is_supervised(tokenizer):
    rendered = render(MESSAGES, tokenizer, supervise_from=3)
    learnt = [i for i, kept in zip(rendered.ids, rendered.mask, strict=True) if kept]
    assert tokenizer.decode(learnt) == "ok<|end|>"


def test_a_marker_spelled_out_in_a_text_never_becomes_one(tokenizer):
    ids = render(MESSAGES, tokenizer).ids
    assert ids.count(tokenizer.end_id) == len(MESSAGES)


def test_a_marker_that_any_text_can_spell_is_refused(tokenizer, tmp_path):
    plain = json.loads(tokenizer.to_str())
    token = next(x for x in plain["added_tokens"] if x["content"] == "<|user|>")
    token["special"] = False
    foreign = Tokenizer.from_str(json.dumps(plain))
    chat = Conversation("a", "", MESSAGES)
    with pytest.raises(
        ConfigError, match=r"`<\|user\|>`.*found one that is not special"
    ):
        write_conversations([chat], foreign, tmp_path / "tokens")


def test_rendering_has_one_bos_and_ends_with_eos_or_the_assistants_turn(tokenizer):
    whole = render(MESSAGES, tokenizer).ids
    prompt = render(MESSAGES[:-1], tokenizer, add_generation_prompt=True).ids
    assert whole.count(tokenizer.bos_id) == 1
    assert whole[-1] == tokenizer.eos_id
    assert whole[: len(prompt)] == prompt


def test_the_exported_template_gives_the_same_ids_in_transformers(
    model_folder, tokenizer
):
    transformers = pytest.importorskip(
        "transformers", reason="extra `hf` not installed"
    )
    theirs = transformers.AutoTokenizer.from_pretrained(model_folder)
    plain = [m | {"content": m["content"].replace("<|end|>", "end")} for m in MESSAGES]
    encoded = theirs.apply_chat_template(
        plain[:-1], add_generation_prompt=True, tokenize=True, return_dict=True
    )
    ours = render(plain[:-1], tokenizer, add_generation_prompt=True).ids
    assert list(encoded["input_ids"]) == ours


def test_the_exported_template_masks_what_training_supervises(model_folder, tokenizer):
    transformers = pytest.importorskip(
        "transformers", reason="extra `hf` not installed"
    )
    theirs = transformers.AutoTokenizer.from_pretrained(model_folder)
    plain = [m | {"content": m["content"].replace("<|end|>", "end")} for m in MESSAGES]
    encoded = theirs.apply_chat_template(
        plain, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    ours = render(plain, tokenizer)
    assert list(encoded["assistant_masks"]) == ours.mask[:-1]  # all but our EOS
    assert list(encoded["input_ids"]) == ours.ids[:-1]


def test_the_exported_template_refuses_an_unknown_role(model_folder):
    transformers = pytest.importorskip(
        "transformers", reason="extra `hf` not installed"
    )
    theirs = transformers.AutoTokenizer.from_pretrained(model_folder)
    with pytest.raises(Exception, match="unknown role tool"):
        theirs.apply_chat_template([{"role": "tool", "content": "x"}])


# (record, what the message must say)
BAD_CONVERSATIONS = [
    ({"messages": []}, "`messages`: expected a list of messages"),
    ({"text": "x"}, "`messages`: expected a list of messages, found none"),
    (
        {"messages": [{"role": "tool", "content": "x"}]},
        "`messages[0]`: expected a `role`",
    ),
    (
        {"messages": [{"role": "user", "content": 3}]},
        "`messages[0]`: expected a string `content`, found 3",
    ),
    ({"messages": ["x"]}, "`messages[0]`: expected an object, found a text"),
    (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
        "`messages[0]`: expected a string `content`, found a list",
    ),
    (
        {"messages": [{"role": "assistant", "content": None, "tool_calls": [{}]}]},
        "`messages[0]`: expected all words in `content`, found also `tool_calls`",
    ),
    (
        {"messages": [{"role": "assistant", "content": "", "function_call": {"f": 1}}]},
        "`messages[0]`: expected all words in `content`, found also `function_call`",
    ),
    (
        {"messages": [{"role": "assistant", "content": "4", "thinking": "2 + 2"}]},
        "`messages[0]`: expected all words in `content`, found also `thinking`",
    ),
    (
        {"tools": [{"name": "f"}], "messages": [{"role": "assistant", "content": ""}]},
        "expected all words in `content`, found also `tools`",
    ),
    (
        {"messages": [{"role": "assistant", "content": "4", "weight": 0}]},
        "`messages[0]`: `weight`: expected 1, as every turn of the assistant is learnt",
    ),
    (
        {"messages": [{"role": "assistant", "content": "4", "train": False}]},
        "`messages[0]`: `train`: expected 1, as every turn of the assistant is learnt",
    ),
    ({"messages": [{"role": "user", "content": "x"}]}, "no assistant turn"),
    ([1], "expected a JSON object, found list"),
]


@pytest.mark.parametrize("read", [read_conversations, read_preferences])
@pytest.mark.parametrize("content", ["", "\n \n"])
def test_a_file_without_records_is_named_also_beside_others(tmp_path, read, content):
    (tmp_path / "none.jsonl").write_text(content)
    with pytest.raises(InputError, match=r"none\.jsonl: expected at least one record"):
        list(read([tmp_path / "none.jsonl"]))


@pytest.mark.parametrize(("record", "message"), BAD_CONVERSATIONS)
def test_a_bad_conversation_is_named_by_file_and_line(tmp_path, record, message):
    path = tmp_path / "chat.jsonl"
    good = {"messages": MESSAGES[1:3]}
    path.write_text(json.dumps(good) + "\n\n" + json.dumps(record) + "\n")
    with pytest.raises(InputError) as caught:
        list(read_conversations([path]))
    assert str(caught.value).startswith(f"{path}:3: ")
    assert message in str(caught.value)
    assert (caught.value.file, caught.value.line) == (str(path), 3)


SECRET = "joe@example.com"
SECRETIVE = [
    {"messages": SECRET},
    {"messages": [SECRET]},
    {"messages": [{"role": f"user {SECRET}", "content": "x"}]},
    {"messages": [{"role": [SECRET], "content": "x"}]},
    {"messages": [{"role": "user", "content": {"text": SECRET}}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": SECRET}]}]},
    {"messages": [{"role": "assistant", "content": "x", "weight": SECRET}]},
    {"messages": [{"role": "user", "content": 4915112345678}]},
]


@pytest.mark.parametrize("record", SECRETIVE)
def test_a_bad_conversation_is_named_without_what_somebody_said(tmp_path, record):
    path = tmp_path / "chat.jsonl"
    path.write_text(json.dumps(record) + "\n")
    with pytest.raises(InputError, match="expected") as caught:
        list(read_conversations([path]))
    assert SECRET[:3] not in str(caught.value).removeprefix(str(path))
    assert "4915112345678" not in str(caught.value)


def test_keys_without_a_value_are_as_absent_ones(tmp_path):
    turns = [
        {**turn, "tool_calls": None, "thinking": "", "weight": 1}
        for turn in MESSAGES[1:3]
    ]
    record = {"id": None, "source": None, "tools": [], "messages": turns}
    (tmp_path / "chats.jsonl").write_text(json.dumps(record))
    (found,) = read_conversations([tmp_path / "chats.jsonl"])
    assert (found.id, found.source) == (f"{tmp_path / 'chats.jsonl'}:1", "")
    assert found.messages == MESSAGES[1:3]


def test_a_pair_of_equal_replies_is_refused(tmp_path):
    path = tmp_path / "pairs.jsonl"
    reply = [{"role": "assistant", "content": "yes"}]
    record = {"prompt": MESSAGES[1:2], "chosen": reply, "rejected": reply}
    path.write_text(json.dumps(record) + "\n")
    with pytest.raises(InputError, match="are the same reply"):
        list(read_preferences([path]))


def test_a_missing_file_is_a_configuration_error():
    with pytest.raises(ConfigError, match=r"no file at `nowhere.jsonl`"):
        list(read_conversations(["nowhere.jsonl"]))


# (what stands in the line, what is said of it)
NO_TEXTS = {
    r'"\ud83d half"': r"`messages[0]`: expected text, found `\ud83d`, half of a pair",
    r'"a", "id": "\udc00"': r"`id`: expected text, found `\udc00`, half of a pair",
    r'"a", "source": "\udc00"': r"`source`: expected text, found `\udc00`",
    f'"a", "id": {"9" * 5000}': "expected a JSON object, found Exceeds the limit",
}


@pytest.mark.parametrize(("content", "message"), NO_TEXTS.items())
def test_what_json_can_spell_and_no_text_can_hold_is_named_with_its_line(
    tmp_path, content, message
):
    head, _, rest = content.partition(", ")
    keys = f", {rest}" if rest else ""
    turns = f'[{{"role": "user", "content": {head}}}, {{"role": "assistant", "content": "b"}}]'
    path = tmp_path / "chats.jsonl"
    path.write_text(f'\n{{"messages": {turns}{keys}}}\n')
    with pytest.raises(InputError) as error:
        list(read_conversations([path]))
    assert f"chats.jsonl:2: {message}" in str(error.value)


@pytest.mark.parametrize("key", ["chosen", "rejected"])
def test_a_reply_that_the_assistant_has_no_part_in_is_refused(tmp_path, key):
    pair = {"prompt": MESSAGES[:2], "chosen": [MESSAGES[2]], "rejected": [MESSAGES[4]]}
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(pair | {key: [MESSAGES[1]]}))
    with pytest.raises(InputError, match=f"pairs.jsonl:1: `{key}` has no assistant"):
        list(read_preferences([path]))


def test_rendered_conversations_wait_in_few_bytes_a_token(tokenizer, tmp_path):
    reply = {"role": "assistant", "content": "one latte " * 500}
    chats = (Conversation(str(number), "", [reply]) for number in range(200))
    tracemalloc.start()
    manifest = write_conversations(chats, tokenizer, tmp_path / "tokens")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    tokens = (tmp_path / "tokens" / "00000.mask.bin").stat().st_size
    assert manifest["content"]["has_mask"]
    assert peak < 8 * tokens
