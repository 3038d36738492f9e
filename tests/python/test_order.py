"""The data order is a pure function: every row once an epoch, shares within one row."""

import json
import pickle
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from small_orders import LENGTHS, arrays, stage, write_lengths
from triptych._core import ConfigError, Order

CASES = Path(__file__).parents[1] / "cases"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return lambda *given, **options: write_lengths(
        tmp_path_factory.mktemp("tokens") / "shards", *given, **options
    )


@pytest.fixture(scope="module")
def folders(source):
    return [(name, source(lengths)) for name, lengths in LENGTHS.items()]


def packed(case, table):
    return {**table, "packing": case["packing"]}


def cases(name):
    lines = (CASES / name).read_text(encoding="utf-8").splitlines()
    return [pytest.param(case, id=case["name"]) for case in map(json.loads, lines)]


@pytest.mark.parametrize("case", cases("packing.jsonl"))
def test_packing_gives_the_rows_of_the_table(source, case):
    folder = source(case["lengths"], per_unit=case["documents_per_unit"])
    rows = len(case["rows"])
    order = Order(
        [("a", folder)], [packed(case, stage(1, rows, case["seq_len"], a=1))], 0
    )
    found = sorted([[d, s, n] for _, d, s, n in row] for row in order.rows(0))
    assert found == sorted(case["rows"])
    packing = json.loads(order.report())["sources"][0]["packings"][0]
    for key in ("packing", "cuts", "short_cuts", "dropped_units"):
        assert packing[key] == case[key]


@pytest.mark.parametrize("case", cases("interleave.jsonl"))
def test_sources_come_in_the_order_of_the_table(source, case):
    names = sorted(case["weights"])
    folder = source([5])
    stages = [stage(len(case["sources"]), 1, 8, **case["weights"])]
    order = Order([(name, folder) for name in names], stages, 0)
    found = [names[order.rows(step)[0][0][0]] for step in range(order.num_steps)]
    assert found == case["sources"]


@settings(max_examples=60, deadline=None)
@given(
    weights=st.tuples(*[st.integers(1, 999)] * 3),
    seed=st.integers(0, 2**64 - 1),
    rows_per_step=st.integers(1, 7),
)
def test_every_prefix_is_within_one_row_of_the_weights(
    folders, weights, seed, rows_per_step
):
    named = {
        name: weight / 1000 for (name, _), weight in zip(folders, weights, strict=True)
    }
    order = Order(folders, [stage(60, rows_per_step, **named)], seed)
    counts = [0, 0, 0]
    rows = [row for step in range(60) for row in order.rows(step)]
    for number, row in enumerate(rows, start=1):
        counts[row[0][0]] += 1
        for count, weight in zip(counts, weights, strict=True):
            assert abs(count - Fraction(number * weight, sum(weights))) < 1


@settings(max_examples=60, deadline=None)
@given(weights=st.tuples(*[st.floats(1e-300, 1e300) | st.floats(1e-6, 1e6)] * 3))
@example((0.047779395483171, 1e6, 1.6060353266429696e-6))  # 28 digits do not hold them
def test_weights_of_any_size_and_number_of_digits_are_exact_to_the_row(
    folders, weights
):
    named = {name: weight for (name, _), weight in zip(folders, weights, strict=True)}
    order = Order(folders, [stage(20, 7, **named)], 0)
    decimals = [Fraction(repr(weight)) for weight in weights]
    counts = [0, 0, 0]
    rows = [row for step in range(20) for row in order.rows(step)]
    for number, row in enumerate(rows, start=1):
        counts[row[0][0]] += 1
        for count, weight in zip(counts, decimals, strict=True):
            assert abs(count - number * weight / sum(decimals)) < 1


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**64 - 1), rows_per_step=st.integers(1, 9))
def test_every_row_comes_exactly_once_an_epoch(folders, seed, rows_per_step):
    rows = json.loads(Order(folders, [stage(1, 1, web=1)], 0).report())["sources"][0][
        "packings"
    ][0]["rows"]
    order = Order(folders, [stage(rows, rows_per_step, web=1)], seed)
    dealt = [tuple(row) for step in range(rows) for row in order.rows(step)]
    epochs = [dealt[at : at + rows] for at in range(0, len(dealt), rows)]
    assert all(Counter(epoch) == Counter(epochs[0]) for epoch in epochs)
    assert max(Counter(epochs[0]).values()) == 1


