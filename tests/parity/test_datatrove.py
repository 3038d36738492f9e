"""The quality profiles decide as datatrove does: the same reason, and of C4 the same text."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("datatrove")
pytest.importorskip("spacy")
sys.path.insert(0, str(Path(__file__).parent))

from datatrove_filters import FILTERS, judge
from triptych_prep import BINARY, case_texts, mixed_texts, run

TABLES = ("gopher", "gopher_repetition", "c4", "fineweb")


@pytest.mark.skipif(BINARY is None, reason="triptych-prep is not installed")
@pytest.mark.parametrize("profile", FILTERS)
def test_decision_reason_and_text_are_those_of_datatrove(profile, tmp_path):
    texts = [
        text
        for text in [*case_texts(*TABLES), *mixed_texts(400)]
        if len(text) < 100_000
    ]
    found = run(tmp_path, profile, texts)
    for text, (kept, reason) in zip(texts, found, strict=True):
        assert (kept, reason) == judge(profile, text), text[:200]
