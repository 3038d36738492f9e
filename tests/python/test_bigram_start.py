"""A start from counts: what is counted, and that the model begins as the counts say."""

import dataclasses
import itertools
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tiny import packed, tiny_config
from triptych._core import train_tokenizer, write_token_shards
from triptych.bigrams import BigramCounts, count_bigrams
from triptych.commands.pretrain import PretrainConfig, pretrain
from triptych.commands.replay import replay
from triptych.curriculum import StageConfig
from triptych.data import TokenShards
from triptych.errors import ConfigError
from triptych.model import Transformer
from triptych.model.shape import ModelShape
from triptych.train.bigram_start import (
    SMOOTHING,
    fit_bigrams,
    normed,
    start_from_bigrams,
)
from triptych.train.metrics import EvaluationLog
from triptych.train.parallel import ParallelConfig

pytestmark = pytest.mark.usefixtures("one_thread")


def chain(seed, documents, vocab_size, first_id=0):
    """Documents in which each token has three likely successors."""
    draw = random.Random(seed)
    following = {i: random.Random(i).sample(range(vocab_size), 3) for i in range(999)}
    found = []
    for _ in range(documents):
        ids = [draw.randrange(vocab_size)]
        while len(ids) < 40:
            near = draw.random() < 0.9
            ids.append(draw.choice(following[ids[-1]] if near else range(vocab_size)))
        found.append([first_id + i for i in ids])
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("bigrams")
    tokenizer = train_tokenizer(None, ["some words to learn"] * 3, 300)
    tokenizer.save(str(path / "tokenizer.json"))
    texts = {
        "web": chain(1, 200, 200, 7),
        "code": chain(2, 30, 90, 60),
        "held": chain(3, 40, 200, 7),
    }
    for name, documents in texts.items():
        rows = [(f"{name}-{i}", name, ids, None) for i, ids in enumerate(documents)]
        write_token_shards(rows, tokenizer, str(path / name), 1)
    return path


def shards(folder, *names):
    return {name: TokenShards(folder / name) for name in names}


def pairs_of(shards, every=1):
    counts = Counter()
    for document in range(0, len(shards), every):
        ids = shards.tokens(document).tolist()
        counts.update(itertools.pairwise(ids))
    return counts


def as_counter(counts):
    keys = zip(counts.previous.tolist(), counts.following.tolist(), strict=True)
    return dict(zip(keys, counts.counts.tolist(), strict=True))


def test_every_pair_inside_a_document_counts_and_none_across(folder):
    found = shards(folder, "web")
    counts = count_bigrams(found, {"web": 1}, 300)
    assert as_counter(counts) == pairs_of(found["web"])
    keys = counts.previous * 300 + counts.following
    assert (np.diff(keys) > 0).all()


def test_a_source_weighs_as_the_run_will_read_of_it(folder):
    found = shards(folder, "web", "code")
    counts = count_bigrams(found, {"web": 300, "code": 100}, 300)
    web, code = (pairs_of(found[name]) for name in ("web", "code"))
    total = web.total() + code.total()
    for pair, count in as_counter(counts).items():
        expected = 0.75 * web[pair] / web.total() + 0.25 * code[pair] / code.total()
        assert count / total == pytest.approx(expected, rel=1e-12)


def test_a_source_that_is_never_read_does_not_count(folder):
    found = shards(folder, "web", "code")
    alone = count_bigrams({"web": found["web"]}, {"web": 5}, 300)
    assert as_counter(count_bigrams(found, {"web": 5}, 300)) == as_counter(alone)


