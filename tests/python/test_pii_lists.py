"""Long lists of values under one word: each value that is replaced brings the next nearer."""

from __future__ import annotations

import time

import pyarrow as pa
import pytest

from triptych.prep import clean


def _card(number: int) -> str:
    """Thirteen digits that a card's check passes; such a run is one only where a word says so."""
    head = f"4{number * 7919 % 10**11:011}"
    doubled = [int(digit) * (1 + index % 2) for index, digit in enumerate(head)]
    return head + str(-sum(value // 10 + value % 10 for value in doubled) % 10)


LISTS = {
    "ssn": lambda number: f"{100 + number % 500} {10 + number % 90} {1000 + number}",
    "card": _card,
    "ip": lambda number: f"{11 + number % 37}.{12 + number % 31}.13.{11 + number % 29}",
    "phone": lambda number: f"415{2000000 + number * 31}",
}


def _cleaned(text: str, action: str) -> tuple[str, int]:
    table = pa.table({"text": [text]})
    batches = clean(table, {"profile": "clean", "pii": {"default": action}})
    [left] = batches.read_all()["text"].to_pylist()
    return left, sum(batches.ledger["pii"].values())


@pytest.mark.parametrize("action", ["placeholder", "redact", "mask"])
@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("count", [300, 5_000])
def test_a_second_time_changes_nothing_however_long_the_list(kind, action, count):
    text = f"{kind}: {', '.join(map(LISTS[kind], range(count)))}. Müller ends it."
    once, found = _cleaned(text, action)
    assert found > 0
    assert _cleaned(once, action) == (once, 0)


def test_a_word_and_placeholders_speak_for_a_list_to_its_end():
    values = [LISTS["ssn"](number) for number in range(5_000)]
    once, found = _cleaned("ssn: " + ", ".join(values), "placeholder")
    assert (once, found) == ("ssn: " + ", ".join(["[SSN]"] * 5_000), 5_000)


def test_the_time_of_a_list_grows_as_its_length_does():
    def seconds(count: int) -> float:
        text = "ssn " + " ".join(map(LISTS["ssn"], range(count)))
        start = time.process_time()
        _cleaned(text, "placeholder")
        return time.process_time() - start

    small, large = (min(seconds(count) for _ in range(3)) for count in (5_000, 40_000))
    assert large < 8 * 2.5 * small
