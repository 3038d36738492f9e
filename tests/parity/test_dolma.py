"""The `dolma` profile decides and edits as Dolma's taggers and mixer do."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("dolma", reason="Dolma, the reference, is not installed")
sys.path.insert(0, str(Path(__file__).parent))

from dolma.dolma import mixer_entrypoint

from dolma_rules import GOPHER, PII, RULES, InputSpec, judge
from triptych_prep import BINARY, case_texts, mixed_texts, run

EXCLUDED = {
    attribute: f"$.attributes[?(@.g__{attribute} && @.g__{attribute}[0]"
    f" && @.g__{attribute}[0][2] {{}})]"
    for attribute, *_ in RULES
}


def texts():
    found = [*case_texts("dolma", "gopher"), *mixed_texts(400)]
    return [text for text in found if len(text) < 100_000]


@pytest.mark.skipif(BINARY is None, reason="triptych-prep is not installed")
def test_decision_reason_and_text_are_those_of_dolma(tmp_path):
    found = run(tmp_path, "dolma", texts())
    for text, (kept, reason) in zip(texts(), found, strict=True):
        assert (kept, reason) == judge("dolma", text), text[:200]


def excluded():
    """The mixer's patterns, with the three that name no attribute of the tagger."""
    signs = {"lt": "<", "gt": ">"}
    for attribute, drops, limit, _ in RULES:
        yield EXCLUDED[attribute].format(f"{signs[drops.__name__]} {limit}")
    for n, limit in ((2, 0.2), (3, 0.18), (4, 0.16)):
        name = f"g__fraction_of_characters_in_most_common_{n}gram"
        yield f"$.attributes[?(@.{name} && @.{name}[0] && @.{name}[0][2] > {limit})]"
    yield "$.attributes[?(@.p__doc_count && @.p__doc_count[0] && @.p__doc_count[0][2] > 5)]"


def write_lines(path, rows):
    path.parent.mkdir(parents=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def mix(folder, rows):
    """What the mixer writes of tagged documents: text by id."""
    for part in ("documents", "attributes/tags"):
        keys = ("id", "text", "source") if part == "documents" else ("id", "attributes")
        write_lines(
            folder / part / "0.json.gz", [{k: row[k] for k in keys} for row in rows]
        )
    stream = {
        "name": "all",
        "documents": [str(folder / "documents/0.json.gz")],
        "attributes": ["tags"],
        "output": {
            "path": str(folder / "mixed"),
            "max_size_in_bytes": 1 << 30,
            "min_text_length": 1,
        },
        "filter": {"include": [], "exclude": list(excluded())},
        "span_replacement": [
            {
                "span": f"$.attributes.p__{kind}",
                "min_score": 0.5,
                "replacement": f" |||{kind}||| ",
            }
            for kind in ("EMAIL_ADDRESS", "PHONE_NUMBER", "IP_ADDRESS")
        ],
    }
    work = {key: str(folder / "work" / key) for key in ("input", "output")}
    mixer_entrypoint(
        json.dumps({"streams": [stream], "work_dir": work, "processes": 1})
    )
    lines = [
        json.loads(line)
        for path in (folder / "mixed").rglob("*.json*")
        for line in gzip.open(path, "rt", encoding="utf-8")
    ]
    return {int(line["id"]): line["text"] for line in lines}


def test_the_rules_by_reason_are_those_of_the_mixer(tmp_path):
    rows = []
    for index, text in enumerate(texts()):
        spec = InputSpec(id=str(index), text=text)
        tags = {f"g__{name}": spans for name, spans in GOPHER.tag(spec).items()}
        tags |= {f"p__{name}": spans for name, spans in PII.tag(spec).items()}
        rows.append({"id": str(index), "text": text, "source": "", "attributes": tags})
    mixed = mix(tmp_path, rows)
    expected = {index: judge("dolma", text)[0] for index, text in enumerate(texts())}
    assert mixed == {
        index: text for index, text in expected.items() if text is not None
    }
