from __future__ import annotations

import io
import json
import math
import shutil
from collections import Counter

import pytest
import torch

from triptych import Tokenizer, generation, load_model
from triptych.commands.chat import ChatConfig, Session, chat, pieces
from triptych.conversation import has_markers, render
from triptych.errors import ConfigError, InputError
from triptych.generation import Sampling, _draw, generate, stream
from triptych.language_model import LanguageModel, opening_ids

PROMPTS = [[1, 10, 11, 12], [1, 20], [1, 30, 31, 32, 33, 34, 35]]


def greedy_twin(model, prompt, count):
    """One token at a time over the whole sequence, without a cache."""
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(model.logits(torch.tensor(ids))[-1].argmax()))
    return ids[len(prompt) :]


@torch.no_grad()
def test_the_cache_gives_what_the_whole_sequence_gives(tiny_model):
    sampling = Sampling(max_new_tokens=12)
    completions = generate(tiny_model, PROMPTS, sampling, stop_ids=[])
    expected = [greedy_twin(tiny_model, prompt, 12) for prompt in PROMPTS]
    assert [completion.ids for completion in completions] == expected


def test_a_completion_depends_on_the_seed_and_its_place_but_not_on_its_company(
    tiny_model,
):
    sampling = Sampling(max_new_tokens=16, temperature=1.0, seed=7)
    together = generate(tiny_model, PROMPTS, sampling, stop_ids=[])
    alone = generate(tiny_model, PROMPTS, sampling, stop_ids=[], batch_size=1)
    other = generate(
        tiny_model,
        PROMPTS,
        Sampling(max_new_tokens=16, temperature=1.0, seed=8),
        stop_ids=[],
    )
    assert [c.ids for c in together] == [c.ids for c in alone]
    assert [c.ids for c in together] != [c.ids for c in other]


def test_a_stop_token_ends_one_lane_and_leaves_the_others(tiny_model):
    sampling = Sampling(max_new_tokens=12)
    free = generate(tiny_model, PROMPTS, sampling, stop_ids=[])
    stop = free[0].ids[3]
    stopped = generate(tiny_model, PROMPTS, sampling, stop_ids=[stop])
    for before, after in zip(free, stopped, strict=True):
        cut = before.ids.index(stop) if stop in before.ids else 12
        assert after.ids == before.ids[:cut]
        assert after.stopped_by == (stop if stop in before.ids else None)


def test_streaming_yields_the_same_ids(tiny_model):
    sampling = Sampling(max_new_tokens=9, temperature=0.8, top_k=20, top_p=0.9, seed=3)
    whole = generate(tiny_model, PROMPTS[:1], sampling, stop_ids=[])[0].ids
    assert list(stream(tiny_model, PROMPTS[0], sampling, stop_ids=[])) == whole


def expected_shares(logits, temperature, top_k, top_p):
    """Probability of each token, by the definitions: a sorted vocabulary, cut twice."""
    order = sorted(range(len(logits)), key=lambda i: -logits[i])[:top_k]
    weights = [math.exp(float(logits[i] - logits.max()) / temperature) for i in order]
    shares, before = [0.0] * len(logits), 0.0
    for token, weight in zip(order, weights, strict=True):
        if before < top_p * sum(weights):
            shares[token] = weight
        before += weight
    return [share / sum(shares) for share in shares]


@pytest.mark.parametrize("nucleus_tokens", [4, 1024])
@pytest.mark.parametrize("top_p", [0.3, 0.8, 1.0])
@pytest.mark.parametrize("top_k", [None, 3, 30])
def test_tokens_are_drawn_as_often_as_their_probabilities_say(
    monkeypatch, top_k, top_p, nucleus_tokens
):
    monkeypatch.setattr(generation, "NUCLEUS_TOKENS", nucleus_tokens)
    logits = torch.randn(40, generator=torch.Generator().manual_seed(1)) * 2
    sampling = Sampling(temperature=1.3, top_k=top_k, top_p=top_p)
    generator = torch.Generator().manual_seed(2)
    found = Counter(_draw(logits, sampling, generator) for _ in range(4000))
    expected = expected_shares(logits, 1.3, top_k, top_p)
    assert {token for token in found if expected[token] == 0} == set()
    counts = [(found[token], 4000 * share) for token, share in enumerate(expected)]
    chi2 = sum((n - mean) ** 2 / mean for n, mean in counts if mean > 0)
    free = sum(share > 0 for share in expected) - 1
    assert chi2 < free + 5 * math.sqrt(2 * free) + 5


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_an_error(bad, temperature):
    logits = torch.zeros(9)
    logits[4] = bad
    with pytest.raises(ConfigError, match="logits: expected numbers, found NaN"):
        _draw(logits, Sampling(temperature=temperature), torch.Generator())


