"""Rules of one's own, functions over Arrow batches: in `clean`, in `run`, and known again."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import subprocess
import sys
import textwrap

import pyarrow as pa
import pytest

from triptych import prep
from triptych.errors import ConfigError, InputError, RuleError


def test_a_rule_sees_what_passed_and_its_reasons_stand_in_the_ledger():
    import pyarrow.compute as pc

    seen = []

    def short(batch: pa.RecordBatch) -> pa.Array:
        seen.extend(batch["text"].to_pylist())
        return pc.greater(batch["num_words"], 2)

    class Kind:
        name = "kind"

        def __call__(self, batch: pa.RecordBatch) -> pa.Array:
            assert batch.schema.names == ["text", "source", "num_words"]
            return pa.array(
                [s if s != "good" else None for s in batch["source"].to_pylist()]
            )

    texts = [
        "write to ann@example.org now",
        "two words",
        None,
        "one two three",
        "four five six",
    ]
    sources = ["good", "good", "good", "bad", "good"]
    stream = prep.clean(
        pa.table({"text": texts, "source": sources}),
        {"profile": "clean"},
        rules=[short, Kind()],
        features=["num_words"],
    )
    cleaned = stream.read_all()
    assert cleaned["text"].to_pylist() == ["write to [EMAIL] now", "four five six"]
    assert cleaned.schema.names == ["text", "source"]
    assert seen == ["write to [EMAIL] now", "two words", *texts[3:]]
    assert stream.ledger["rejected"] == {"python.short": 1, "python.kind.bad": 1}
    assert stream.ledger["read"] == 5


def test_what_a_rule_rejects_is_no_original_of_a_duplicate():
    text = " ".join(f"w{i}" for i in range(40))
    rows = pa.table({"text": [text, text, text], "n": [0, 1, 2]})
    stream = prep.clean(
        rows,
        {"profile": "dedup"},
        rules=[lambda b: [n > 0 for n in b["n"].to_pylist()]],
    )
    assert stream.read_all()["n"].to_pylist() == [1]
    assert stream.ledger["rejected"] == {"python.<lambda>": 1}
    assert stream.ledger["duplicates"] == 1


def test_a_rule_is_asked_before_deduplication_and_short_texts_still_add_up(tmp_path):
    texts = ["too short", " ".join(f"w{i}" for i in range(40)), "x " * 40, "x " * 40]
    seen = []

    def no_x(batch):
        seen.extend(batch["text"].to_pylist())
        return [text[0] != "x" for text in batch["text"].to_pylist()]

    stream = prep.clean(pa.table({"text": texts}), {"profile": "dedup"}, rules=[no_x])
    assert stream.read_all()["text"].to_pylist() == [texts[1]]
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    config = prep.PrepConfig(
        input=(str(source),), output=str(tmp_path / "out"), profile="dedup"
    )
    total = prep.run(config, rules=[no_x])["ledger"]["total"]
    assert seen == 2 * texts[1:]
    for ledger in (stream.ledger, total):
        assert ledger["rejected"] == {"fewer_words_than_ngram": 1, "python.no_x": 2}
        documents = [
            (step["entered"]["documents"], step["left"]["documents"])
            for step in ledger["funnel"]
        ]
        assert documents == [(4, 2), (2, 1)]


def test_a_rule_is_not_asked_where_no_row_is_left():
    import numpy as np

    def long(batch):
        assert batch.num_rows
        return np.array([len(text) > 3 for text in batch["text"].to_pylist()])

    texts = pa.table({"text": pa.chunked_array([["a", "b"], ["long one"], [None]])})
    stream = prep.clean(texts, {"profile": "clean"}, rules=[long, long])
    assert stream.read_all()["text"].to_pylist() == ["long one"]
    assert stream.ledger["rejected"] == {"python.long": 2}


def test_a_rule_can_compute_with_every_column_that_holds_views_of_strings():
    import pyarrow.compute as pc

    rows = pa.table(
        {
            "text": pa.array(["one", "two", None, "three"]).cast(pa.string_view()),
            "licence": pa.array(["cc0", "arr", "cc0", "cc0"]).cast(pa.string_view()),
            "key": pa.array([b"1", b"2", b"3", None]).cast(pa.binary_view()),
            "tags": pa.array([["a"], [], None, ["b"]], pa.list_(pa.string_view())),
            "where": pa.array(
                [{"site": "x"}] * 4, pa.struct([("site", pa.string_view())])
            ),
        }
    )

    def licence(batch):
        is_free = pc.equal(batch["licence"], "cc0")
        return pc.if_else(is_free, pa.scalar(None, pa.string()), batch["licence"])

    def as_views(batch):
        reasons = [
            None if text == "one" else "other" for text in batch["text"].to_pylist()
        ]
        return pa.array(reasons, pa.string_view())

    stream = prep.clean(rows, {"profile": "clean"}, rules=[licence, as_views])
    assert stream.read_all().to_pylist() == rows.slice(0, 1).to_pylist()
    assert stream.schema == rows.schema
    assert stream.ledger["rejected"] == {
        "python.licence.arr": 1,
        "python.as_views.other": 1,
    }


def broken(batch):
    return {}["missing"]


RULE_FAULTS = [
    (broken, r"rule `broken`: KeyError: 'missing'"),
    (lambda batch: pa.array([True]), r"expected as many values as rows, 3, found 1"),
    (lambda batch: pa.array([1, 2, 3]), r"expected booleans .*found int64"),
    (lambda batch: pa.array([True, None, False]), r"found booleans with nulls"),
    (
        lambda batch: None,
        r"rule `<lambda>`: expected an array of booleans .*found NoneType \(TypeError\)",
    ),
    (
        lambda batch: [True, "ann@example.org", None],
        r"expected an array of booleans [^@]*found list \(ArrowInvalid\)$",
    ),
]


@pytest.mark.parametrize(("rule", "message"), RULE_FAULTS)
def test_a_rule_that_fails_is_named_and_its_exception_is_the_cause(rule, message):
    stream = prep.clean(
        pa.table({"text": ["a", "b", "c"]}), {"profile": "clean"}, rules=[rule]
    )
    with pytest.raises(RuleError, match=message) as raised:
        stream.read_all()
    if rule is broken:
        assert isinstance(raised.value.__cause__, KeyError)
        assert (
            raised.value.__cause__.__traceback__.tb_next.tb_frame.f_code.co_name
            == "broken"
        )
    with pytest.raises(InputError, match="failed before"):
        next(stream)


def test_a_feature_that_is_not_there_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean `num_words`"):
        prep.clean(pa.table({"text": ["a"]}), features=["num_word"])


@pytest.mark.parametrize("threads", [1, 4])
def test_rules_in_a_run_decide_as_in_clean_and_are_part_of_its_settings(
    tmp_path, threads
):
    records = [
        {
            "id": f"d{i}",
            "text": f"text {i} at a@b.org é\ud83d\ude00",
            "source": "ab"[i % 2],
        }
        for i in range(3000)
    ]
    records += [{"text": "x", "id": None, "n": 1}, {"text": "y", "source": 7}]
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(record) + "\n" for record in records))
    config = prep.PrepConfig(
        input=(str(source),),
        output=str(tmp_path / "out"),
        profile="clean",
        threads=threads,
    )

    def even(batch: pa.RecordBatch) -> pa.Array:
        assert batch.schema.names == ["id", "source", "text"]
        assert "b.org" not in str(batch["text"].to_pylist())
        return pa.array([name[-1] not in "13579" for name in batch["id"].to_pylist()])

    def source_a(batch: pa.RecordBatch) -> pa.Array:
        return pa.array(
            [None if s in ("a", "in", "7") else s for s in batch["source"].to_pylist()]
        )

    total = prep.run(config, rules=[even, source_a])["ledger"]["total"]
    assert total["rejected"] == {"python.even": 1501}
    again = prep.run(config, rules=[even, source_a])
    assert again["already_done"]
    with pytest.raises(ConfigError, match="python_rule"):
        prep.run(config, rules=[source_a, even])
    elsewhere = dataclasses.replace(config, output=str(tmp_path / "other"))
    total = prep.run(elsewhere, rules=[source_a])["ledger"]["total"]
    assert total["rejected"] == {"python.source_a.b": 1500}
    failing = dataclasses.replace(config, output=str(tmp_path / "failing"))
    with pytest.raises(RuleError, match="rule `broken`: KeyError") as raised:
        prep.run(failing, rules=[broken])
    assert isinstance(raised.value.__cause__, KeyError)


def test_an_error_reaches_another_library_with_its_message():
    stream = prep.clean(pa.table({"text": ["a"]}), {"profile": "clean"}, rules=[broken])
    with pytest.raises(
        pa.ArrowInvalid, match=r"RuleError: rule `broken`: KeyError: 'missing'"
    ):
        pa.table(stream)


IDENTITY = """
    from triptych import prep

    def rule(batch):
        return [text in {"a", "b", "c", "d"} for text in map(str, batch["text"])]

    print(prep._identity(rule))
