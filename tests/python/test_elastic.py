"""Copies that die and join come to what one process alone comes to."""

import json
import multiprocessing
import os
import signal
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch

from test_ranks import write_run
from tiny import TinyData, tiny_model, tiny_train_config
from triptych.commands.training import require_fixed
from triptych.errors import ConfigError
from triptych.model.huggingface import load_model
from triptych.train import ElasticTrainer, PretrainObjective, Trainer, trainer_for
from triptych.train.incidents import IncidentLog
from triptych.train.metrics import read_metrics
from triptych.train.parallel import ParallelConfig

os.environ.setdefault("RUST_LOG", "error")  # torchft tells every quorum otherwise
pytest.importorskip("torchft", reason="the extra `ft` is not installed")


import elastic_worker
from elastic_worker import ROWS

HERE = Path(__file__).parent
STEPS = 10
KILLED = -9


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Metrics and weights of one process that was never stopped."""
    return train_alone(tmp_path_factory.mktemp("alone"), PretrainObjective())


def train_alone(folder, objective):
    config = tiny_train_config(folder, micro_batch_rows=1)
    model, threads = tiny_model(), torch.get_num_threads()
    torch.set_num_threads(1)  # as the copies, and ten times as fast on two busy cores
    Trainer(model, objective, TinyData(rows=ROWS), config).run()
    torch.set_num_threads(threads)
    return read_metrics(folder), model


@pytest.fixture
def lighthouse(request):
    """The address of one; its parameter is how many copies it wants, else 1."""
    server = elastic_worker.serve(min_replicas=getattr(request, "param", 1))
    yield server.address()
    server.shutdown()


def fork(target, *arguments):
    """Calls a function in a process forked from one that has imported torch."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["elastic_worker"])
    process = context.Process(target=target, args=arguments)
    path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    with mock.patch.dict(os.environ, PYTHONPATH=path):  # what the server imports by
        process.start()
    return process


def begin(name, folder, lighthouse, **how):
    """Starts a copy."""
    return fork(elastic_worker.train, name, folder, lighthouse, how)


def ended(processes):
    """The exit status of each."""
    for process in processes:
        process.join(timeout=90)
    return [process.exitcode for process in processes]


def run(folder, lighthouse, size, **by_copy):
    """Trains in so many copies to the end; `copy_1={...}` is how copy 1 does it."""
    hows = [by_copy.get(f"copy_{n}", {}) for n in range(size)]
    started = [
        begin(n, folder, lighthouse, meet=size, **how) for n, how in enumerate(hows)
    ]
    expected = [KILLED if "die" in how else 0 for how in hows]
    assert ended(started) == expected


def assert_like_alone(folder, alone):
    metrics, model = alone
    found = read_metrics(folder)
    assert [line["step"] for line in found] == list(range(1, STEPS + 1))
    for line, expected in zip(found, metrics, strict=True):
        for key in ("rolling_hash", "ids_hash", "count", "tokens", "lr"):
            assert line[key] == expected[key], key
        assert line.get("fault") == expected.get("fault")
        if "fault" not in expected:
            assert line["loss"] == pytest.approx(expected["loss"], rel=1e-6)
            assert line["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-5)
    last = folder / "checkpoints" / f"step-{STEPS:08d}"
    pairs = zip(load_model(last).parameters(), model.parameters(), strict=True)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in pairs)
    status = json.loads((folder / "status.json").read_text())
    assert (status["step"], status["state"]) == (STEPS, "finished")
    assert not (folder / "joining").exists()


def processes_by_step(folder):
    return [line["processes"] for line in read_metrics(folder)]


def test_copies_that_all_stay_train_like_one(tmp_path, alone, lighthouse):
    run(tmp_path / "run", lighthouse, 3)
    assert_like_alone(tmp_path / "run", alone)
    assert processes_by_step(tmp_path / "run") == [3] * STEPS


@pytest.mark.parametrize(("point", "size"), [("forward", 3), ("gradients", 4)])
def test_a_step_in_which_a_copy_is_killed_is_done_again(
    tmp_path, alone, lighthouse, point, size
):
    run(tmp_path / "run", lighthouse, size, copy_2={"die": (point, 5)})
    assert_like_alone(tmp_path / "run", alone)
    assert processes_by_step(tmp_path / "run") == [size] * 4 + [size - 1] * 6


@pytest.mark.parametrize(
    ("point", "step"), [("committed", 5), ("line", 5), ("saving", STEPS)]
)
def test_another_writes_on_where_the_first_is_killed(
    tmp_path, alone, lighthouse, point, step
):
    run(tmp_path / "run", lighthouse, 2, copy_0={"die": (point, step)})
    assert_like_alone(tmp_path / "run", alone)


