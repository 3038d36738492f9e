"""`clean` beside signals, other threads and other processes."""

from __future__ import annotations

import os
import pickle
import signal
import statistics
import subprocess
import sys
import textwrap
import threading
import time

import pyarrow as pa
import pytest

from triptych import prep


def python(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


INTERRUPTED = """
    import itertools, time
    import pyarrow as pa
    from triptych import prep

    text = "The house on the hill is old, and so is the road that goes to it. " * {repeats}
    batch = pa.record_batch({{"text": pa.array([text] * {rows}, pa.large_string())}})
    # Without end: a fast machine was through with half a gigabyte before the last signal.
    endless = pa.RecordBatchReader.from_batches(batch.schema, itertools.repeat(batch))
    config = {{"profile": "seed,gopher-repetition", "max_length": 10**9}}
    stream = prep.clean(endless, config)
    for _ in range(5):
        print("ready", flush=True)
        try:
            while True:
                next(stream)
        except KeyboardInterrupt:
            print(time.time(), flush=True)
    small = pa.table({{"text": ["at ann@example.org"]}})
    print(prep.clean(small, {{"profile": "clean"}}).read_all()["text"][0])
"""


@pytest.mark.parametrize(("repeats", "rows"), [(1000, 8000), (4_000_000, 1)])
def test_ctrl_c_is_heard_within_200_ms_in_many_texts_and_within_one(repeats, rows):
    process = python(INTERRUPTED.format(repeats=repeats, rows=rows))
    waits = []
    for pause in (0.05, 0.1, 0.15, 0.2, 0.25):
        assert process.stdout.readline() == "ready\n"
        time.sleep(pause)
        sent = time.time()
        process.send_signal(signal.SIGINT)
        waits.append(float(process.stdout.readline()) - sent)
    said, errors = process.stdout.read(), process.stderr.read()
    assert (process.wait(60), said) == (0, "at [EMAIL]\n"), errors
    assert statistics.median(waits) < 0.2, waits


THROUGH_ARROW = """
    import os, signal, threading
    import pyarrow as pa
    from triptych import prep

    # No n-gram of these recurs, so that every rule is asked: seconds of work.
    line = "The house {} stood on the hill with {} trees and {} of its men."
    lines = [line.format(i, i * i, i * 7919) for i in range(900)]
    table = pa.table({"text": ["\\n".join(lines)] * 2000})
    stream = prep.clean(table, {"profile": "gopher-repetition,gopher"})
    threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    try:
        try:
            pa.table(stream)
        except Exception as error:
            print("first", "KeyboardInterrupt" in str(error))
            for _ in range(100):
                pass
    except KeyboardInterrupt:
        print("then")
"""


def test_ctrl_c_is_not_lost_while_another_library_takes_from_the_stream():
    said, errors = python(THROUGH_ARROW).communicate(timeout=60)
    assert said.split("\n")[-2] == "then", errors
    assert said.startswith(("then", "first True")), said


SINGLE_TEXTS = """
    import time, triptych

    preprocessor = triptych.TextPreprocessor(1, 10**9)
    texts = [f"The house {i} on the hill is old, and so am I. " * 500 for i in range(20000)]
    print("ready", flush=True)
    try:
        preprocessor.process(texts)
    except KeyboardInterrupt:
        print(time.time(), flush=True)
"""


def test_ctrl_c_stops_the_preprocessor_of_single_texts_too():
    process = python(SINGLE_TEXTS)
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    sent = time.time()
    process.send_signal(signal.SIGINT)
    said = process.stdout.read()
    assert process.wait(60) == 0, process.stderr.read()
    assert float(said) - sent < 0.5  # one try, so no median


def test_a_preprocessor_can_be_pickled():
    again = pickle.loads(pickle.dumps(prep.TextPreprocessor(2, 3)))
    texts = ["aaa bbb", "aaa", "aaa bbb ccc ddd"]
    assert [again.check_quality(text) for text in texts] == [True, False, False]


def test_other_threads_run_while_a_batch_is_worked_on():
    batch = pa.record_batch({"text": ["some words of a text " * 5000] * 1000})
    ticks, done = [0], threading.Event()

    def tick():
        while not done.wait(0.001):
            ticks[0] += 1

    thread = threading.Thread(target=tick)
    thread.start()
    list(prep.clean(batch, {"profile": "seed,gopher-repetition", "threads": 1}))
    done.set()
    thread.join()
    assert ticks[0] > 10


def test_one_stream_may_be_taken_from_by_many_threads():
    batches = [pa.record_batch({"text": [f"text {i}"]}) for i in range(400)]
    stream = prep.clean(batches, {"profile": "clean"})
    taken: list[str] = []

    def take():
        for batch in stream:
            taken.extend(batch["text"].to_pylist())

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(f"text {i}" for i in range(400))


FORKED = """
    import multiprocessing, os, sys
    import pyarrow as pa
    import triptych
    from triptych import prep

    TABLE = pa.table({"text": [f"at a{i}@b.org " + "words " * 200 for i in range(3000)]})

    def work(_):
        tokens = triptych.train_tokenizer(["a b c " * 50] * 50, 300)
        tokens.encode_batch(["a b"] * 1000)
        triptych.TextPreprocessor(1, 9).process(["a b"])
        return prep.clean(TABLE, {"profile": "clean", "threads": 2}).read_all().num_rows

    before = work(0)
    stream = prep.clean(TABLE, {"profile": "clean"})
    child = os.fork()
    if child == 0:
        try:
            next(stream)
        except triptych.InputError as error:
            assert "before a fork" in str(error)
            os._exit(0 if work(0) == before else 3)
        os._exit(4)
    assert os.waitpid(child, 0)[1] == 0
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(pool.map(work, range(4)) == [before] * 4)
    print(stream.read_all().num_rows == before)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_children_of_a_process_that_has_used_the_engine_can_use_it_too():
    process = python(FORKED)
    said, errors = process.communicate(timeout=120)
    assert said.split() == ["True", "True"], errors
