"""Batches of the data order: their arrays, parts and hashes, and those made ahead."""

import itertools
import struct
import time
from collections import Counter

import numpy as np
import pytest
import xxhash

from small_orders import DTYPES, LENGTHS, arrays, ids_of, stage, write_lengths
from triptych._core import ConfigError, Order


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    parent = tmp_path_factory.mktemp("tokens")
    return [(name, write_lengths(parent / name, x)) for name, x in LENGTHS.items()]


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


def test_a_part_of_a_step_takes_time_by_its_own_rows_and_not_by_all_of_the_step(
    folders,
):
    """Else micro-batches take time by the square of the batch."""

    def seconds(rows):
        order = Order(folders, [stage(1, rows, web=1)], 1)
        start = time.process_time()
        for first in range(200):
            order.batch(0, first, 1)
        return time.process_time() - start

    fewest = min(seconds(200) for _ in range(3))
    assert min(seconds(200_000) for _ in range(2)) < 10 * fewest  # it was 1,000 times


def test_a_batch_is_the_rows_of_the_step_with_the_next_token_as_label(folders):
    order = Order(folders, [stage(3, 6, web=2, code=1, books=1)], 1)
    batch = arrays(order.batch(1))
    lengths = [*LENGTHS.values()]
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


def test_labels_follow_the_supervision_mask_also_across_a_cut(tmp_path):
    mask = [0, 0, 1, 1, 0, 1]
    folder = write_lengths(tmp_path / "shards", [6], [mask])
    batch = arrays(Order([("a", folder)], [stage(1, 2, 4, a=1)], 0).batch(0))
    tokens = ids_of(0, 6)
    by_input = dict(
        zip(batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True)
    )
    expected = [-100, tokens[2], tokens[3], -100, tokens[5], -100]
    assert [by_input[token] for token in tokens] == expected


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
        for step, first_row, num_rows, batch in order.prefetch(
            0, 4, 1, share=(number, of)
        ):
            length = (6, 6, 6, 12, 12)[step] // of
            assert length * number <= first_row
            assert first_row + num_rows <= length * (number + 1)
            assert (
                batch["ids_hash"] == order.batch(step, first_row, num_rows)["ids_hash"]
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