def test_a_copy_that_is_started_again_takes_part_again(tmp_path, alone, lighthouse):
    folder = tmp_path / "run"
    patient = {"data": {"awaited": "again", "since": 4}}
    first = begin(0, folder, lighthouse, meet=2, die=("forward", 4))
    second = begin(1, folder, lighthouse, meet=2, **patient)
    assert ended([first]) == [KILLED]
    elastic_worker.wait_for(lambda: len(read_metrics(folder)) == 4)
    again = begin(0, folder, lighthouse, meet=1, **patient)
    (folder / "arrived-again").touch()
    assert ended([second, again]) == [0, 0]
    assert_like_alone(folder, alone)
    found = processes_by_step(folder)
    assert found[:4] == [2, 2, 2, 1]
    assert found[-1] == 2


def test_a_copy_that_is_asked_to_stop_leaves_and_the_others_go_on(
    tmp_path, alone, lighthouse
):
    folder = tmp_path / "run"
    run(folder, lighthouse, 2, copy_0={"stop": 4})
    assert (folder / "left-0").exists()
    assert_like_alone(folder, alone)
    assert processes_by_step(folder) == [2] * 4 + [1] * 6


def test_copies_that_are_all_asked_to_stop_save_and_go_on_later(
    tmp_path, alone, lighthouse
):
    folder = tmp_path / "run"
    run(folder, lighthouse, 2, copy_0={"stop": 4}, copy_1={"stop": 4})
    assert (folder / "left-0").exists()
    assert (folder / "left-1").exists()
    assert [path.name for path in (folder / "checkpoints").iterdir()] == [
        "step-00000003",
        "step-00000004",
    ]
    run(folder, lighthouse, 3)
    assert_like_alone(folder, alone)
    assert processes_by_step(folder) == [2] * 4 + [3] * 6


def test_a_first_that_alone_misses_a_commit_is_given_the_step(
    tmp_path, alone, lighthouse
):
    folder = tmp_path / "run"
    missed, killed = {"stand": ("missed", 5)}, {"die": ("forward", 8)}
    run(folder, lighthouse, 2, copy_0=missed, copy_1=killed)
    assert_like_alone(folder, alone)
    assert processes_by_step(folder) == [2] * 7 + [1] * 3


def test_a_step_that_died_with_its_only_witness_is_done_again(
    tmp_path, alone, lighthouse
):
    folder = tmp_path / "run"
    killed, missed = {"die": ("told", 5)}, {"stand": ("missed", 5)}
    run(folder, lighthouse, 2, copy_0=killed, copy_1=missed)
    assert_like_alone(folder, alone)
    assert processes_by_step(folder) == [2] * 4 + [1] * 6


@pytest.mark.parametrize(("point", "steps"), [("entered", 4), ("uncommitted", 5)])
def test_an_incident_is_entered_once_wherever_the_first_is_killed(
    tmp_path, lighthouse, point, steps
):
    faulty = {"objective": elastic_worker.NanAtStep5}
    alone = train_alone(tmp_path / "alone", elastic_worker.NanAtStep5())
    folder = tmp_path / "run"
    killed = {"die": (point, 5), **faulty}
    run(folder, lighthouse, 2, copy_0=killed, copy_1=faulty)
    assert_like_alone(folder, alone)
    assert processes_by_step(folder) == [2] * steps + [1] * (STEPS - steps)
    (incident,) = IncidentLog(folder).read()
    assert (incident["step"], incident["action"]) == (5, "skipped")


def test_what_a_first_writes_that_stood_still_for_a_while_is_not_double(
    tmp_path, alone, lighthouse
):
    folder = tmp_path / "run"
    patient = {"data": {"awaited": "woken", "since": 7}}
    first = begin(0, folder, lighthouse, meet=2, stand=("line", 5))
    second = begin(1, folder, lighthouse, meet=2, **patient)
    elastic_worker.wait_for(lambda: len(read_metrics(folder)) == 7)
    (folder / "arrived-woken").touch()
    os.kill(first.pid, signal.SIGCONT)
    assert ended([first, second]) == [0, 0]
    assert_like_alone(folder, alone)
    assert processes_by_step(folder)[:7] == [2] * 5 + [1] * 2


def test_a_copy_with_other_data_is_refused_and_the_others_go_on(
    tmp_path, alone, lighthouse
):
    folder = tmp_path / "run"
    first = begin(0, folder, lighthouse, meet=2)
    other = begin(1, folder, lighthouse, meet=2, data={"rows": ROWS + 1})
    assert ended([first, other]) == [0, 1]
    assert_like_alone(folder, alone)
    assert processes_by_step(folder) == [1] * STEPS


@pytest.mark.parametrize("lighthouse", [2], indirect=True)
def test_the_command_trains_in_copies_started_alone(tmp_path, lighthouse):
    path = write_run(tmp_path, "steps = 6", "[parallel]", 'elastic = "torchft"')
    path.write_text("max_rewinds = 0\nthreads = 1\n" + path.read_text())
    arguments = ["pretrain", "--json", "--config", str(path)]
    told = [tmp_path / "told-0", tmp_path / "told-1"]
    copies = [fork(elastic_worker.command, arguments, lighthouse, to) for to in told]
    assert ended(copies) == [0, 0]
    assert [json.loads(to.read_text())["step"] for to in told] == [6, 6]
    metrics = read_metrics(tmp_path / "run")
    assert [line["step"] for line in metrics] == [1, 2, 3, 4, 5, 6]
    assert {line["processes"] for line in metrics} == {2}
    tokens = json.loads((tmp_path / "run" / "tokens.json").read_text())
    assert tokens["sources"]["web"]["consumed"] == metrics[-1]["tokens"]


