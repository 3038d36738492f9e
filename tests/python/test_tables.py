"""The tables of profiles and kinds through Python's own door; Rust runs them as well."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from triptych import prep

CASES = Path(__file__).parents[1] / "cases"
PROFILES = {
    "gopher.jsonl": "gopher",
    "gopher_repetition.jsonl": "gopher-repetition",
    "c4.jsonl": "c4",
    "fineweb.jsonl": "fineweb",
    "datatrove_pii.jsonl": "datatrove-pii",
    "dolma.jsonl": "dolma",
    "dclm.jsonl": "dclm",
}
PLACEHOLDERS = {"ipv4": "[IP]", "ipv6": "[IP]"}


def table(name: str) -> list[dict]:
    lines = (CASES / name).read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line]


def cleaned(text: str, settings: dict) -> tuple[list[str], dict[str, int]]:
    """What is kept of one text, and the reasons of the ledger."""
    stream = prep.clean(pa.table({"text": [text]}), {"threads": 1, **settings})
    return stream.read_all()["text"].to_pylist(), stream.ledger["rejected"]


@pytest.mark.parametrize(("name", "profile"), PROFILES.items(), ids=PROFILES.values())
def test_a_profile_decides_and_edits_as_its_table_says(name, profile):
    for case in table(name):
        text = "".join(piece * count for piece, count in case["parts"])
        reason = case.get("reason")
        expected = (
            ([case.get("expected", text)], {}) if reason is None else ([], {reason: 1})
        )
        assert cleaned(text, {"profile": profile}) == expected, case["name"]


def replaced(text: str, spans: list[tuple[int, int, str]]) -> str:
    """The text with a placeholder in the place of each span, counted in bytes."""
    left = text.encode()
    for start, stop, kind in reversed(spans):
        tag = PLACEHOLDERS.get(kind, f"[{kind.upper()}]").encode()
        left = left[:start] + tag + left[stop:]
    return left.decode()


def test_a_policy_replaces_what_the_table_of_kinds_says():
    settings = {"profile": "clean", "pii": {"default": "placeholder"}}
    for case in table("pii_kinds.jsonl"):
        expected = replaced(case["text"], case["spans"])
        assert cleaned(case["text"], settings) == ([expected], {}), case["name"]