def test_rows_do_not_depend_on_what_was_asked_before(folders):
    table = [stage(7, 3, web=0.6, code=0.4), stage(5, 2, 32, "t", web=1, books=2)]
    first, second = Order(folders, table, 9), Order(folders, table, 9)
    forward = [(first.rows(step), first.step_hash(step)) for step in range(12)]
    backward = [
        (second.rows(step), second.step_hash(step)) for step in reversed(range(12))
    ]
    assert forward == backward[::-1]
    assert len({digest for _, digest in forward}) == 12
    assert [first.stage(step) for step in range(12)] == [0] * 7 + [1] * 5
    assert Order(folders, table, 10).rows(0) != first.rows(0)


def test_a_stage_goes_on_where_the_one_before_left_the_source(folders):
    whole = Order(folders, [stage(12, 2, web=1)], 4)
    split = Order(folders, [stage(5, 2, web=1), stage(7, 2, name="t", web=1)], 4)
    assert [whole.rows(step) for step in range(12)] == [
        split.rows(step) for step in range(12)
    ]


def test_the_report_adds_up_to_the_token(folders):
    order = Order(
        folders, [stage(9, 4, web=3, code=1), stage(5, 4, name="t", web=1, books=1)], 2
    )
    report = json.loads(order.report())
    consumed = Counter()
    for step in range(order.num_steps):
        batch = arrays(order.batch(step))
        for source, length in zip(
            batch["sources"], np.diff(batch["cu_seqlens"]), strict=True
        ):
            consumed[int(source)] += int(length)
    planned = {
        i: sum(p["planned_tokens"] for p in s["packings"])
        for i, s in enumerate(report["sources"])
    }
    assert planned == dict(consumed)
    drawn = sum(draw["tokens"] for entry in report["stages"] for draw in entry["draws"])
    assert drawn == sum(consumed.values())


some_weights = st.tuples(*[st.integers(0, 99)] * 3).filter(any)


@settings(max_examples=60, deadline=None)
@given(before=some_weights, after=some_weights, ramp=st.integers(1, 40))
@example((3, 2, 1), (3, 3, 3), 14)  # whole rows are due, which floating point misses
@example((5, 44, 6), (1, 2, 1), 30)
@example((1, 1, 1), (0, 0, 1), 1)  # two rows are owed to sources that are left
def test_every_prefix_of_a_stage_with_a_ramp_is_within_one_row_of_the_moving_weights(
    folders, before, after, ramp
):
    first, then = (
        stage(steps, 2, name=f"{steps}", **{n: w for (n, _), w in pairs if w})
        for steps, pairs in [
            (3, list(zip(folders, before, strict=True))),
            (60, list(zip(folders, after, strict=True))),
        ]
    )
    order = Order(folders, [first, {**then, "ramp_steps": ramp}], 3)
    rows = [row[0][0] for step in range(3, 63) for row in order.rows(step)]
    counts, in_ramp = [0] * 3, 2 * ramp
    for number, source in enumerate(rows, start=1):
        counts[source] += 1
        ramped = min(number, in_ramp)
        moved = Fraction(ramped**2, 2 * in_ramp) + number - ramped
        for count, old, new in zip(counts, before, after, strict=True):
            start, end = Fraction(old, sum(before)), Fraction(new, sum(after))
            assert abs(count - start * (number - moved) - end * moved) < 1


