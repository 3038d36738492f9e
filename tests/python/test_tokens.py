"""Token shards from Python: written, read without triptych, and damaged."""

import itertools
import json
import os
import pickle
import random
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from triptych._core import (
    ConfigError,
    InputError,
    IntegrityError,
    Order,
    Tokenizer,
    tokenize_documents,
    train_tokenizer,
    verify_token_shards,
    write_token_shards,
)
from triptych.commands.verify import VerifyConfig, verify
from triptych.data import TokenShards

TEXTS = [
    "the cat sat on the mat",
    "ein Straßenfest in Köln",
    "the hat, the cat",
    "世界",
]


# Peak bytes of a process alone: `ru_maxrss` of a child begins with that of its parent.
PEAK = (
    "def peak():\n"
    "    lines = open('/proc/self/status').read().splitlines()\n"
    "    held = next(line for line in lines if line.startswith('VmHWM'))\n"
    "    return int(held.split()[1]) * 1024\n"
)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(None, TEXTS * 3, 300)


@pytest.fixture
def documents(tmp_path):
    path = tmp_path / "docs.jsonl"
    lines = [json.dumps({"id": f"d{i}", "text": text}) for i, text in enumerate(TEXTS)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_shard_reads_with_numpy_and_pyarrow_alone(tokenizer, documents, tmp_path):
    folder = tmp_path / "tokens"
    manifest = json.loads(tokenize_documents([str(documents)], tokenizer, str(folder)))
    content = json.loads((folder / "manifest.json").read_text())["content"]
    assert manifest["content"] == content
    dtype = {"u16": "<u2", "u32": "<u4"}[content["dtype"]]
    ids = np.memmap(folder / "00000.bin", dtype=dtype, mode="r")
    table = pq.read_table(folder / "00000.docs.parquet")
    assert [(field.name, str(field.type)) for field in table.schema] == [
        ("id", "string"),
        ("source", "string"),
        ("offset", "uint64"),
        ("length", "uint64"),
    ]
    for row, text in zip(table.to_pylist(), TEXTS, strict=True):
        tokens = ids[row["offset"] : row["offset"] + row["length"]].tolist()
        assert tokens == [tokenizer.bos_id, *tokenizer.encode(text), tokenizer.eos_id]
        assert row["source"] == "docs"
    assert content["num_tokens"] == len(ids)


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
@pytest.mark.parametrize("name", ["00000.bin", "00000.docs.parquet", "00000.mask.bin"])
def test_a_damaged_file_is_named(tokenizer, tmp_path, name, damage):
    folder = tmp_path / "tokens"
    write_token_shards(
        [("a", "s", [1, 8, 9, 2], [0, 1, 1, 0])], tokenizer, str(folder), 1
    )
    path = folder / name
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    elif damage == "truncate":
        del data[-1]
    path.unlink() if damage == "remove" else path.write_bytes(data)
    with pytest.raises(IntegrityError, match=name.replace(".", r"\.")):
        verify_token_shards(str(folder))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"vocab_size": 5}, r"00000\.bin.*ids under 5"),
        ({"dtype": "u32"}, r"manifest\.json.*dtype"),
        ({"shards": None}, r"manifest\.json.*content of token shards"),
        ({"num_tokens": 5}, r"manifest\.json.*5 tokens"),
    ],
)
def test_a_manifest_whose_hashes_agree_and_content_does_not_is_found_by_all_who_read(
    tokenizer, tmp_path, change, named
):
    folder = tmp_path / "tokens"
    write_token_shards([("a", "s", [1, 8, 9, 2], None)], tokenizer, str(folder), 1)
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["content"] |= change
    path.write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(IntegrityError, match=named):
        TokenShards(folder)
    states = verify(VerifyConfig(folder=str(folder)))
    assert re.search(named, states[str(folder)])


def test_a_shard_that_is_cut_or_written_to_while_it_is_read_is_an_integrity_error(
    tokenizer, tmp_path
):
    folder = tmp_path / "tokens"
    ids = [1, *range(7, 207)] * 50  # more than a page
    documents = [(name, "s", ids, [1] * len(ids)) for name in "ab"]
    write_token_shards(documents, tokenizer, str(folder), 1)
    shards = TokenShards(folder)
    assert pickle.loads(pickle.dumps(shards)).tokens(1).tolist() == ids
    assert shards.tokens(1).tolist() == ids
    assert shards.mask(1).all()
    with (folder / "00000.bin").open("r+b") as file:
        file.write(b"\xff\xff")
    with pytest.raises(IntegrityError, match=r"00000\.bin.*found id 65535 at token 0"):
        shards.tokens(0)
    for name in ("00000.bin", "00000.mask.bin"):
        os.truncate(folder / name, 101)
    with pytest.raises(
        IntegrityError, match=r"00000\.bin.*at least 40200 bytes, found"
    ):
        shards.tokens(1)
    with pytest.raises(IntegrityError, match=r"00000\.mask\.bin.*expected at least"):
        shards.mask(1)


