"""The data order is a pure function: every row once an epoch, shares within one row."""

import itertools
import json
import pickle
import struct
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import example, given, settings
from hypothesis import strategies as st

from triptych._core import ConfigError, Order, train_tokenizer, write_token_shards

CASES = Path(__file__).parents[1] / "cases"
DTYPES = {
    "input_ids": np.int64,
    "labels": np.int64,
    "position_ids": np.int64,
    "weights": np.float32,
    "cu_seqlens": np.int32,
    "documents": np.int64,
    "sources": np.int32,
}


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(None, ["some words to learn"] * 3, 300)


def ids_of(document: int, length: int) -> list[int]:
    return [7 + (document * 31 + token) % 250 for token in range(length)]


@pytest.fixture(scope="module")
def source(tokenizer, tmp_path_factory):
    """Makes a folder of token shards from the lengths of its documents."""

    def make(lengths, masks=None, per_unit=1) -> str:
        folder = tmp_path_factory.mktemp("tokens") / "shards"
        masks = masks or [None] * len(lengths)
        documents = [
            (f"doc-{i}", "s", ids_of(i, length), mask)
            for i, (length, mask) in enumerate(zip(lengths, masks, strict=True))
        ]
        write_token_shards(documents, tokenizer, str(folder), per_unit)
        return str(folder)

    return make


@pytest.fixture(scope="module")
def folders(source):
    lengths = {"web": [5, 9, 30, 2, 8] * 6, "code": [17, 3] * 5, "books": [100, 41]}
    return [(name, source(values)) for name, values in lengths.items()]


def stage(steps, rows_per_step, seq_len=16, name="s", **weights):
    return {
        "name": name,
        "steps": steps,
        "rows_per_step": rows_per_step,
        "seq_len": seq_len,
        "weights": weights,
    }


def packed(case, table):
    return {**table, "packing": case["packing"]}


def arrays(batch) -> dict[str, np.ndarray]:
    assert batch.keys() == {*DTYPES, "ids_hash"}
    assert {name: batch[name].dtype for name in DTYPES} == DTYPES
    return {name: batch[name] for name in DTYPES}


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


@pytest.mark.parametrize("parts", [[6], [1] * 6, [2, 4], [5, 0, 1]])
def test_parts_of_a_batch_join_to_the_whole(folders, parts):
    order = Order(folders, [stage(3, 6, web=2, code=1, books=1)], 1)
    whole = arrays(order.batch(2))
    starts = np.cumsum([0, *parts])
    pieces = [
        arrays(order.batch(2, int(s), n)) for s, n in zip(starts, parts, strict=False)
    ]
    for name in DTYPES.keys() - {"cu_seqlens"}:
        joined = np.concatenate([piece[name] for piece in pieces])
        np.testing.assert_array_equal(joined, whole[name])
    lengths = np.concatenate([np.diff(piece["cu_seqlens"]) for piece in pieces])
    np.testing.assert_array_equal(lengths, np.diff(whole["cu_seqlens"]))


def test_a_batch_is_the_rows_of_the_step_with_the_next_token_as_label(folders):
    order = Order(folders, [stage(3, 6, web=2, code=1, books=1)], 1)
    batch = arrays(order.batch(1))
    lengths = {0: [5, 9, 30, 2, 8] * 6, 1: [17, 3] * 5, 2: [100, 41]}
    at = 0
    for number, (source, document, start, length) in enumerate(
        s for row in order.rows(1) for s in row
    ):
        tokens = ids_of(document, lengths[source][document])
        end = at + length
        assert batch["input_ids"][at:end].tolist() == tokens[start : start + length]
        expected = [*tokens, -100][start + 1 : start + length + 1]
        assert batch["labels"][at:end].tolist() == expected
        assert batch["weights"][at:end].tolist() == [
            float(label != -100) for label in expected
        ]
        assert batch["position_ids"][at:end].tolist() == list(range(length))
        assert (batch["sources"][number], batch["documents"][number]) == (
            source,
            document,
        )
        assert order.document_id(source, document) == f"doc-{document}"
        at = end
    assert batch["cu_seqlens"][-1] == at == len(batch["input_ids"])


def test_labels_follow_the_supervision_mask_also_across_a_cut(source):
    mask = [0, 0, 1, 1, 0, 1]
    folder = source([6], [mask])
    batch = arrays(Order([("a", folder)], [stage(1, 2, 4, a=1)], 0).batch(0))
    tokens = ids_of(0, 6)
    by_input = dict(
        zip(batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True)
    )
    expected = [-100, tokens[2], tokens[3], -100, tokens[5], -100]
    assert [by_input[token] for token in tokens] == expected


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


def digest(batch) -> int:
    """The hash of a batch's ids as its documentation defines it, row by row."""
    values = arrays(batch)
    ends = values["cu_seqlens"]
    hasher = xxhash.xxh3_64(seed=0)
    for start, end in itertools.pairwise(ends):
        hasher.update(struct.pack("<I", end - start))
        hasher.update(values["input_ids"][start:end].astype("<u4").tobytes())
    return hasher.intdigest()


