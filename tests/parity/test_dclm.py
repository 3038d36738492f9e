"""The `dclm` profile decides and edits as DCLM's own functions do."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

if "DCLM" not in os.environ:
    pytest.skip("DCLM names no checkout of mlfoundations/dclm", allow_module_level=True)
for module in ("uniseg", "fasttext", "nltk", "retrie"):
    pytest.importorskip(module)
sys.path.insert(0, str(Path(__file__).parent))

from dclm_functions import judge  # noqa: E402 - the peers are looked for first
from triptych_prep import BINARY, case_texts, mixed_texts, run  # noqa: E402


@pytest.mark.skipif(BINARY is None, reason="triptych-prep is not installed")
def test_decision_reason_and_text_are_those_of_dclm(tmp_path):
    texts = [*case_texts("dclm"), *mixed_texts(200)]
    texts = [text for text in texts if len(text) < 20_000]
    found = run(tmp_path, "dclm", texts)
    for text, (kept, reason) in zip(texts, found, strict=True):
        assert (kept, reason) == judge("dclm", text), text[:200]