"""


def test_a_rule_is_known_again_in_another_process():
    command = [sys.executable, "-c", textwrap.dedent(IDENTITY)]
    said = {
        subprocess.check_output(
            command, env=os.environ | {"PYTHONHASHSEED": seed}, text=True
        )
        for seed in ("1", "2", "3")
    }
    assert len(said) == 1
    assert said.pop().startswith("rule@:")
    assert prep._identity(lambda batch: 1) != prep._identity(lambda batch: 2)


LEAST = 3


def at_least(least, batch):
    return [len(text) >= least for text in batch["text"].to_pylist()]


class AtLeast:
    def __init__(self, least):
        self.least = least

    def __call__(self, batch):
        return at_least(self.least, batch)


MAKERS = {
    "closure": lambda least: lambda batch: at_least(least, batch),
    "default": lambda least: lambda batch, least=least: at_least(least, batch),
    "partial": lambda least: functools.partial(at_least, least),
    "attribute": AtLeast,
    "method": lambda least: AtLeast(least).__call__,
    "set": lambda least: (lambda words: lambda batch: words)({"a", "b", least}),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_rule_with_other_values_is_another_rule(make):
    assert prep._identity(make(3)) == prep._identity(make(3))
    assert prep._identity(make(3)) != prep._identity(make(4))


def test_a_rule_is_another_when_a_global_or_a_function_that_it_uses_is(monkeypatch):
    def rule(batch):
        return [n >= LEAST for n in map(len, at_least(1, batch))]

    known = {prep._identity(rule)}
    monkeypatch.setitem(globals(), "LEAST", 4)
    known.add(prep._identity(rule))
    monkeypatch.setitem(globals(), "at_least", lambda least, batch: [])
    known.add(prep._identity(rule))
    assert len(known) == 3


def test_a_rule_that_notes_what_it_saw_stays_the_same():
    seen = []

    def rule(batch):
        seen.append(batch.num_rows)
        return rule and seen

    before = prep._identity(rule)
    rule(pa.record_batch({"text": ["a"]}))
    assert prep._identity(rule) == before