def test_the_hash_of_the_ids_is_the_documented_one(folders):
    order = Order(folders, [stage(4, 1, web=2, code=1)], 5)
    for step in range(4):
        batch = order.batch(step)
        assert batch["ids_hash"] == digest(batch)
    rolled = xxhash.xxh3_64(struct.pack("<QQ", 7, 9)).intdigest()
    assert Order.roll(7, 9) == rolled


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("micro_batch", [1, 2, 3])
def test_hashes_of_the_parts_of_a_step_add_up_for_any_world(
    folders, world, micro_batch
):
    order = Order(folders, [stage(3, 12, web=2, code=1, books=1)], 1)
    whole = order.batch(1)["ids_hash"]
    share = 12 // world
    parts = 0
    for rank in range(world):
        end = (rank + 1) * share
        for first in range(rank * share, end, micro_batch):
            rows = min(micro_batch, end - first)
            parts += order.batch(1, first, rows)["ids_hash"]
    assert parts % 2**64 == whole
    assert order.batch(2)["ids_hash"] != whole


@settings(max_examples=30, deadline=None)
@given(
    before=st.tuples(*[st.integers(1, 99)] * 3),
    after=st.tuples(*[st.integers(1, 99)] * 3),
    ramp=st.integers(1, 40),
)
def test_every_prefix_of_a_ramp_is_within_one_row_of_the_moving_weights(
    folders, before, after, ramp
):
    names = [name for name, _ in folders]
    first = stage(3, 2, **dict(zip(names, before, strict=True)))
    then = stage(40, 2, name="t", **dict(zip(names, after, strict=True)))
    order = Order(folders, [first, {**then, "ramp_steps": ramp}], 3)
    rows = [row[0][0] for step in range(3, 3 + ramp) for row in order.rows(step)]
    counts, targets = [0] * 3, [0.0] * 3
    for number, source in enumerate(rows):
        counts[source] += 1
        moved = (number + 0.5) / len(rows)
        for i in range(3):
            start, end = before[i] / sum(before), after[i] / sum(after)
            targets[i] += start * (1 - moved) + end * moved
            assert abs(counts[i] - targets[i]) < 1 + 1e-6


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


@pytest.mark.parametrize(("batch_rows", "depth"), [(1, 1), (4, 2), (5, 3), (99, 1)])
def test_batches_made_ahead_are_those_that_are_asked_for(folders, batch_rows, depth):
    table = [stage(3, 6, web=2, code=1), stage(2, 3, 8, "t", books=1)]
    order = Order(folders, table, 1)
    parts = list(order.prefetch(1, batch_rows, depth))
    assert {step for step, *_ in parts} == {1, 2, 3, 4}
    rows = Counter()
    for step, first_row, num_rows, found in parts:
        assert first_row == rows[step]
        rows[step] += num_rows
        wanted = order.batch(step, first_row, num_rows)
        assert found.pop("ids_hash") == wanted.pop("ids_hash")
        assert all((found[name] == wanted[name]).all() for name in DTYPES)
    assert rows == {1: 6, 2: 6, 3: 3, 4: 3}


@pytest.mark.parametrize("of", [1, 2, 3, 6])
def test_shares_that_are_made_ahead_make_up_every_step(folders, of):
    table = [stage(3, 6, web=2, code=1), stage(2, 12, 8, "t", books=1)]
    order = Order(folders, table, 1)
    found = Counter()
    for number in range(of):
        for step, first_row, num_rows, arrays in order.prefetch(
            0, 4, 1, share=(number, of)
        ):
            length = (6, 6, 6, 12, 12)[step] // of
            assert length * number <= first_row
            assert first_row + num_rows <= length * (number + 1)
            assert (
                arrays["ids_hash"] == order.batch(step, first_row, num_rows)["ids_hash"]
            )
            found.update((step, row) for row in range(first_row, first_row + num_rows))
    assert found == Counter(
        (step, row) for step in range(5) for row in range(6 + 6 * (step > 2))
    )


def test_a_share_that_there_is_not_is_refused(folders):
    order = Order(folders, [stage(2, 6, web=1), stage(2, 4, 8, "t", books=1)], 1)
    for share in ((2, 2), (0, 0)):
        with pytest.raises(
            ConfigError, match="share: expected a number below how many"
        ):
            order.prefetch(0, 2, 1, share=share)
    with pytest.raises(ConfigError, match=r"share: .*divides 4 rows, found 3"):
        order.prefetch(0, 2, 1, share=(0, 3))
    later = Order(folders, [stage(2, 4, web=1), stage(2, 6, 8, "t", books=1)], 1)
    assert (
        len(list(later.prefetch(2, 2, 1, share=(0, 3)))) == 2
    )  # what is read is whole


def test_batches_may_be_made_ahead_and_given_up_at_any_time(folders):
    order = Order(folders, [stage(500, 6, web=2, code=1)], 1)
    for _ in range(50):
        assert next(order.prefetch(0, 2, 2))[0] == 0


@pytest.mark.parametrize("depth", [0, 1 << 40])
def test_no_more_batches_wait_than_have_room(folders, depth):
    order = Order(folders, [stage(5, 6, web=2, code=1)], 1)
    with pytest.raises(ConfigError, match="depth: expected 1 to 65536"):
        order.prefetch(0, 2, depth)


def test_a_copy_in_another_process_reads_the_same(folders):
    table = [stage(7, 3, web=0.6, code=0.4)]
    order = Order(folders, table, 9, skip=[(1, 2)])
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        hashes = list(pool.map(order.step_hash, range(7)))
    assert hashes == [order.step_hash(step) for step in range(7)]
    assert pickle.loads(pickle.dumps(order)).step_hash(6) == hashes[6]


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
