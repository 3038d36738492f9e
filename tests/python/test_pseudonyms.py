"""A value has its pseudonym and no other, whatever words stand around it."""

import random

import pyarrow as pa
import pytest

from triptych import prep

KEY = "a key of more than sixteen bytes"
BEFORE = ["call ", "Phone: ", "Tel. ", "fax ", "dial ", "my number is ", "reach "]
BEHIND = [".", " mobile", " fax", ", office", " (home)"]


def _cleaned(texts, monkeypatch):
    monkeypatch.setenv("TRIPTYCH_TEST_KEY", KEY)
    policy = {"default": "pseudonym", "key_env": "TRIPTYCH_TEST_KEY"}
    stream = prep.clean(pa.table({"text": texts}), {"profile": "clean", "pii": policy})
    return stream.read_all()["text"].to_pylist()


def _phone(draw):
    return f"+1 415 555 {draw.randrange(10_000):04}"


def _card(draw):
    body = "4" + "".join(str(draw.randrange(10)) for _ in range(14))
    doubled = [
        sum(divmod(2 * int(digit), 10)) if place % 2 == 0 else int(digit)
        for place, digit in enumerate(body)
    ]
    number = body + str(-sum(doubled) % 10)
    return "-".join(number[at : at + 4] for at in range(0, 16, 4))


def _ipv4(draw):
    return ".".join(
        str(draw.randrange(low, high)) for low, high in ((203, 223), *[(100, 255)] * 3)
    )


@pytest.mark.parametrize("kind", [_phone, _card, _ipv4])
def test_words_around_a_value_do_not_change_its_pseudonym(kind, monkeypatch):
    draw = random.Random(5)
    values = [kind(draw) for _ in range(60)]
    alone = _cleaned(values, monkeypatch)
    assert not set(values) & set(alone)
    around = [
        (before, value, behind)
        for value in values
        for before in BEFORE
        for behind in BEHIND
    ]
    found = _cleaned(["".join(parts) for parts in around], monkeypatch)
    names = dict(zip(values, alone, strict=True))
    for (before, value, behind), text in zip(around, found, strict=True):
        assert text == f"{before}{names[value]}{behind}"