def test_a_ramp_leads_away_from_a_source_that_the_stage_does_not_name(folders):
    table = [
        stage(5, 4, web=1),
        {**stage(40, 4, name="t", code=1), "ramp_steps": 20},
    ]
    order = Order(folders, table, 0)
    sources = [[row[0][0] for row in order.rows(step)] for step in range(45)]
    assert {s for step in sources[:5] for s in step} == {0}
    ramp = [s for step in sources[5:25] for s in step]
    assert Counter(ramp) == {0: 40, 1: 40}
    assert ramp[:40].count(0) == 30
    assert {s for step in sources[25:] for s in step} == {1}


def test_skipped_windows_leave_the_steps_before_them_alone_and_move_the_rest_up(
    folders,
):
    table = [stage(10, 2, web=0.6, code=0.4), stage(10, 2, name="t", web=1)]
    plain = Order(folders, [stage(20, 2, web=0.6, code=0.4)], 8)
    skipping = Order(folders, table, 8, skip=[(3, 5), (4, 7), (9, 10)])
    kept = [s for s in range(20) if s not in {3, 4, 5, 6, 9}]
    assert [skipping.data_step(step) for step in range(10)] == kept[:10]
    for step in range(10):
        assert skipping.rows(step) == plain.rows(kept[step])
    assert skipping.num_steps == 20
    report = json.loads(skipping.report())
    assert [s["skipped_steps"] for s in report["stages"]] == [5, 0]
    consumed = Counter()
    for step in range(20):
        for segment in (s for row in skipping.rows(step) for s in row):
            consumed[segment[0]] += segment[3]
    drawn = Counter()
    for entry in report["stages"]:
        for draw in entry["draws"]:
            drawn[["web", "code", "books"].index(draw["source"])] += draw["tokens"]
    assert drawn == consumed


def test_the_report_of_a_window_of_a_billion_steps_takes_no_time(folders):
    order = Order(folders, [stage(10, 1, web=0.6, code=0.4)], 8, skip=[(3, 10**9)])
    (entry,) = json.loads(order.report())["stages"]
    assert entry["skipped_steps"] == 10**9 - 3
    assert sum(draw["rows"] for draw in entry["draws"]) == 10


def test_a_source_read_more_often_than_it_may_be_is_refused_with_the_way_out(folders):
    rows = json.loads(Order(folders, [stage(1, 1, code=1)], 0).report())
    rows = rows["sources"][1]["packings"][0]["rows"]
    table = [stage(rows, 3, code=1)]
    assert Order(folders, table, 0, max_epochs={"code": 3}).num_steps == rows
    with pytest.raises(ConfigError, match=r"epochs of source `code`.*2.5.*3.0000"):
        Order(folders, table, 0, max_epochs={"code": 2.5})
    with pytest.raises(ConfigError, match="did you mean `code`"):
        Order(folders, table, 0, max_epochs={"coed": 2.5})


def test_a_copy_in_another_process_reads_the_same(folders):
    table = [stage(7, 3, web=0.6, code=0.4)]
    order = Order(folders, table, 9, skip=[(1, 2)])
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        hashes = list(pool.map(order.step_hash, range(7)))
    assert hashes == [order.step_hash(step) for step in range(7)]
    assert pickle.loads(pickle.dumps(order)).step_hash(6) == hashes[6]


