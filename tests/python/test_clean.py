"""`prep.clean`: the same decisions as `prep.run`, over Arrow data of any library."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych import prep
from triptych.errors import ConfigError, InputError

CASES = Path(__file__).parents[1] / "cases"
PROFILES = "seed gopher gopher-repetition c4 fineweb native clean dedup".split()
CHAIN = "gopher-repetition,gopher,clean,dedup"


def spell(case: dict) -> str:
    parts = case.get("parts") or [[case["text"], 1]]
    return "".join(text * count for text, count in parts)


def documents() -> list[dict]:
    """Texts on which every profile decides now so, now so, with repeats and bad rows."""
    names = ("c4", "fineweb", "gopher", "gopher_repetition", "pii_labelled", "ngram")
    texts: list[str | None] = []
    for name in names:
        lines = (CASES / f"{name}.jsonl").read_bytes().splitlines()
        cases = [json.loads(line) for line in lines[:150]]
        texts += [spell(case) for case in cases if "parts" in case or "text" in case]
    for page in (CASES.parents[1] / "docs").glob("*.md"):
        prose = page.read_text(encoding="utf-8")
        texts += [prose[at : at + 4000] for at in range(0, len(prose), 4000)]
    for i in range(60):
        words = " ".join(f"house{i * 7 + j} on the road of mile{j}." for j in range(40))
        texts.append(f"{words}\nThen write to a{i}@b.org and that is with the end.")
    texts = [*texts, None, "", *texts[::3]]
    return [{"id": f"d{i}", "text": text, "n": i} for i, text in enumerate(texts)]


def table(records: list[dict], rows: int | None = None) -> pa.Table:
    whole = pa.Table.from_pylist(records)
    return pa.Table.from_batches(whole.to_batches(max_chunksize=rows))


def configuration(name: str) -> dict:
    if name != "everything":
        return {"profile": name, "min_length": 20}
    return {
        "profile": ("clean", "c4", "dedup"),
        "pii": {"email": "drop", "phone": "mask"},
        "language": {"keep": ["en"], "threshold": 0.3},
        "rule": ({"feature": "num_words", "max": 400.0, "name": "long"},),
        "ngram": 5,
    }


def run(tmp_path: Path, records: list[dict], asked: dict) -> tuple[list[dict], dict]:
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(record) + "\n" for record in records))
    output = str(tmp_path / "out")
    config = prep.PrepConfig(
        input=(str(source),), output=output, format="jsonl", max_bad=1.0, **asked
    )
    total = prep.run(config)["ledger"]["total"]
    lines = "".join(path.read_text() for path in sorted(tmp_path.glob("out/0*.jsonl")))
    return [json.loads(line) for line in lines.split("\n") if line], total


@pytest.mark.parametrize("name", [*PROFILES, CHAIN, "everything"])
def test_clean_keeps_what_run_keeps_at_any_number_of_threads_and_rows(tmp_path, name):
    records, asked = documents(), configuration(name)
    kept, total = run(tmp_path, records, asked)
    assert 0 < len(kept) < len(records)
    for threads, rows in ((1, None), (4, None), (1, 7), (4, 100)):
        config = prep.CleanConfig(threads=threads, **asked)
        stream = prep.clean(table(records, rows), config)
        cleaned = stream.read_all().to_pylist()
        fields = ("id", "text", "n")
        assert [[row[key] for key in fields] for row in cleaned] == [
            [row[key] for key in fields] for row in kept
        ]
        ledger = stream.ledger | {"bytes_read": 0}
        assert ledger == {"pii": {}, **total, "bytes_read": 0}


KINDS = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.large_binary(),
    pa.dictionary(pa.int8(), pa.string()),
    pa.dictionary(pa.uint32(), pa.large_string()),
]


def as_text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def to_kind(texts: list[str | None], kind: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(kind):
        indices = pa.array(range(len(texts)), kind.index_type)
        return pa.DictionaryArray.from_arrays(indices, pa.array(texts, kind.value_type))
    return pa.array(texts, kind)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_type_of_text_keeps_its_type_and_other_columns_follow(kind):
    texts = ["write to ann@example.org", None, "nobody", "", "at bob@example.org"]
    batch = pa.RecordBatch.from_arrays(
        [
            pa.array([[{"a": i}] for i in range(5)]),
            to_kind(texts, kind),
            pa.array([1, None, 3, 4, 5]),
        ],
        schema=pa.schema(
            [
                ("nested", pa.list_(pa.struct([("a", pa.int64())]))),
                pa.field("body", kind, metadata={"kept": "yes"}),
                ("n", pa.int64()),
            ],
            metadata={"of": "the schema"},
        ),
    )
    stream = prep.clean(batch, {"profile": "clean", "text_field": "body"})
    assert stream.schema.equals(batch.schema, check_metadata=True)
    (cleaned,) = stream
    assert cleaned.schema.equals(batch.schema, check_metadata=True)
    strings = [as_text(value) for value in cleaned["body"].to_pylist()]
    assert strings == ["write to [EMAIL]", "nobody", "", "at [EMAIL]"]
    assert cleaned["nested"].to_pylist() == [[{"a": i}] for i in (0, 2, 3, 4)]
    assert cleaned["n"].to_pylist() == [1, 3, 4, 5]
    assert stream.ledger["quarantined"] == 1
    assert stream.ledger["bytes_read"] == sum(len(t) for t in texts if t)


OTHERS = {
    "list view": pa.array([[1], None, [2, 3]] * 2, pa.list_view(pa.int8())),
    "map": pa.array([[("a", 1)], None, []] * 2, pa.map_(pa.string(), pa.int8())),
    "struct": pa.array([{"a": [{"b": "x"}]}, None, {"a": []}] * 2),
    "dictionary": pa.array(["a", None, "b"] * 2).dictionary_encode(),
    "decimal": pa.array([1, None, 3] * 2, pa.decimal128(9, 2)),
    "time": pa.array([1, None, 3] * 2, pa.timestamp("us", "UTC")),
    "runs": pa.RunEndEncodedArray.from_arrays([2, 6], ["a", "b"]),
    "union": pa.UnionArray.from_dense(
        pa.array([0, 1] * 3, pa.int8()),
        pa.array([0, 0, 1, 1, 2, 2], pa.int32()),
        [pa.array([1, 2, 3]), pa.array(["x", "y", "z"])],
    ),
    "null": pa.nulls(6),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("texts", [["a@b.org", None, "x", "y", None, "z"], ["t"] * 6])
def test_a_column_of_any_type_follows_its_rows(name, texts):
    given = pa.table({"text": texts, name: OTHERS[name]}).slice(1)
    cleaned = prep.clean(given, {"profile": "clean"}).read_all()
    rows = [row for row in range(1, 6) if texts[row] is not None]
    values = OTHERS[name].to_pylist()
    assert cleaned[name].to_pylist() == [values[row] for row in rows]
    assert cleaned.schema == given.schema
    cleaned.validate(full=True)


WORDS = st.lists(st.sampled_from("a b c a@b.org 555-123-4567 é\U0001f600".split()))
TEXTS = st.lists(st.none() | WORDS.map(" ".join), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    TEXTS,
    st.sampled_from(KINDS),
    st.integers(1, 5),
    st.integers(1, 3),
    st.integers(0, 3),
)
def test_neither_type_nor_batches_nor_threads_decide(
    texts, kind, rows, threads, skipped
):
    def cleaned(column: pa.Array, rows: int, threads: int) -> tuple[list, dict]:
        table = pa.table({"text": column, "n": range(len(texts))}).slice(skipped)
        batches = table.to_batches(max_chunksize=rows)
        config = {"profile": ["clean", "dedup"], "ngram": 2, "threads": threads}
        stream = prep.clean(batches, config)
        kept = [row for batch in stream for row in batch.to_pylist()]
        return [(as_text(row["text"]), row["n"]) for row in kept], stream.ledger

    plain = cleaned(pa.array(texts, pa.large_string()), 100, 1)
    assert cleaned(to_kind(texts, kind), rows, threads) == plain


def test_bytes_that_are_no_text_cost_their_row_only_whatever_the_type_claims():
    offsets = pa.py_buffer(b"".join(i.to_bytes(4, "little") for i in (0, 2, 4, 5)))
    texts = pa.Array.from_buffers(
        pa.string(), 3, [None, offsets, pa.py_buffer(b"ok\xff\xfe!")]
    )
    stream = prep.clean(pa.table({"text": texts}), {"profile": "clean"})
    assert stream.read_all()["text"].to_pylist() == ["ok", "!"]
    assert (stream.ledger["kept"], stream.ledger["quarantined"]) == (2, 1)


def test_what_no_rule_touches_is_passed_on_without_a_copy():
    text = pa.array(["one two", "three four"] * 50)
    (cleaned,) = prep.clean(pa.record_batch({"text": text}), {"profile": "clean"})
    addresses = [buffer.address for buffer in text.buffers() if buffer]
    assert [b.address for b in cleaned["text"].buffers() if b][-2:] == addresses[-2:]


def test_duplicates_are_found_across_batches_and_ledgers_add_up():
    text = " ".join(f"w{i}" for i in range(40))
    others = [" ".join(f"w{i}x{j}" for j in range(40)) for i in range(4)]
    batches = [pa.record_batch({"text": [text, other]}) for other in others]
    stream = prep.clean(batches, {"profile": "dedup", "threads": 2})
    assert sum(batch.num_rows for batch in stream) == 5
    ledger = stream.ledger
    assert (ledger["read"], ledger["kept"], ledger["duplicates"]) == (8, 5, 3)


def test_batches_are_taken_as_they_are_needed():
    taken = []

    def batches():
        for i in range(1000):
            taken.append(i)
            yield pa.record_batch({"text": ["some text"] * 10})

    stream = prep.clean(batches(), {"profile": "clean", "threads": 2})
    assert len(taken) == 1  # for the schema
    next(stream)
    assert len(taken) < 20
    assert sum(batch.num_rows for batch in stream) == 9990


def test_a_batch_of_much_text_comes_out_in_parts():
    batch = pa.record_batch({"text": ["word " * 20_000] * 700, "n": range(700)})
    parts = list(prep.clean(batch, {"profile": "clean"}))
    assert len(parts) == 3
    assert [n for part in parts for n in part["n"].to_pylist()] == list(range(700))


LIBRARIES = {
    "pyarrow.Table": lambda t: t,
    "pyarrow.RecordBatchReader": lambda t: t.to_reader(),
    "pyarrow.RecordBatch": lambda t: t.combine_chunks().to_batches()[0],
    "list of batches": lambda t: t.to_batches(max_chunksize=3),
    "list of tables": lambda t: [t.slice(0, 4), t.slice(4)],
    "generator": lambda t: (batch for batch in t.to_batches()),
    "polars": lambda t: pytest.importorskip("polars").from_arrow(t),
    "pandas": lambda t: (pytest.importorskip("pandas"), t.to_pandas())[1],
    "duckdb": lambda t: pytest.importorskip("duckdb").from_arrow(t),
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_tables_of_every_library_go_in(library):
    records = [{"text": f"at a{i}@b.org", "n": i} for i in range(10)]
    given = LIBRARIES[library](pa.Table.from_pylist(records))
    cleaned = prep.clean(given, {"profile": "clean"}).read_all()
    assert cleaned["text"].to_pylist() == ["at [EMAIL]"] * 10
    assert cleaned["n"].to_pylist() == list(range(10))


def test_columns_of_nulls_of_polars_go_in_and_come_out():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(
        {"text": ["a@b.org"], "nothing": [None], "none": [{"key": None}], "no": [[]]}
    )
    for source in (frame, [frame, frame], (frame for _ in range(2))):
        cleaned = prep.clean(source, {"profile": "clean"}).read_all()
        expected = frame.with_columns(text=polars.lit("[EMAIL]")).to_dicts()
        assert cleaned.slice(0, 1).to_pylist() == expected


def test_a_mean_that_a_text_does_not_have_breaks_no_bound():
    rows = pa.table({"text": ["", "....", "a", "word"]})
    mean = {"feature": "mean_word_length", "min": 3}
    count = {"feature": "num_no_symbol_words", "min": 1}
    for rules, kept in [([mean], ["", "....", "word"]), ([mean, count], ["word"])]:
        stream = prep.clean(rows, {"profile": "clean", "rule": rules})
        assert stream.read_all()["text"].to_pylist() == kept


def test_what_comes_out_goes_into_every_library():
    records = [{"text": text, "n": 1} for text in ("a@b.org", None, "c")]

    def cleaned():
        return prep.clean(pa.Table.from_pylist(records), {"profile": "clean"})

    expected = ["[EMAIL]", "c"]
    assert pa.table(cleaned())["text"].to_pylist() == expected
    reader = pa.RecordBatchReader.from_stream(cleaned())
    assert reader.read_all()["text"].to_pylist() == expected
    assert prep.clean(cleaned(), {"profile": "clean"}).read_all().num_rows == 2
    polars = pytest.importorskip("polars")
    assert polars.DataFrame(cleaned())["text"].to_list() == expected
    pandas = pytest.importorskip("pandas")
    frame = prep.clean(pandas.DataFrame(records), {"profile": "clean"}).read_all()
    assert frame.to_pandas()["text"].to_list() == expected
    duckdb = pytest.importorskip("duckdb")
    stream = cleaned()  # duckdb finds it by its name
    assert duckdb.sql("select text from stream").fetchall() == [(t,) for t in expected]
    assert stream.ledger["kept"] == 2


FAULTS = [
    ({"profil": "seed"}, ConfigError, r"unknown key `profil`.*did you mean `profile`"),
    ({"output": "x"}, ConfigError, r"unknown key `output`"),
    ({"profile": "sede"}, ConfigError, r"unknown profile `sede`.*did you mean `seed`"),
    ({"min_length": "many"}, ConfigError, r"key `min_length`: expected"),
    (
        {"min_length": 9, "max_length": 8},
        ConfigError,
        r"`min_length`: expected at most",
    ),
    ({"text_field": "txt"}, ConfigError, r"unknown column `txt`.*did you mean `text`"),
    ({"text_field": "n"}, ConfigError, r"column `n`: expected .*found type Int64"),
    ({"rule": [{"feature": "num_word"}]}, ConfigError, r"did you mean `num_words`"),
    (
        {"language": {"threshold": float("nan")}},
        ConfigError,
        r"key `language`: expected finite numbers",
    ),
    ({"text_field": "\udce9"}, ConfigError, r"key `text_field`: .*udce9"),
    ({"ngram": object()}, ConfigError, r"key `ngram`: expected .*found object"),
    (
        "clean",
        ConfigError,
        r"configuration: expected .* a mapping of its names, found .clean",
    ),
]


@pytest.mark.parametrize(("wrong", "kind", "message"), FAULTS)
def test_a_faulty_configuration_is_refused_before_any_work(wrong, kind, message):
    with pytest.raises(kind, match=message) as raised:
        prep.clean(pa.table({"text": ["a"], "n": [1]}), wrong)
    assert isinstance(raised.value, ValueError)
    assert raised.value.hint is None or raised.value.hint in str(raised.value)


def test_a_setting_that_is_none_is_not_set_in_a_mapping_as_in_a_configuration():
    config = prep.CleanConfig(profile="clean")
    stream = prep.clean(pa.table({"text": ["a@b.org"]}), dataclasses.asdict(config))
    assert stream.read_all()["text"].to_pylist() == ["[EMAIL]"]


@pytest.mark.parametrize("features", [["num_words"], ["num_chars", "num_chars"]])
def test_a_feature_that_a_rule_could_not_tell_from_a_column_is_refused(features):
    rows = pa.table({"text": ["a"], "num_words": [7]})
    with pytest.raises(ConfigError, match=f"feature `{features[0]}`: .* is taken"):
        prep.clean(rows, {"profile": "clean"}, features=features)


@pytest.mark.parametrize(
    "wrong",
    [
        7,
        "text",
        [1],
        ["a text"],
        None,
        {"text": ["a"]},
        pa.array(["one column"]),
        pa.chunked_array([["one column"]]),
    ],
)
def test_what_is_no_arrow_data_is_a_type_error_that_names_it(wrong):
    with pytest.raises(TypeError, match=r"expected Arrow data .* found"):
        prep.clean(wrong)


def test_paths_may_be_paths(tmp_path):
    source, model = tmp_path / "in.jsonl", tmp_path / "no model.bin"
    source.write_text('{"text": "a"}\n')
    config = prep.PrepConfig(input=(source,), output=tmp_path / "out", profile="clean")
    assert prep.run(config)["documents"] == 1
    with pytest.raises(ConfigError, match=r"cannot open .*no model.bin"):
        prep.clean(pa.table({"text": ["a"]}), {"language": {"model": model}})


def test_nothing_gives_nothing():
    stream = prep.clean([])
    assert list(stream) == []
    assert stream.ledger["read"] == 0
    with pytest.raises(InputError, match="no batches"):
        _ = stream.schema
    empty = pa.table({"text": pa.array([], pa.string())})
    assert prep.clean(empty).read_all().equals(empty)


def test_batches_of_other_columns_are_refused_where_they_come():
    batches = [
        pa.record_batch({name: ["a"]}) for name in ("text", "text", "txt", "text")
    ]
    stream = prep.clean(batches, {"profile": "clean"})
    assert [next(stream).num_rows, next(stream).num_rows] == [1, 1]
    with pytest.raises(
        ConfigError, match=r"expected the columns .*`text` \(Utf8\), found `txt`"
    ):
        next(stream)
    with pytest.raises(InputError, match="failed before"):
        next(stream)


def test_an_interruption_of_the_source_waits_for_nothing():
    def batches():
        yield pa.record_batch({"text": ["a"]})
        yield pa.record_batch({"text": ["b"]})
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(prep.clean(batches(), {"profile": "clean"}))


def test_an_exception_of_the_source_is_raised_after_what_came_before_it():
    def batches():
        yield pa.record_batch({"text": ["a"]})
        yield pa.record_batch({"text": ["b"]})
        raise LookupError("the source broke")

    stream = prep.clean(batches(), {"profile": "clean"})
    assert [next(stream)["text"][0].as_py() for _ in range(2)] == ["a", "b"]
    with pytest.raises(LookupError, match="the source broke"):
        next(stream)
    with pytest.raises(InputError, match="failed before"):
        next(stream)
    schema = pa.schema([("text", pa.string())])
    reader = pa.RecordBatchReader.from_batches(schema, batches())
    with pytest.raises(InputError, match="the source broke") as raised:
        list(prep.clean(reader, {"profile": "clean"}))
    assert "Traceback" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_source_that_asks_its_own_stream_gets_an_error_and_no_standstill():
    def batches(ask):
        yield pa.record_batch({"text": ["a"]})
        ask(streams[-1])

    streams = []
    for ask in [next, lambda stream: stream.ledger, lambda stream: stream.schema]:
        streams.append(prep.clean(batches(ask), {"profile": "clean"}))
        with pytest.raises(InputError, match="this stream is at work"):
            list(streams[-1])
        assert streams[-1].ledger["read"] == 1


def examples() -> list[tuple[str, str]]:
    """(code, output) of docs/python.md."""
    page = (CASES.parents[1] / "docs/python.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", page, re.DOTALL)


@pytest.mark.parametrize(("code", "output"), examples())
def test_the_examples_of_the_docs_print_what_is_shown(code, output, capsys):
    exec(code, {})
    assert capsys.readouterr().out == output


def test_the_docs_have_examples():
    assert len(examples()) >= 2
