"""What `clean` and `run` take for rules, features and settings, and what they refuse."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from triptych import prep
from triptych.errors import ConfigError

TEXTS = [f"text number {number}" for number in range(4000)]
TABLE = pa.table({"text": TEXTS, "n": range(4000)})


def is_even(batch: pa.RecordBatch) -> pa.Array:
    return pa.array([number % 2 == 0 for number in batch["n"].to_pylist()])


def every_other(batch: pa.RecordBatch) -> pa.Array:
    return pa.array([row % 2 == 0 for row in range(batch.num_rows)])


def test_rules_of_an_iterator_are_asked_of_every_batch(tmp_path):
    reader = pa.RecordBatchReader.from_batches(
        TABLE.schema, TABLE.to_batches(max_chunksize=10)
    )
    stream = prep.clean(reader, {"profile": "clean"}, rules=iter([is_even]))
    assert stream.read_all()["n"].to_pylist() == list(range(0, 4000, 2))
    source = tmp_path / "a.jsonl"
    source.write_text("".join(f'{{"text":"{text}"}}\n' for text in TEXTS))
    settings = prep.PrepConfig(
        input=(str(source),), output=str(tmp_path / "out"), profile="clean"
    )
    assert prep.run(settings, rules=iter([every_other]))["documents"] == 2000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rules": [5]}, "rules: expected functions, found 5"),
        ({"rules": is_even}, "rules: expected a list of functions, found <function"),
        ({"rules": "is_even"}, "rules: expected a list of functions, found 'is_even'"),
        ({"features": "num_words"}, "features: expected a list of names, found 'num_w"),
        (
            {"config": {"rule": [{"feature": "num_words", "min": float("nan")}]}},
            "key `rule`: expected finite numbers",
        ),
        (
            {"config": {"rule": [{"feature": "num_words", "min": object()}]}},
            "key `rule`: expected strings, numbers, truth values, lists and tables, "
            "found object",
        ),
    ],
)
def test_what_is_no_rule_feature_or_setting_is_refused_before_any_work(
    arguments, message
):
    with pytest.raises(ConfigError) as caught:
        prep.clean(TABLE, **arguments)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("bound", [np.float32(3), np.int64(3), np.array(3.0)])
def test_a_number_of_numpy_is_a_number(bound):
    rule = {"feature": "num_split_words", "min": bound}
    stream = prep.clean(
        pa.table({"text": ["a b", "a b c"]}), {"profile": "clean", "rule": [rule]}
    )
    assert stream.read_all()["text"].to_pylist() == ["a b c"]


COLUMNS = {
    "runs": pa.RunEndEncodedArray.from_arrays(
        pa.array([2, 8], pa.int32()), pa.array(["x", "y"])
    ),
    "a map to views": pa.array(
        [[("k", "v")], None] * 4, pa.map_(pa.string(), pa.string_view())
    ),
    "a union": pa.UnionArray.from_sparse(
        pa.array([0, 1] * 4, pa.int8()),
        [pa.array(range(8)), pa.array(list("abcdefgh"))],
    ),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_rules_are_asked_beside_columns_that_pyarrow_does_not_filter(name):
    table = pa.table({"text": TEXTS[:8], "x": COLUMNS[name]})
    stream = prep.clean(table, {"profile": "clean"}, rules=[every_other, every_other])
    kept = stream.read_all()
    assert kept["x"].to_pylist() == COLUMNS[name].to_pylist()[::4]
    assert kept.schema == table.schema


@pytest.mark.parametrize("rules", [[], [every_other]])
def test_a_text_column_of_the_type_of_nulls_costs_its_rows(rules):
    table = pa.table({"text": pa.nulls(3), "n": [1, 2, 3]})
    stream = prep.clean(table, rules=rules)
    assert stream.read_all().schema == table.schema
    assert (stream.ledger["read"], stream.ledger["quarantined"]) == (3, 3)


def test_a_lazy_frame_is_no_arrow_data_and_called_so():
    polars = pytest.importorskip("polars")
    with pytest.raises(TypeError, match=r"expected Arrow data .* found polars\."):
        prep.clean(polars.from_arrow(TABLE).lazy(), {"profile": "clean"})


def test_a_mean_of_no_lines_breaks_no_bound():
    rule = {"feature": "mean_line_length", "max": 1000}
    texts = [" ", "\t \n  ", "ab\n   \n\ncdef\n"]
    stream = prep.clean(pa.table({"text": texts}), {"profile": "clean", "rule": [rule]})
    assert stream.read_all()["text"].to_pylist() == texts
    seen: list[float] = []

    def note(batch: pa.RecordBatch) -> pa.Array:
        seen.extend(batch["mean_line_length"].to_pylist())
        return pa.nulls(batch.num_rows)

    features = ["mean_line_length"]
    prep.clean(
        pa.table({"text": texts}), {"profile": "clean"}, rules=[note], features=features
    ).read_all()
    assert np.isnan(seen[:2]).all()
    assert (
        seen[2] == 3
    )  # the blank lines count neither as lines nor by their characters


def test_the_first_phrase_of_a_list_may_have_a_byte_order_mark_before_it(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbfcat\r\ndog\r\n")
    stream = prep.clean(
        pa.table({"text": ["a cat", "a dog", "a fox"]}),
        {"profile": "clean", "phrase_list": [{"name": "pets", "file": path}]},
    )
    assert stream.read_all()["text"].to_pylist() == ["a fox"]