def test_of_a_long_source_every_kth_document_is_read(folder):
    found = shards(folder, "web")
    tokens = int(found["web"].lengths.sum())
    counts = count_bigrams(found, {"web": 1}, 300, max_tokens=tokens // 4)
    assert as_counter(counts) == pairs_of(found["web"], every=4)


def test_sources_without_a_pair_are_refused(folder):
    with pytest.raises(ConfigError, match=r"two tokens or more.*found none in web"):
        count_bigrams(shards(folder, "web"), {}, 300)


def table_of(counts):
    """The slow twin of the smoothed table: (V, V) shares, dense."""
    size = counts.vocab_size
    dense = torch.zeros(size, size)
    dense[counts.previous, counts.following] = torch.from_numpy(counts.counts).float()
    columns = dense.sum(0) + 0.5
    mixed = dense + SMOOTHING * columns / columns.sum()
    return dense, mixed / mixed.sum(1, keepdim=True)


def nats(dense, scores):
    return float(-(dense * scores).sum() / dense.sum())


@pytest.mark.parametrize("width", [24, 400])
def test_the_fit_is_near_the_smoothed_table_itself(folder, width):
    counts = count_bigrams(shards(folder, "web"), {"web": 1}, 300)
    dense, table = table_of(counts)
    embedding, head = fit_bigrams(counts, width, torch.Generator().manual_seed(0))
    found = nats(dense, torch.log_softmax(embedding @ head.T, 1))
    best = nats(dense, table.log())
    unigram = nats(dense, (dense.sum(0) + 0.5).log_softmax(0).expand(300, 300))
    assert best < unigram - 0.5
    # A rank of 23 of 200 rows keeps about half of what can be known.
    assert found < best + (0.6 if width == 24 else 0.1) * (unigram - best)


def test_embeddings_are_as_long_as_a_norm_makes_them(folder):
    counts = count_bigrams(shards(folder, "web"), {"web": 1}, 300)
    embedding, head = fit_bigrams(counts, 24, torch.Generator().manual_seed(0))
    assert embedding.shape == head.shape == (300, 24)
    assert torch.allclose(embedding.pow(2).mean(1), torch.ones(300), atol=1e-4)
    assert torch.equal(normed(2 * embedding), normed(embedding))


def test_the_same_seed_gives_the_same_bits(folder):
    counts = count_bigrams(shards(folder, "web"), {"web": 1}, 300)
    first, again = (
        fit_bigrams(counts, 16, torch.Generator().manual_seed(3)) for _ in range(2)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def counted(vocab_size=97):
    documents = chain(4, 100, vocab_size)
    keys = Counter((a, b) for ids in documents for a, b in itertools.pairwise(ids))
    rows = sorted(keys.items())
    previous, following = np.array([pair for pair, _ in rows]).T
    return BigramCounts(
        vocab_size, previous, following, np.array([float(n) for _, n in rows])
    )


@pytest.mark.parametrize("family", ["llama", "qwen3", "mistral", "qwen3_moe"])
def test_at_the_start_the_layers_add_nothing(family):
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    more = experts if family.endswith("moe") else {}
    config = tiny_config(model_type=family, tie_word_embeddings=False, **more)
    torch.manual_seed(0)
    model = Transformer(config)
    start_from_bigrams(model, counted())
    document = [5, 7, 11, 7, 2]
    found = model.logits(torch.tensor(document))
    embedding, head = model.model.embed_tokens.weight, model.lm_head.weight
    expected = F.rms_norm(embedding, (32,), eps=1e-6) @ head.T
    assert torch.allclose(found, expected[document], atol=1e-5)


def test_every_layer_learns_from_the_first_step_or_the_second():
    torch.manual_seed(0)
    model = Transformer(tiny_config(tie_word_embeddings=False))
    start_from_bigrams(model, counted())
    batch = packed([[5, 7, 11, 7, 2], [1, 2, 3]])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for _ in range(2):
        optimizer.zero_grad()
        hidden = model.hidden(batch.input_ids, batch.position_ids, batch.cu_seqlens)
        scores = hidden @ model.output_weight.T
        F.cross_entropy(scores, batch.labels).backward()
        optimizer.step()
    for name, parameter in model.named_parameters():
        assert not torch.equal(parameter, before[name]), name


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({}, "tie_word_embeddings: expected false"),
        ({"model_type": "gemma2", "tie_word_embeddings": False}, "family `gemma2`"),
        ({"model_type": "olmo2", "tie_word_embeddings": False}, "family `olmo2`"),
        ({"tie_word_embeddings": False, "vocab_size": 90}, "vocab_size = 90, found a"),
    ],
)
def test_what_cannot_start_so_is_refused(shape, message):
    model = Transformer(tiny_config(**shape))
    with pytest.raises(ConfigError, match=message):
        start_from_bigrams(model, counted())


def test_settings_refuse_tied_embeddings_at_once():
    with pytest.raises(ConfigError, match=r"model.start: expected `random`, or `tie_"):
        ModelShape(size="1m", start="bigram")


@pytest.fixture
def settings(folder, tmp_path):
    stage = StageConfig(
        stage="only", learning_rate=1e-3, batch_size=4, steps=12, warmup_steps=2
    )
    return PretrainConfig(
        output=str(tmp_path / "run"),
        tokenizer=str(folder / "tokenizer.json"),
        sources={"web": str(folder / "web")},
        evaluation={"held": str(folder / "held")},
        model=ModelShape(
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            tie_word_embeddings=False,
            start="bigram",
        ),
        stage=(stage,),
        seq_len=32,
        checkpoint_every_steps=4,
        keep_checkpoints=10,
        precision="fp32",
        threads=1,
    )


