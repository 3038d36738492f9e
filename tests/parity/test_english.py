"""The table of English words is what spaCy gives; Rust runs the same table."""

import json
import sys
from pathlib import Path

import pytest

spacy = pytest.importorskip("spacy", reason="spaCy, the reference, is not installed")
sys.path.insert(0, str(Path(__file__).parent))

from make_english_cases import CASES, SPACY_VERSION, make_cases  # noqa: E402

pytestmark = pytest.mark.skipif(
    spacy.__version__ != SPACY_VERSION,
    reason=f"the table was made with spaCy {SPACY_VERSION}, not {spacy.__version__}",
)
ROOM = CASES.parents[2] / "rust" / "core" / "src" / "text" / "english"


def test_every_case_is_what_spacy_makes_of_the_text() -> None:
    with CASES.open(encoding="utf-8") as lines:
        assert [json.loads(line) for line in lines] == make_cases()


def test_the_special_cases_are_those_of_spacy_with_the_same_splits() -> None:
    rules = spacy.blank("en").tokenizer.rules
    expected = {
        " ".join(token[spacy.symbols.ORTH] for token in tokens)
        for text, tokens in rules.items()
        if not text.isspace()
    }
    lines = (ROOM / "special_cases.txt").read_text(encoding="utf-8").splitlines()
    assert set(lines[1:]) == expected