def test_an_empty_corpus_is_an_input_error(tokenizer, tmp_path):
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    with pytest.raises(InputError, match="no documents"):
        tokenize_documents([str(empty)], tokenizer, str(tmp_path / "out"))
    with pytest.raises(InputError, match="no documents"):
        train_tokenizer([str(empty)], None, 300)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["own", "file.json", "documents"])
def test_only_shards_are_replaced_by_shards(tokenizer, tmp_path, name):
    (tmp_path / "own" / "sub").mkdir(parents=True)
    (tmp_path / "own" / "sub" / "thesis.txt").write_text("years of work")
    (tmp_path / "file.json").write_text("{}")
    (tmp_path / "documents").mkdir()
    manifest = tmp_path / "documents" / "manifest.json"
    manifest.write_text('{"format": "triptych-documents/1"}')
    before = {x: x.is_file() and x.read_bytes() for x in tmp_path.rglob("*")}
    documents = [("a", "s", [1, 7, 2], None)]
    with pytest.raises(
        ConfigError, match=r"output `.*`: expected a new folder, or one"
    ):
        write_token_shards(documents, tokenizer, str(tmp_path / name), 1)
    assert {x: x.is_file() and x.read_bytes() for x in tmp_path.rglob("*")} == before
    (tmp_path / "empty").mkdir()
    for _ in range(2):
        write_token_shards(documents, tokenizer, str(tmp_path / "empty"), 1)
    assert len(TokenShards(tmp_path / "empty")) == 1