def test_a_run_begins_better_than_chance_and_is_the_same_bits_again(
    settings, monkeypatch
):
    result = pretrain(settings)
    lines = EvaluationLog(Path(settings.output)).read()
    begun, ended = (line["bits_per_byte"]["held"] for line in (lines[0], lines[-1]))
    random_start = dataclasses.replace(
        settings,
        output=settings.output + "-random",
        model=dataclasses.replace(settings.model, start="random"),
    )
    pretrain(random_start)
    other = EvaluationLog(Path(random_start.output)).read()
    assert (
        begun < other[-1]["bits_per_byte"]["held"] < other[0]["bits_per_byte"]["held"]
    )
    assert ended < begun * 1.02
    monkeypatch.setattr("triptych.commands.pretrain.count_bigrams", None)  # not again
    assert pretrain(settings).step == result.step
    assert replay(settings.output, 4)["differing"] == []


@pytest.mark.parametrize(
    ("family", "kv_heads"), [("llama", 4), ("llama", 2), ("qwen3", 2), ("qwen2", 4)]
)
def test_heads_of_the_first_layer_begin_by_looking_one_two_and_three_back(
    family, kv_heads
):
    config = tiny_config(
        model_type=family,
        tie_word_embeddings=False,
        hidden_size=64,
        head_dim=32,
        num_key_value_heads=kv_heads,
    )
    torch.manual_seed(0)
    model = Transformer(config)
    start_from_bigrams(model, counted())
    ids = torch.arange(40) % 90
    first = model.model.layers[0]
    tables = model.rotary(torch.arange(40))
    x = first.input_layernorm(model.model.embed_tokens(ids))
    query, key, _ = first.self_attn.project(x, tables)
    key = key.repeat_interleave(4 // kv_heads, dim=1)
    scores = torch.einsum("thd,shd->hts", query, key) * config.score_scale
    unseen = torch.ones(40, 40).triu(1).bool()
    weights = scores.masked_fill(unseen, -torch.inf).softmax(-1)[:, 10:]
    # Without a norm of queries and keys it hangs on the token how sharp a head is.
    least = 1.0 if family == "qwen3" else 0.8
    for head, distance in enumerate((1, 2, 3)):
        nearest = weights[head].argmax(-1) == torch.arange(10, 40) - distance
        assert nearest.float().mean() >= least, head


def test_a_head_is_left_to_look_anywhere():
    torch.manual_seed(0)
    config = tiny_config(
        tie_word_embeddings=False, num_attention_heads=2, num_key_value_heads=2
    )
    model, plain = Transformer(config), Transformer(config)
    plain.load_state_dict(model.state_dict())
    start_from_bigrams(model, counted())
    for name in ("q_proj", "k_proj", "v_proj"):
        found, before = (
            getattr(m.model.layers[0].self_attn, name).weight for m in (model, plain)
        )
        assert torch.equal(found[16:], before[16:])
        assert not torch.equal(found[:16], before[:16])


def test_a_start_from_counts_loads_no_compiler():
    program = """
import sys
import numpy as np, torch
from triptych.bigrams import BigramCounts
from triptych.train.bigram_start import fit_bigrams
ids = np.arange(20)
counts = BigramCounts(vocab_size=20, previous=ids, following=ids[::-1].copy(), counts=ids + 1)
fit_bigrams(counts, 8, torch.Generator())
print("torch._dynamo" in sys.modules)
"""
    command = [sys.executable, "-c", program]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said == "False\n"


@pytest.mark.parametrize(
    ("processes", "grid", "message"),
    [
        ("2", {"shard": 3}, r"the 2 processes .* = 3; the nearest for 2"),
        ("3", {}, r"divides the 4 rows of a step, found 3; the nearest are 2, 4"),
    ],
)
def test_processes_that_cannot_train_are_refused_before_anything_is_counted(
    processes, grid, message, settings, monkeypatch, caplog
):
    monkeypatch.setenv("WORLD_SIZE", processes)
    monkeypatch.setenv("RANK", "0")
    found = dataclasses.replace(settings, parallel=ParallelConfig(**grid))
    caplog.set_level("INFO")
    with pytest.raises(ConfigError, match=message):
        pretrain(found)
    assert "counting" not in caplog.text