def test_top_k_of_one_and_a_tiny_top_p_are_greedy(tiny_model):
    greedy = generate(tiny_model, PROMPTS, Sampling(max_new_tokens=5), stop_ids=[])
    for narrow in ({"top_k": 1}, {"top_p": 1e-9}):
        sampling = Sampling(max_new_tokens=5, temperature=1.0, **narrow)
        found = generate(tiny_model, PROMPTS, sampling, stop_ids=[])
        assert [c.ids for c in found] == [c.ids for c in greedy]


@pytest.mark.parametrize("temperature", [1e-4, 1e-30, 1e-300, 5e-324])
def test_a_tiny_temperature_is_greedy(tiny_model, temperature):
    greedy = generate(tiny_model, PROMPTS, Sampling(max_new_tokens=5), stop_ids=[])
    sampling = Sampling(max_new_tokens=5, temperature=temperature)
    found = generate(tiny_model, PROMPTS, sampling, stop_ids=[])
    assert [c.ids for c in found] == [c.ids for c in greedy]


@pytest.mark.parametrize(
    ("top_k", "top_p", "drawn"),
    [(3, 1.0, {0, 1, 2}), (3, 0.6, {0, 1}), (None, 0.45, {0, 1, 2}), (2, 0.5, {0})],
)
def test_top_p_is_reached_among_the_tokens_of_top_k(top_k, top_p, drawn):
    # The first three are 0.5, 0.33 and 0.17 among themselves; of all, half of that.
    logits = torch.tensor([0.25, 1 / 6, 1 / 12, *[0.01] * 50]).log()
    sampling = Sampling(temperature=1.0, top_k=top_k, top_p=top_p)
    generator = torch.Generator().manual_seed(0)
    found = {_draw(logits, sampling, generator) for _ in range(300)}
    assert found == drawn


def test_a_prompt_that_leaves_no_room_is_refused(tiny_model):
    with pytest.raises(ConfigError, match="expected 1 to 28 tokens"):
        generate(tiny_model, [[1] * 29], Sampling(max_new_tokens=100), stop_ids=[])
    for many in (128, 100_000):  # no prompt would be short enough
        with pytest.raises(
            ConfigError, match=f"max_new_tokens: expected < 128.*{many}"
        ):
            generate(tiny_model, [[1]], Sampling(max_new_tokens=many), stop_ids=[])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"temperature": -1.0}, "temperature: expected >= 0"),
        ({"top_p": 0.0}, r"top_p: expected in \(0, 1\]"),
        ({"top_k": 0}, "top_k: expected >= 1"),
        ({"max_new_tokens": 0}, "max_new_tokens: expected >= 1"),
        ({"max_new_tokens": 2.5}, "max_new_tokens: expected a whole number, found 2.5"),
        ({"top_k": 1.5}, "top_k: expected a whole number, found 1.5"),
        ({"seed": None}, "seed: expected a whole number, found None"),
        ({"temperature": "1"}, "temperature: expected a number, found 1"),
        ({"top_p": None}, "top_p: expected a number, found None"),
    ],
)
def test_an_impossible_setting_is_refused_at_birth(setting, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**setting)


@pytest.mark.parametrize("size", [0, -1, 1.5])
def test_a_batch_of_no_prompts_is_refused_and_completes_none_in_silence(
    tiny_model, size
):
    with pytest.raises(ConfigError, match=f"batch_size: expected .* found {size}"):
        generate(tiny_model, [[1]], Sampling(), stop_ids=[], batch_size=size)


@pytest.mark.parametrize("foreign", [-1, 384, 2**40])
def test_an_id_beyond_the_vocabulary_is_named(tiny_model, foreign):
    message = f"prompt: expected ids from 0 to 383, found {foreign}"
    with pytest.raises(ConfigError, match=message):
        generate(tiny_model, [[1], [1, foreign, 2]], Sampling(), stop_ids=[])


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ("one latte", "texts: expected a list of texts, found one, 'one latte'"),
        (["one", b"latte"], "text 2: expected text, found bytes"),
        ([None], "text 1: expected text, found NoneType"),
    ],
)
def test_what_is_no_list_of_texts_is_refused(model_folder, prompts, message):
    with pytest.raises(InputError, match=message):
        load_model(model_folder).generate(prompts)


def test_a_loaded_model_scores_and_completes_text(model_folder):
    model = load_model(model_folder)
    assert model.logits(torch.tensor([[1, 2, 3]])).shape == (1, 3, 384)
    first = model.generate(["The house"], max_new_tokens=8, temperature=1.0, seed=1)
    again = model.generate(["The house"], max_new_tokens=8, temperature=1.0, seed=1)
    assert first == again
    assert isinstance(first[0], str)


class Terminal(io.StringIO):
    """Lines that a person types."""

    def isatty(self):
        return True