def test_a_copy_reads_the_same_though_the_table_has_changed_since(folders):
    """As one does that is filled anew for each of several orders."""
    table = [stage(4, 2, web=1, code=1)]
    order = Order(folders, table, 3)
    table[0]["weights"]["code"] = 5
    table[0]["steps"] = 9
    copy = pickle.loads(pickle.dumps(order))
    assert copy.num_steps == 4
    assert [copy.rows(n) for n in range(4)] == [order.rows(n) for n in range(4)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"packing": "best"}, "expected one of `best-fit`, `concat`, `bos-aligned`"),
        ({"ramp_steps": 1}, "no stage is before it"),
        ({"weights": {"wbe": 1}}, "did you mean `web`"),
        ({"weights": {"web": 0}}, "above 0"),
        ({"weights": {"web": float("nan")}}, "above 0"),
        ({"weights": {}}, "at least one source"),
        ({"weights": {"web": "much"}}, "table of numbers"),
        ({"steps": 0}, "at least 1"),
        ({"steps": -1}, "at least 1"),
        ({"rows_per_step": 10**12}, "at most 16777216 rows"),
        (
            {"steps": 2**62, "rows_per_step": 4},
            r"a product under 2\^64, found 4611.* and 4",
        ),
        ({"seq_len": 0}, "seq_len"),
        ({"sequence_length": 5}, "sequence_length"),
    ],
)
def test_faults_of_the_stage_table_are_config_errors(folders, change, message):
    with pytest.raises(ConfigError, match=message):
        Order(folders, [{**stage(1, 1, web=1), **change}], 0)


def test_steps_that_cannot_be_counted_are_refused(folders):
    halves = [stage(2**62, 1, name=name, web=1) for name in "ab"]
    with pytest.raises(ConfigError, match=r"steps of all stages: .* a sum under 2\^63"):
        Order(folders, halves, 0)
    with pytest.raises(ConfigError, match="with those that are skipped, and"):
        Order(folders, [stage(10, 4, web=1)], 0, skip=[(5, 2**63)])


def test_a_step_or_row_out_of_range_is_a_config_error(folders):
    order = Order(folders, [stage(2, 3, web=1)], 0)
    for call in [
        lambda: order.rows(2),
        lambda: order.batch(0, 2, 2),
        lambda: order.step_hash(9),
        lambda: order.rows(-1),
        lambda: order.batch(0, -1),
        lambda: order.batch(1 << 64),
        lambda: order.document_id(0, -1),
        lambda: Order(folders, [stage(2, 3, web=1)], -1),
        lambda: Order(folders, [stage(2, 3, web=1)], 0, skip=[(-1, 2)]),
    ]:
        with pytest.raises(ConfigError, match="expected"):
            call()


def test_planning_takes_time_by_the_number_of_stages_and_not_by_its_square(source):
    folder = source([5, 9, 3])

    def seconds(stages):
        table = [stage(1, 1, 8, name=f"s{i}", a=1) for i in range(stages)]
        start = time.process_time()
        assert Order([("a", folder)], table, 0).num_steps == stages
        return time.process_time() - start

    fewest = min(seconds(1_000) for _ in range(3))
    assert seconds(16_000) < 64 * fewest  # 16 times as many; the square is 256


def test_stages_that_go_on_with_each_other_are_laid_out_once(folders):
    """As those of a batch that grows in hundreds of steps."""
    weights = {"web": 0.123457, "code": 0.876543}  # alike after a million rows

    def seconds(stages):
        table = [stage(1, 1000, name=f"s{i}", **weights) for i in range(stages)]
        table = [{**x, "goes_on": i > 0} for i, x in enumerate(table)]
        start = time.process_time()
        assert Order(folders, table, 0).num_steps == stages
        return time.process_time() - start

    fewest = min(seconds(100) for _ in range(3))
    assert seconds(800) < 24 * fewest  # 8 times as many; the square is 64


def test_the_report_takes_time_by_the_rows_and_not_by_rows_times_stages(source):
    rows = 30_000
    folder = source([4] * rows)

    def seconds(stages):
        table = [stage(rows // stages, 1, 4, f"s{i}", a=1) for i in range(stages)]
        order = Order([("a", folder)], table, 0)
        start = time.process_time()
        drawn = [entry["draws"] for entry in json.loads(order.report())["stages"]]
        assert sum(draw["tokens"] for (draw,) in drawn) == 4 * rows
        return time.process_time() - start

    fewest = min(seconds(10) for _ in range(3))
    assert min(seconds(300) for _ in range(2)) < 6 * fewest  # it was 30 times
