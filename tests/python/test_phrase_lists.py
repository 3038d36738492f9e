"""Lists of phrases from Python, and that a run belongs to the list it was made with."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from triptych import prep
from triptych.errors import ConfigError

TABLE = Path(__file__).parents[1] / "cases" / "phrases.jsonl"
CASES = [json.loads(line) for line in TABLE.read_text(encoding="utf-8").splitlines()]


def entry(folder: Path, phrases: list[str], **options) -> dict:
    path = folder / "list.txt"
    path.write_text("\n".join(phrases), encoding="utf-8")
    return {"name": "bad_words", "file": str(path), **options}


def config(**lists) -> dict:
    """Rules that keep every text as it is, besides these."""
    return {"profile": "clean", "pii": {"email": "count"}, **lists}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_phrases_are_found_as_their_table_says(tmp_path, case):
    listed = entry(tmp_path, case["phrases"], whole_words=case["whole_words"])
    stream = prep.clean(
        pa.table({"text": [case["text"], "nothing of it"]}),
        prep.CleanConfig(**config(phrase_list=(listed,))),
    )
    kept = [case["text"]] if case["count"] == 0 else []
    assert stream.read_all()["text"].to_pylist() == [*kept, "nothing of it"]
    rejected = {"bad_words": 1} if case["count"] else {}
    assert stream.ledger["rejected"] == rejected


def test_a_run_goes_on_with_the_list_it_began_with_and_no_other(tmp_path):
    texts = ["one bad word", "one good word"]
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    listed = entry(tmp_path, ["bad"])
    settings = prep.PrepConfig(
        input=(str(source),),
        output=str(tmp_path / "out"),
        **config(phrase_list=(listed,)),
    )
    first = prep.run(settings)["ledger"]["total"]
    assert (first["kept"], first["rejected"]) == (1, {"bad_words": 1})
    assert prep.run(settings)["already_done"]
    entry(tmp_path, ["good"])
    with pytest.raises(ConfigError, match="phrase_list"):
        prep.run(settings)


def test_a_list_that_is_not_there_is_named(tmp_path):
    listed = {"name": "bad_words", "file": str(tmp_path / "nowhere.txt")}
    asked = prep.CleanConfig(**config(phrase_list=(listed,)))
    with pytest.raises(ConfigError, match=r"nowhere\.txt"):
        prep.clean(pa.table({"text": ["a"]}), asked)