def test_a_copy_that_stands_elsewhere_ends_and_the_others_go_on(
    tmp_path, alone, lighthouse
):
    folder = tmp_path / "run"
    first = begin(0, folder, lighthouse, meet=2)
    other = begin(1, folder, lighthouse, meet=2, stand=("elsewhere", 5))
    assert ended([first, other]) == [0, 1]
    assert_like_alone(folder, alone)
    assert processes_by_step(folder) == [2] * 5 + [1] * 5


def test_a_run_whose_lighthouse_ends_is_saved_and_goes_on_with_another(
    tmp_path, alone, lighthouse
):
    folder = tmp_path / "run"
    how = {
        "data": {"awaited": "dark", "since": 4},
        "environ": {"TORCHFT_QUORUM_TIMEOUT_SEC": "4"},
    }
    address = tmp_path / "address"
    server = fork(elastic_worker.serve, address)
    elastic_worker.wait_for(address.exists)
    copies = [begin(n, folder, address.read_text(), meet=2, **how) for n in (0, 1)]
    elastic_worker.wait_for(lambda: processes_by_step(folder) == [2] * 4)
    server.kill()
    server.join()
    (folder / "arrived-dark").touch()
    assert ended(copies) == [1, 1]
    done = len(read_metrics(folder))  # the fifth if its quorum was there before the end
    assert done in (4, 5)
    assert (folder / "checkpoints" / f"step-{done:08d}").exists()
    run(folder, lighthouse, 2)
    assert_like_alone(folder, alone)


def elastic(tmp_path, **changes):
    return ElasticTrainer(
        tiny_model(),
        PretrainObjective(),
        TinyData(rows=ROWS),
        elastic_worker.config(tmp_path, **changes),
    )


@pytest.mark.parametrize("name", ["shard", "tensor", "context"])
def test_a_copy_of_several_processes_is_refused(name):
    with pytest.raises(
        ConfigError, match=f"parallel.{name}: expected 1 with `parallel"
    ):
        ParallelConfig(elastic="torchft", **{name: 2})


def test_a_number_of_copies_is_refused():
    with pytest.raises(ConfigError, match="copies are those that are there"):
        ParallelConfig(elastic="torchft", replicate=2)


def test_another_word_is_refused():
    with pytest.raises(ConfigError, match="expected \"torchft\", found 'ray'"):
        ParallelConfig(elastic="ray")


def test_going_back_is_refused(tmp_path):
    with pytest.raises(
        ConfigError, match=r"max_rewinds: expected 0 with `parallel\.ela"
    ):
        elastic_worker.config(tmp_path, max_rewinds=2)


def test_a_run_without_a_lighthouse_is_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("TORCHFT_LIGHTHOUSE", raising=False)
    with pytest.raises(ConfigError, match="TORCHFT_LIGHTHOUSE: expected the address"):
        elastic(tmp_path)


def test_a_lighthouse_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHFT_LIGHTHOUSE", "http://127.0.0.1:1")
    monkeypatch.setenv("TORCHFT_CONNECT_TIMEOUT_SEC", "1")
    with pytest.raises(
        ConnectionError, match=r"a quorum at http://127\.0\.0\.1:1, found"
    ):
        elastic(tmp_path).run()


def test_seconds_that_are_none_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHFT_LIGHTHOUSE", "http://127.0.0.1:1")
    monkeypatch.setenv("TORCHFT_TIMEOUT_SEC", "soon")
    with pytest.raises(ConfigError, match="a whole number of seconds, found soon"):
        elastic(tmp_path)


def test_fp16_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHFT_LIGHTHOUSE", "http://127.0.0.1:1")
    with pytest.raises(ConfigError, match="expected `fp32` or `bf16` with `parallel"):
        elastic(tmp_path, precision="fp16")


@pytest.mark.parametrize("command", ["sft", "dpo", "ladder"])
def test_the_other_commands_refuse_copies_that_come_and_go(command):
    with pytest.raises(ConfigError, match=f"expected none for `triptych {command}`"):
        require_fixed(ParallelConfig(elastic="torchft"), command)


def test_a_run_without_torchft_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchft", None)
    with pytest.raises(ConfigError, match=r"pip install 'triptych\[ft\]'"):
        elastic(tmp_path)


def test_a_copy_that_torchrun_started_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHFT_LIGHTHOUSE", "http://127.0.0.1:1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="expected every copy to be started alone"):
        elastic(tmp_path)


def test_a_plain_trainer_refuses_copies_that_come_and_go(tmp_path):
    config = elastic_worker.config(tmp_path)
    assert trainer_for(config) is ElasticTrainer
    with pytest.raises(ConfigError, match="expected an `ElasticTrainer`, found a `Tra"):
        Trainer(tiny_model(), PretrainObjective(), TinyData(), config)