def test_a_disk_that_is_full_leaves_the_tokenizer_that_was_there(tokenizer, tmp_path):
    (tmp_path / "tokenizer.json").write_text("the one before")
    tokenizer.save(tmp_path / "whole.json")
    script = """
import resource
from triptych import Tokenizer
tokenizer = Tokenizer.from_file("whole.json")
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, resource.RLIM_INFINITY))
try:
    tokenizer.save("tokenizer.json")
except OSError as error:
    print(type(error).__name__)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == "ResourceError\n", done.stderr
    assert (tmp_path / "tokenizer.json").read_text() == "the one before"
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"tokenizer.json", "whole.json"}


def test_saving_a_tokenizer_follows_a_link(tokenizer, tmp_path):
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    (tmp_path / "real.json").touch()
    tokenizer.save(tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").read_text() == tokenizer.to_str()


def test_a_wrong_path_is_a_config_error(tokenizer, tmp_path):
    with pytest.raises(ConfigError, match="no input at"):
        tokenize_documents(
            [str(tmp_path / "none.jsonl")], tokenizer, str(tmp_path / "out")
        )


@pytest.mark.parametrize(
    ("documents", "per_unit", "message"),
    [
        ([("a", "s", [], None)], 1, "at least one"),
        ([("a", "s", [300], None)], 1, "ids under"),
        ([("a", "s", [7, 8], [1])], 1, "2 entries"),
        ([("a", "s", [7], [2])], 1, "0 or 1"),
        ([("a", "s", [7], None)], 2, "even number"),
        ([("a", "s", [7], None)], 3, "1 or 2"),
    ],
)
def test_impossible_documents_are_config_errors(
    tokenizer, tmp_path, documents, per_unit, message
):
    with pytest.raises(ConfigError, match=message):
        write_token_shards(documents, tokenizer, str(tmp_path / "out"), per_unit)


@pytest.mark.parametrize("vocab_size", [0, 262, 2**20 + 1])
def test_a_vocabulary_out_of_range_is_a_config_error(vocab_size):
    with pytest.raises(ConfigError, match="vocab_size"):
        train_tokenizer(None, TEXTS, vocab_size)


def test_an_extra_special_token_follows_the_seven_and_must_have_their_form():
    tokenizer = train_tokenizer(None, TEXTS, 300, ["<|tool|>"])
    assert tokenizer.token_to_id("<|tool|>") == 7
    with pytest.raises(ConfigError, match="special_tokens"):
        train_tokenizer(None, TEXTS, 300, ["the"])


def test_sources_of_different_tokenizers_are_refused_with_both_hashes(
    tokenizer, tmp_path
):
    other = train_tokenizer(None, TEXTS, 280)
    for name, made_by in [("a", tokenizer), ("b", other)]:
        write_token_shards([("x", "s", [7, 8], None)], made_by, str(tmp_path / name), 1)
    stage = {
        "name": "s",
        "steps": 1,
        "rows_per_step": 1,
        "seq_len": 4,
        "weights": {"a": 1.0},
    }
    with pytest.raises(ConfigError) as caught:
        Order([(name, str(tmp_path / name)) for name in "ab"], [stage], 0)
    assert tokenizer.sha256 in str(caught.value)
    assert other.sha256 in str(caught.value)


def test_arrays_have_the_ids_and_ends_of_lists(tokenizer):
    # Of some of these there are more ids than characters, so the array grows.
    texts = ["", *TEXTS, "世界😀" * 5000, "the cat " * 30_000, "", "é"]
    for some in ([], texts[:1], texts, texts * 3):
        ids, ends = tokenizer.encode_arrays(some)
        lists = tokenizer.encode_batch(some)
        assert (ids.dtype, ends.dtype) == (np.uint32, np.uint64)
        assert ids.flags.owndata
        assert ids.flags.writeable
        assert ids.tolist() == [id for one in lists for id in one]
        assert ends.tolist() == np.cumsum([len(one) for one in lists]).tolist()
        assert lists == [tokenizer.encode(text) for text in some]


@pytest.mark.parametrize("char", ["a", "é", "ж", "世", "\uffff", "😀", "\U0010ffff"])
def test_texts_of_any_width_and_length_are_encoded_as_alone(tokenizer, char):
    # One, two or four bytes a character in memory; over 2^20 of them Python makes the UTF-8.
    texts = [
        f"It{char}s {char * 20} plain, {char} " * times for times in (1, 7, 40_000)
    ]
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]


def test_a_lone_surrogate_is_an_error_of_every_way_to_encode(tokenizer):
    for encode in (tokenizer.encode_arrays, tokenizer.encode_batch):
        for text in ("a\ud800b", "é" * 40 + "\udfff", "😀\ud800" * 600_000):
            with pytest.raises(UnicodeEncodeError, match="surrogates not allowed"):
                encode(["ab", text])


def test_a_vocabulary_of_one_long_word_takes_no_longer_than_one_of_its_parts():
    letters = "".join(random.Random(0).choices("ACGT", k=1_000_000))
    parts = [letters[at : at + 200] for at in range(0, len(letters), 200)]

    def seconds(text):
        start = time.process_time()
        train_tokenizer(None, [text], 8_000)
        return time.process_time() - start

    # One merge looked at the whole word: 6.6 times as long.
    assert min(seconds(letters) for _ in range(2)) < 3 * seconds(" ".join(parts))


@pytest.mark.parametrize("strips", ["lstrip", "rstrip"])
def test_white_space_that_tokens_take_in_is_looked_through_once(strips):
    file = json.loads(train_tokenizer(None, ["some words"], 300).to_str())
    flags = dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized"], False)
    space = {"id": 300, "content": " ", "special": False, **flags, strips: True}
    file["added_tokens"].append(space)
    tokenizer = Tokenizer.from_str(json.dumps(file))

    def seconds(num_spaces):
        start = time.process_time()
        tokenizer.encode(" " * num_spaces)
        return time.process_time() - start

    seconds(1 << 16)
    # Each of them looked for the end of all: 256 times as long.
    assert seconds(1 << 19) < 64 * max(seconds(1 << 15), 0.001)


def test_a_tokenizer_with_a_very_long_added_token_is_made_in_time_by_its_length():
    file = json.loads(train_tokenizer(None, ["some words"], 300).to_str())
    flags = dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized"], False)
    long = {"id": 300, "content": "x" * 100_000, "special": False, **flags}
    file["added_tokens"].append(long)
    start = time.process_time()
    tokenizer = Tokenizer.from_str(json.dumps(file))
    assert time.process_time() - start < 20  # of its square: 240 s
    long_id = tokenizer.token_to_id(long["content"])
    ids = tokenizer.encode("y" + "x" * 100_001)
    assert ids[1:] == [long_id, *tokenizer.encode("x")]


# Text that no word comes back in, made in less memory than training it took before: 29 to
# 92 bytes a byte, where it is 14 to 17.
HOSTILE = {
    "ideographs": "array('H', (0x4e00 + draw(7000) for _ in range(666_666)))"
    ".tobytes().decode('utf-16')",
    "a word of letters": "bytes(97 + draw(26) for _ in range(2_000_000)).decode()",
    "long words": "''.join(f'{draw(1 << 60):018x} '.translate(LETTERS)"
    " for _ in range(105_000))",
    "short words": "''.join(f'{draw(1 << 36):09x} '.translate(LETTERS)"
    " for _ in range(200_000))",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_text_in_which_nothing_comes_back_takes_little_memory_to_train(text):
    code = (
        "import random\n"
        "from array import array\n"
        "from triptych._core import train_tokenizer\n"
        f"{PEAK}"
        "draw = random.Random(1).randrange\n"
        "LETTERS = str.maketrans('0123456789', 'ghijklmnop')\n"
        f"text = {text}\n"
        "before = peak()\n"
        "train_tokenizer(None, [text], 8_000)\n"
        "print((peak() - before) / len(text.encode()))"
    )
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 4 < float(found.stdout) < 20


def test_a_table_of_many_small_documents_takes_little_memory_for_each(tmp_path):
    code = (
        "import resource, sys\n"
        "from triptych._core import tokenize_documents, train_tokenizer\n"
        'tokenizer = train_tokenizer(None, ["a b"], 300)\n'
        "tokenize_documents([sys.argv[1]], tokenizer, sys.argv[2])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"
    )

    def peak_bytes(documents):
        path = tmp_path / f"{documents}.jsonl"
        lines = (
            f'{{"id": "{i}", "text": "a", "source": "s"}}\n' for i in range(documents)
        )
        path.write_text("".join(lines), encoding="utf-8")
        command = [sys.executable, "-c", code, str(path), str(tmp_path / path.stem)]
        found = subprocess.run(command, capture_output=True, text=True, check=True)
        return int(found.stdout)

    more = peak_bytes(1_600_000) - peak_bytes(100_000)
    assert more / 1_500_000 < 110  # bytes a document


@pytest.mark.parametrize(
    "work",
    [
        "train_tokenizer([path], None, 300)",
        "tokenize_documents([path], tokenizer, path + '.tokens')",
        "measure_fertility(tokenizer, [path], [])",
        "tokenizer.encode_batch([text] * 3_000)",
    ],
)
def test_ctrl_c_ends_work_on_tokens_before_it_is_done(work, tmp_path):
    text = "the cat sat on the mat " * 40_000
    line = json.dumps({"text": text}) + "\n"
    frame = pa.compress(line.encode(), "zstd", asbytes=True)
    path = tmp_path / "18_gb.jsonl.zst"
    path.write_bytes(frame * 20_000)
    code = (
        "import os, signal, sys, threading\n"
        "from triptych._core import *\n"
        # Whoever starts the tests in the background may have them ignore it.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "path, text = sys.argv[1], 'the cat sat on the mat ' * 40_000\n"
        "tokenizer = train_tokenizer(None, [text], 300)\n"
        "threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        f"{work}\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stderr.endswith("KeyboardInterrupt\n"), done.stderr


@pytest.mark.parametrize(("seq_len", "most_bytes"), [(2, 70), (5, 100)])
def test_packing_takes_little_memory_for_a_document(
    tokenizer, tmp_path, seq_len, most_bytes
):
    path, count = tmp_path / "docs.jsonl", 1_000_000
    # Each has 3 tokens: cut in rows of 2, alone in rows of 5, and the first has a rest.
    documents = '{"id": "1", "text": "a"}\n' * count
    path.write_text('{"id": "0", "text": "xyzxyz"}\n' + documents, encoding="utf-8")
    tokenize_documents([path], tokenizer, tmp_path / "tokens")
    code = (
        "import sys\n"
        "from triptych._core import Order\n"
        f"{PEAK}"
        "def pack(seq_len):\n"
        "    stage = dict(name='s', steps=1, rows_per_step=1, weights={'a': 1.0})\n"
        "    Order([('a', sys.argv[1])], [stage | {'seq_len': seq_len}], 0)\n"
        "    return peak()\n"
        "before = peak()\n"
        f"print(pack({seq_len}) - before)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "tokens")]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(found.stdout) / count < most_bytes


def test_shards_may_be_more_than_the_files_that_a_process_may_open(tokenizer, tmp_path):
    folder, count = tmp_path / "tokens", 500
    write_token_shards([("a", "s", [7, 8, 9], None)], tokenizer, folder, 1)
    manifest = json.loads((folder / "manifest.json").read_text())
    names = [f"{number:05}" for number in range(count)]
    entries = list(manifest["files"].items())
    for name, (file, entry) in itertools.product(names[1:], entries):
        copy = file.replace("00000", name)
        shutil.copy(folder / file, folder / copy)
        manifest["files"][copy] = entry
    shards = [{"name": name, "documents": 1, "tokens": 3} for name in names]
    totals = {"num_documents": count, "num_tokens": 3 * count, "shards": shards}
    manifest["content"] |= totals
    (folder / "manifest.json").write_text(json.dumps(manifest))
    stage = {"name": "s", "steps": 1, "rows_per_step": count, "seq_len": 3}
    script = (
        "import resource, triptych._core as core\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400))\n"
        f"order = core.Order([('a', {str(folder)!r})], [{stage | {'weights': {'a': 1.0}}!r}], 0)\n"
        "print(order.batch(0)['input_ids'].sum())\n"
        "from triptych.data import TokenShards\n"
        f"shards = TokenShards({str(folder)!r})\n"
        f"print(sum(shards.tokens(n).sum() for n in range({count})))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True
    )
    assert (done.stdout.split(), done.stderr) == ([str(24 * count)] * 2, "")