def test_a_slip_does_not_end_a_conversation(model_folder, monkeypatch, capsys):
    lines = ["/temperature nan", "one latte", "word " * 200, "one latte"]
    monkeypatch.setattr("sys.stdin", Terminal("\n".join(lines)))
    chat(ChatConfig(model=str(model_folder), max_new_tokens=4))
    said = capsys.readouterr().out.split("you: ")
    assert "temperature: expected a number >= 0, found `nan`" in said[1]
    assert "prompt: expected 1 to 124 tokens" in said[3]
    assert len(said) == 6


def test_a_message_without_room_leaves_the_conversation_as_it_was(model_folder):
    session = Session(
        ChatConfig(model=str(model_folder), max_new_tokens=4), load_model(model_folder)
    )
    list(session.reply("one latte"))
    before = list(session.messages)
    with pytest.raises(ConfigError, match="prompt: expected"):
        list(session.reply("word " * 200))
    assert session.messages == before


def test_a_chat_that_cannot_sample_is_refused_before_its_first_line(model_folder):
    config = ChatConfig(model=str(model_folder), top_k=0)
    with pytest.raises(ConfigError, match="top_k: expected"):
        Session(config, load_model(model_folder))


def test_the_oldest_questions_go_with_their_answers_and_the_system_message_stays(
    model_folder,
):
    config = ChatConfig(
        model=str(model_folder), max_new_tokens=4, system="be brief " * 6
    )
    session = Session(config, load_model(model_folder))
    for number in range(12):
        list(session.reply(f"one latte, no sugar, number {number}"))
        roles = [message["role"] for message in session.messages]
        assert roles == ["system"] + ["user", "assistant"] * (len(roles) // 2)
    assert len(roles) < 25
    before = list(session.messages)
    with pytest.raises(ConfigError, match="prompt: expected"):
        list(session.reply("word " * 20))
    assert session.messages == before


# What must be there; the Falcons and the Phis have tokens for the roles alone.
@pytest.mark.parametrize("name", ["user", "end", "bos", "eos"])
def test_a_chat_without_markers_is_refused_before_its_first_line(
    tiny_model, tokenizer, tmp_path, name
):
    foreign = tokenizer.to_str().replace(f"<|{name}|>", "<|other|>")
    (tmp_path / "tokenizer.json").write_text(foreign)
    opened = LanguageModel(tiny_model, tmp_path)
    message = rf"expected a token `<\|{name}\|>`.*found none"
    with pytest.raises(ConfigError, match=message):
        Session(ChatConfig(model="published"), opened)
    with pytest.raises(ConfigError, match=message):
        render([{"role": "user", "content": "a"}], opened.tokenizer)
    assert not has_markers(opened.tokenizer)


def test_a_prompt_that_is_no_utf8_is_named(model_folder):
    model = load_model(model_folder)
    latin = b"caf\xe9".decode("utf-8", "surrogateescape")
    with pytest.raises(
        InputError, match=r"text 2: expected UTF-8, found .* character 4"
    ):
        model.generate(["one latte", latin])
    session = Session(ChatConfig(model=str(model_folder)), model)
    with pytest.raises(InputError, match="text 1: expected UTF-8"):
        list(session.reply(latin))
    assert session.messages == []
    with pytest.raises(InputError, match="text 1: expected UTF-8"):
        Session(ChatConfig(model=str(model_folder), system=latin), model)


def scripted(monkeypatch, ids):
    """A model that says `ids`, whatever it is asked."""
    monkeypatch.setattr(
        "triptych.commands.chat.stream", lambda *_, **__: iter(ids), raising=True
    )


@pytest.mark.parametrize("cut", range(1, 10))
def test_a_reply_cut_within_a_character_keeps_what_came_before_it(
    model_folder, monkeypatch, cut
):
    opened = load_model(model_folder)
    ids = opened.tokenizer.encode("ok 🙂 ok")[:cut]
    scripted(monkeypatch, ids)
    session = Session(ChatConfig(model=str(model_folder)), opened)
    whole = opened.tokenizer.decode(ids)
    assert "".join(session.reply("one latte")) == whole
    assert session.messages[-1]["content"] == whole


def test_a_long_reply_is_not_read_again_from_its_beginning_at_each_token(
    model_folder, monkeypatch
):
    opened = load_model(model_folder)
    ids = opened.tokenizer.encode("naïve 日本語 🙂 ok. " * 100)
    scripted(monkeypatch, ids)
    text, read = opened.text, []
    monkeypatch.setattr(
        LanguageModel, "text", lambda _, x: read.append(len(x)) or text(x)
    )
    session = Session(ChatConfig(model=str(model_folder)), opened)
    assert "".join(session.reply("one latte")) == opened.tokenizer.decode(ids)
    assert sum(read) < 10 * len(ids)


def words_of(ids):
    """As SentencePiece writes them: the first word of a text has no space before it."""
    words = ["", " one", " two", "!", "  "]
    return "".join(words[number] for number in ids).removeprefix(" ")


@pytest.mark.parametrize("ids", [[1, 2, 3, 1], [4, 1, 2], [0, 1, 0, 2, 0], [3, 0], []])
def test_pieces_of_a_reply_have_the_spaces_that_it_has_as_a_whole(ids):
    assert "".join(pieces(iter(ids), words_of)) == words_of(ids)


def test_ids_beyond_the_tokenizer_are_no_text(model_folder, monkeypatch):
    opened = load_model(model_folder)
    known = opened.tokenizer.encode("one latte")
    beyond = opened.tokenizer.vocab_size
    said = [beyond, *known[:1], beyond + 9, *known[1:], beyond]
    assert opened.text(said) == "one latte"
    scripted(monkeypatch, said)
    session = Session(ChatConfig(model=str(model_folder)), opened)
    assert "".join(session.reply("one latte")) == "one latte"


@pytest.mark.parametrize("name", ["generation_config.json", "config.json"])
def test_a_folder_says_which_ids_end_a_completion(model_folder, tmp_path, name):
    free = load_model(model_folder).generate(["one latte"], max_new_tokens=8)[0]
    folder = tmp_path / "published"
    unread = shutil.ignore_patterns("manifest.json", "generation_config.json")
    shutil.copytree(model_folder, folder, ignore=unread)
    opened = load_model(folder)
    drawn = generate(
        opened.model,
        [[opened.tokenizer.bos_id, *opened.tokenizer.encode("one latte")]],
        Sampling(max_new_tokens=8),
        stop_ids=[],
    )[0].ids
    table = json.loads((folder / "config.json").read_text())
    ends = {"eos_token_id": [drawn[3], 128_009, None]}
    (folder / name).write_text(json.dumps(table | ends))
    cut = drawn.index(drawn[3])
    assert free == opened.tokenizer.decode(drawn)
    found = load_model(folder).generate(["one latte"], max_new_tokens=8)
    assert found == [opened.tokenizer.decode(drawn[:cut])]


def template(*single, **ids):
    pieces = [
        {"SpecialToken": {"id": name, "type_id": 0}}
        if name in ids
        else {"Sequence": {"id": name, "type_id": 0}}
        for name in single
    ]
    tokens = {n: {"id": n, "ids": i, "tokens": [n] * len(i)} for n, i in ids.items()}
    return {
        "type": "TemplateProcessing",
        "single": pieces,
        "pair": [*pieces, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": tokens,
    }


BYTES = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False}
BYTES["use_regex"] = True
OPENED = template("<s>", "A", **{"<s>": [3]})
PROCESSORS = [
    None,
    BYTES,
    OPENED,
    template("<a>", "<b>", "A", "<c>", **{"<a>": [3], "<b>": [4, 5], "<c>": [6]}),
    template("A", "<c>", **{"<c>": [6]}),
    {"type": "Sequence", "processors": [BYTES, OPENED]},
    {"type": "Sequence", "processors": [OPENED, template("b", "A", b=[4, 5])]},
    {"type": "BertProcessing", "sep": ["</s>", 5], "cls": ["<s>", 4]},
]


def test_a_prompt_is_opened_as_the_file_of_the_tokenizer_says(model_folder):
    tokenizers = pytest.importorskip("tokenizers")
    ours = load_model(model_folder).tokenizer
    assert opening_ids(ours) == [ours.bos_id]
    file = json.loads(ours.to_str().replace("<|bos|>", "<|begin_of_text|>"))
    ids = ours.encode("one latte")
    for processor in PROCESSORS:
        text = json.dumps(file | {"post_processor": processor})
        found = tokenizers.Tokenizer.from_str(text).encode("one latte").ids
        at = next(at for at in range(len(found)) if found[at:][: len(ids)] == ids)
        assert opening_ids(Tokenizer.from_str(text)) == found[:at]


def test_nothing_is_completed_though_nothing_opens_a_prompt(model_folder, tmp_path):
    folder = tmp_path / "published"
    unread = shutil.ignore_patterns("manifest.json")
    shutil.copytree(model_folder, folder, ignore=unread)
    file = folder / "tokenizer.json"
    file.write_text(file.read_text().replace("<|bos|>", "<|begin_of_text|>"))
    opened = load_model(folder)
    assert opening_ids(opened.tokenizer) == []
    after_bos = [[opened.tokenizer.bos_id]]
    drawn = opened.complete(after_bos, Sampling(max_new_tokens=4))[0].ids
    assert opened.generate([""], max_new_tokens=4) == [opened.text(drawn)]
