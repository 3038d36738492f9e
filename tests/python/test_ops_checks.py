"""Arguments that cannot be are refused by name, whoever would compute."""

from __future__ import annotations

import math

import pytest
import torch

from triptych import _core, ops

QUERY, KEY = torch.ones(6, 4, 16), torch.ones(6, 2, 16)
HIDDEN, WEIGHT = torch.ones(5, 8), torch.ones(11, 8)
TARGETS = torch.tensor([0, 1, -100, 10, 4])


def row(*places):
    return torch.tensor(places, dtype=torch.int32)


IMPOSSIBLE_ATTENTION = [
    ({"cu_seqlens": row(0, 3)}, "cu_seqlens: expected to run from 0 to 6"),
    ({"cu_seqlens": row(0, 4, 2, 6)}, "that never fall, found 2 behind 4"),
    ({"cu_seqlens": row(0, -2, 6)}, "that never fall, found -2 behind 0"),
    ({"cu_seqlens": row()}, "from 0 to 6 tokens, found nothing to nothing"),
    ({"cu_seqlens": torch.tensor([0.0, 6.0])}, "int32 or int64, found .2,. of torch.f"),
    ({"window": 0}, "window: expected at least 1 key, found 0"),
    ({"softcap": 0.0}, "softcap: expected a number above 0, found 0.0"),
    ({"scale": math.nan}, "scale: expected a number, found nan"),
    ({"dropout": 1.0}, "dropout: expected in .0, 1., found 1.0"),
    ({"pairs": row(4, 2).view(1, 2)}, "pairs: expected two tokens in order"),
    ({"pairs": row(3, 9).view(1, 2)}, "pairs: expected two tokens in order, within"),
]


NAMES = ["cpu", *(["attention=rust"] if _core.cpu_has_vectors() else [])]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("rules", "message"), IMPOSSIBLE_ATTENTION)
def test_attention_that_cannot_be_is_refused(monkeypatch, name, rules, message):
    monkeypatch.setenv("TRIPTYCH_OPS", name)
    with pytest.raises(ValueError, match=message):
        ops.attention(QUERY, KEY, KEY, **rules)


def test_no_key_heads_are_refused():
    with pytest.raises(ValueError, match=r"kv_heads to divide heads \(4\), found 0"):
        ops.attention(QUERY, KEY[:, :0], KEY[:, :0])


def test_heads_of_no_elements_are_refused():
    query, cache = QUERY[..., :0], torch.ones(6, 5, 2, 0)
    with pytest.raises(ValueError, match="head_dim of at least 1, found 0"):
        ops.attention(query, KEY[..., :0], KEY[..., :0])
    with pytest.raises(ValueError, match="head_dim of at least 1, found 0"):
        ops.decode_attention(query, cache, cache, torch.ones(6, dtype=torch.int32))


@pytest.mark.parametrize(
    ("costs", "message"),
    [
        ({"softcap": -1.0}, "softcap: expected a number above 0, found -1.0"),
        ({"z_loss": math.nan}, "z_loss: expected at least 0, found nan"),
        ({"label_smoothing": 1.5}, r"label_smoothing: expected in \[0, 1\], found 1.5"),
        ({"weights": torch.ones(5, 1)}, r"weights: expected \(5,\).*found \(5, 1\)"),
    ],
)
def test_a_loss_that_cannot_be_is_refused(costs, message):
    with pytest.raises(ValueError, match=message):
        ops.linear_cross_entropy(HIDDEN, WEIGHT, TARGETS, **costs)


@pytest.mark.parametrize("operator", [ops.linear_logprobs, ops.linear_statistics])
def test_a_temperature_or_cap_that_cannot_be_is_refused(operator):
    with pytest.raises(ValueError, match="temperature: expected a number above 0"):
        operator(HIDDEN, WEIGHT, TARGETS, temperature=math.nan)
    with pytest.raises(ValueError, match="softcap: expected a number above 0"):
        operator(HIDDEN, WEIGHT, TARGETS, softcap=0.0)


def test_targets_are_whole_numbers_of_either_size():
    with pytest.raises(
        ValueError, match=r"targets: expected .tokens,. of int32 or int"
    ):
        ops.linear_cross_entropy(HIDDEN, WEIGHT, TARGETS.float())
    for reduction in ("mean", "none"):
        short, long = (
            ops.linear_cross_entropy(HIDDEN, WEIGHT, ids, reduction=reduction)
            for ids in (TARGETS.int(), TARGETS)
        )
        assert short.equal(long)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_norm_that_cannot_be_is_refused(dtype):
    x = torch.ones(3, 16, dtype=dtype)
    with pytest.raises(ValueError, match=r'casting: expected "none".*found "lama"'):
        ops.rms_norm(x, torch.ones(16), 1e-6, casting="lama")
    with pytest.raises(ValueError, match=r"weight: expected \(16,\), found \(8,\)"):
        ops.add_rms_norm(x, x, torch.ones(8), 1e-6)


@pytest.mark.parametrize("lengths", [[6], [-1]])
def test_a_sequence_longer_than_its_pages_is_refused(lengths):
    pages = torch.ones(1, 5, 2, 16)
    with pytest.raises(ValueError, match="lengths: expected from 0 to 5"):
        ops.decode_attention(QUERY[:1], pages, pages, torch.tensor(lengths))
