"""Ids equal those of the `tokenizers` library, on any text."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych._core import InputError, Tokenizer, train_tokenizer

tokenizers = pytest.importorskip("tokenizers")

CASES = Path(__file__).parents[1] / "cases"
MULTILINGUAL = [
    "The quick brown fox can't jump over 12345 lazy dogs.",
    "Die Straßenbahn fährt um 10:45 Uhr – pünktlich!",
    "Быстрая лиса перепрыгнула через ленивую собаку.",
    "العربية: النص من اليمين إلى اليسار، ١٢٣.",
    "नमस्ते दुनिया, यह एक परीक्षण है।",
    "今日は世界。漢字かな交じり文。",
    "한국어 문장을 나누어 봅시다.",
    "ภาษาไทยไม่มีช่องว่างระหว่างคำ",
    "def f(x):\n\treturn {'a': x ** 2}\r\n\r\n",
    "👩‍🚀 flies 🇪🇺 to 𝕏",
]


@pytest.fixture(scope="module")
def ours() -> Tokenizer:
    return train_tokenizer(None, MULTILINGUAL * 3, 600)


@pytest.fixture(scope="module")
def theirs(ours):
    peer = tokenizers.Tokenizer.from_str(ours.to_str())
    peer.encode_special_tokens = True
    return peer


def table() -> list[str]:
    lines = (CASES / "round_trip.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


@pytest.mark.parametrize("text", [*table(), *MULTILINGUAL])
def test_ids_and_text_equal_the_library_on_the_table(ours, theirs, text):
    ids = ours.encode(text)
    assert ids == theirs.encode(text, add_special_tokens=False).ids
    assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=False) == text


@settings(max_examples=1000, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_ids_equal_the_library_on_random_unicode(ours, theirs, text):
    ids = ours.encode(text)
    assert ids == theirs.encode(text, add_special_tokens=False).ids
    assert ours.decode(ids) == text


SPLITS = {
    "DeepSeek V3": [
        r"\p{N}{1,3}",
        "[一-龥\u3040-ゟ゠-ヿ]+",
        r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
        r"""|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"""
        r"""|\s*[\r\n]+|\s+(?!\S)|\s+""",
    ],
    "BLOOM": [r" ?[^(\s|[.,!?…。，、।۔،])]+"],
    "an automaton": [r"\p{Lu}?\p{Ll}*?(?=[\dx])\w|\s++$|."],
    "the engine": [r"(?<=\s)\w+|(\w)\1|a++ab"],
}


@pytest.mark.parametrize("name", SPLITS)
def test_expressions_without_a_name_split_as_the_librarys(ours, name):
    file = json.loads(ours.to_str())
    (*_, bytes_alone) = file["pre_tokenizer"]["pretokenizers"]
    splits = [
        {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated"}
        for regex in SPLITS[name]
    ]
    file["pre_tokenizer"]["pretokenizers"] = [
        *({**split, "invert": False} for split in splits),
        bytes_alone,
    ]
    mine, peer = (
        library.from_str(json.dumps(file))
        for library in (Tokenizer, tokenizers.Tokenizer)
    )
    peer.encode_special_tokens = True
    for text in [*table(), *MULTILINGUAL, " ".join(MULTILINGUAL) + "\n  "]:
        expected = peer.encode(text, add_special_tokens=False).ids
        assert mine.encode(text) == expected, text


def with_tokens_that_merges_do_not_make(ours, ignores_merges) -> str:
    """The file with tokens of two characters and of long words, as they stand in it."""
    file = json.loads(ours.to_str())
    file["model"]["ignore_merges"] = ignores_merges
    bytes_alone = tokenizers.pre_tokenizers.ByteLevel(False, use_regex=False)
    words = ("日世", "界字", "なはな", "漢字かな交じり文今日は世界", "ไม่มีช่")
    for id_, word in enumerate(words, start=5_000):
        ((spelling, _),) = bytes_alone.pre_tokenize_str(word)
        file["model"]["vocab"].setdefault(spelling, id_)
    return json.dumps(file)


@pytest.mark.parametrize("ignores_merges", [True, False])
def test_long_words_without_spaces_have_the_librarys_ids(ours, ignores_merges):
    file = with_tokens_that_merges_do_not_make(ours, ignores_merges)
    mine, peer = Tokenizer.from_str(file), tokenizers.Tokenizer.from_str(file)
    runs = [
        "日世",
        "今日は",
        "世界字",
        "漢字かな交じり文",
        "ภาษาไทยไม่มีช่",
        "なはなは",
        "x",
        "ß",
    ]

    @settings(max_examples=500, deadline=None)
    @given(parts=st.lists(st.sampled_from(runs), max_size=12))
    def check(parts):
        text = "".join(parts)
        assert mine.encode(text) == peer.encode(text, add_special_tokens=False).ids

    check()


@settings(max_examples=500, deadline=None)
@given(parts=st.lists(st.sampled_from([*MULTILINGUAL, *table(), " ", "\n", "<|end|>"])))
def test_ids_equal_the_library_with_special_tokens_allowed(ours, parts):
    peer = tokenizers.Tokenizer.from_str(ours.to_str())
    text = "".join(parts)
    assert ours.encode(text, allow_special=True) == peer.encode(text).ids


@pytest.mark.parametrize("scheme", ["first", "always", "never"])
@pytest.mark.parametrize("mark", ["_", "▁"])
def test_a_word_begins_with_every_mark_whatever_character_it_is(mark, scheme):
    tokens = [mark, *"abc", f"a{mark}", f"b{mark}", f"{mark}a", "<unk>"]
    bpe = tokenizers.models.BPE(
        {token: id_ for id_, token in enumerate(tokens)},
        [("a", mark), ("b", mark), (mark, "a")],
        unk_token="<unk>",
        fuse_unk=True,
    )
    peer = tokenizers.Tokenizer(bpe)
    peer.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(mark, scheme, split=True)
    mine = Tokenizer.from_str(peer.to_str())
    for text in ["a b a_b c", "xy x yx a", "b  a _"]:
        assert mine.encode(text) == peer.encode(text).ids


def test_a_batch_equals_one_by_one(ours):
    assert ours.encode_batch(MULTILINGUAL) == [
        ours.encode(text) for text in MULTILINGUAL
    ]


def test_transformers_loads_the_file_with_the_same_ids(ours, tmp_path):
    transformers = pytest.importorskip("transformers")
    ours.save(tmp_path / "tokenizer.json")
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "tokenizer.json"),
        bos_token="<|bos|>",
        eos_token="<|eos|>",
        pad_token="<|pad|>",
    )
    assert (fast.pad_token_id, fast.bos_token_id, fast.eos_token_id) == (0, 1, 2)
    assert len(fast) == ours.vocab_size
    for text in MULTILINGUAL:
        assert fast.encode(text, add_special_tokens=False) == ours.encode(text)
        assert fast.decode(ours.encode(text)) == text


def test_saving_and_loading_keeps_every_byte(ours, tmp_path):
    ours.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.from_file(tmp_path / "tokenizer.json")
    assert (loaded.sha256, loaded.to_str()) == (ours.sha256, ours.to_str())
    assert "600" in repr(loaded) or loaded.vocab_size < 600


def test_special_tokens_have_the_first_ids(ours):
    names = ["pad", "bos", "eos", "system", "user", "assistant", "end"]
    assert [ours.token_to_id(f"<|{name}|>") for name in names] == list(range(7))
    assert (ours.pad_id, ours.bos_id, ours.eos_id, ours.end_id) == (0, 1, 2, 6)


def test_a_malformed_tokenizer_is_an_input_error_with_its_path(ours, tmp_path):
    path = tmp_path / "tokenizer.json"
    for broken in [
        "",
        "{}",
        ours.to_str()[:-200],
        ours.to_str().replace("<|end|>", "x"),  # the vocabulary has an x already
    ]:
        path.write_text(broken, encoding="utf-8")
        with pytest.raises(InputError, match=r"tokenizer\.json"):
            Tokenizer.from_file(path)


@pytest.mark.parametrize("wrong", ["é" * 100_000, {"y" * 100_000: 1}])
def test_a_long_value_of_the_wrong_kind_is_a_short_sentence(ours, wrong):
    for key, part in [("model", "fuse_unk"), ("model", "merges"), ("decoder", "type")]:
        file = json.loads(ours.to_str())
        file[key][part] = wrong
        with pytest.raises(InputError) as caught:
            Tokenizer.from_str(json.dumps(file, ensure_ascii=False))
        assert len(str(caught.value)) < 700


def test_a_lone_surrogate_is_a_unicode_error(ours):
    with pytest.raises(UnicodeEncodeError):
        ours.encode("\ud800")
