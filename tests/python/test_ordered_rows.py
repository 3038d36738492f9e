"""Rows of a run from Python: batches read ahead, damage under way, and other processes."""

import multiprocessing

import pytest

from triptych._core import IntegrityError, train_tokenizer, write_token_shards
from triptych.curriculum import StageConfig
from triptych.data import OrderedRows

STAGE = StageConfig(stage="s", learning_rate=1e-3, steps=6, batch_size=2)


def rows_of(folder, length):
    """Rows of `length` tokens, each a document."""
    tokenizer = train_tokenizer(None, ["the cat sat on the mat"] * 3, 300)
    documents = [(str(n), "s", [7 + n] * length, None) for n in range(12)]
    write_token_shards(documents, tokenizer, folder, 1)
    return OrderedRows({"web": folder}, [STAGE], seed=0, seq_len=length)


@pytest.fixture
def rows(tmp_path):
    return rows_of(tmp_path / "web", 64)


def damage(rows, step):
    """Makes the ids of one row of a step ones that there are not."""
    ((_, document, _, _),) = rows._order.rows(step)[0]
    with (rows.sources["web"] / "00000.bin").open("r+b") as file:
        file.seek(document * 64 * 2)
        file.write(b"\xff" * 128)


def test_damage_in_a_step_that_is_read_ahead_is_an_error_of_that_step_alone(rows):
    damage(rows, 3)
    rows.prefetch(3, 2)
    assert len(rows.batch(0, 0, 2).input_ids) == 128  # was not asked for in turn
    rows.prefetch(2, 2)
    rows.batch(2, 0, 2)
    with pytest.raises(IntegrityError, match=r"00000\.bin"):
        rows.batch(3, 0, 2)
    assert len(rows.batch(4, 0, 2).input_ids) == 128


def _send(rows, sender):
    sender.send(rows.batch(1, 0, 2).ids_hash)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_another_process_reads_for_itself_what_this_one_reads_ahead(rows, method):
    context = multiprocessing.get_context(method)
    receiver, sender = context.Pipe(duplex=False)
    rows.prefetch(1, 2)
    process = context.Process(target=_send, args=(rows, sender))
    process.start()
    assert receiver.poll(60)
    assert receiver.recv() == rows.batch(1, 0, 2).ids_hash
    process.join()


def _send_ahead(rows, sender):
    rows.prefetch(1, 2)
    _send(rows, sender)


def test_a_child_that_was_forked_off_reads_many_tokens_ahead_on_its_own_threads(
    tmp_path,
):
    rows = rows_of(tmp_path / "web", 40_000)
    rows.batch(0)  # on all threads of this process, which a child does not have
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_ahead, args=(rows, sender))
    process.start()
    try:
        assert receiver.poll(60)
        assert receiver.recv() == rows.batch(1, 0, 2).ids_hash
    finally:
        process.kill()
        process.join()
