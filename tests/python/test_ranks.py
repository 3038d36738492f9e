"""Processes that train together come to what one alone comes to."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from datetime import timedelta
from itertools import chain
from pathlib import Path
from unittest import mock

import pytest
import torch

import rank_worker
from small_shards import alike, write_sources
from tiny import TinyData, tiny_model, tiny_train_config
from triptych.device import local_device
from triptych.errors import ConfigError
from triptych.language_model import use_threads
from triptych.model.huggingface import load_model
from triptych.train import OptimizerConfig, PretrainObjective, Trainer, ranks
from triptych.train.incidents import IncidentLog
from triptych.train.metrics import read_metrics
from triptych.train.ranks import Ranks, add_sums, joined, nearest_divisors

HERE = Path(__file__).parent
STEPS = 10


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def launch(folder, size, until=STEPS, **settings):
    """Trains in so many processes."""
    start(rank_worker.train, size, folder, until, **settings)


def start(target, size, *arguments, **settings):
    """Calls a function in processes forked from one that has imported torch."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["rank_worker", "sharded_worker"])
    port = free_port()
    processes = [
        context.Process(
            target=target, args=(rank, size, port, *arguments), kwargs=settings
        )
        for rank in range(size)
    ]
    path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    with mock.patch.dict(os.environ, PYTHONPATH=path):  # what the server imports by
        for process in processes:
            process.start()
    for process in processes:
        process.join(timeout=240)
    assert [process.exitcode for process in processes] == [0] * size


def trained_alone(folder, **settings):
    """Metrics and weights of one process that was never stopped."""
    config = tiny_train_config(folder, micro_batch_rows=1, **settings)
    model = tiny_model()
    Trainer(model, PretrainObjective(), TinyData(), config).run()
    return read_metrics(folder), model


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return trained_alone(tmp_path_factory.mktemp("alone"))


def assert_like_alone(folder, alone):
    metrics, model = alone
    found = read_metrics(folder)
    assert [line["step"] for line in found] == list(range(1, STEPS + 1))
    for line, expected in zip(found, metrics, strict=True):
        for key in ("rolling_hash", "ids_hash", "count", "tokens", "lr"):
            assert line[key] == expected[key], key
        assert line["loss"] == pytest.approx(expected["loss"], rel=1e-6)
        assert line["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-5)
    last = folder / "checkpoints" / f"step-{STEPS:08d}"
    pairs = zip(load_model(last).parameters(), model.parameters(), strict=True)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in pairs)


def test_one_then_two_then_four_then_two_processes_train_like_one(tmp_path, alone):
    for processes, until in ((1, 2), (2, 5), (4, 7), (2, STEPS)):
        launch(tmp_path, processes, until)
    assert_like_alone(tmp_path, alone)


def test_muon_in_float32_trains_alike_in_any_number_of_processes(tmp_path):
    muon = {"optimizer": OptimizerConfig(name="muon")}  # as `pretrain` has it
    for processes, until in ((1, 2), (2, 5), (4, 7), (2, STEPS)):
        launch(tmp_path / "grows", processes, until, **muon)
    assert_like_alone(tmp_path / "grows", trained_alone(tmp_path / "alone", **muon))


def test_two_processes_stop_and_go_on_with_the_same_bits(tmp_path):
    launch(tmp_path / "whole", 2)
    launch(tmp_path / "parts", 2, until=4)
    launch(tmp_path / "parts", 2)
    last = Path("checkpoints") / f"step-{STEPS:08d}" / "model.safetensors"
    whole, parts = (tmp_path / name / last for name in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()


@pytest.mark.parametrize("parallel", [{}, {"shard": 2}], ids=["copies", "shards"])
def test_a_fault_in_the_memory_of_one_sends_all_back(tmp_path, alone, parallel):
    start(rank_worker.train_spoilt, 2, tmp_path, parallel)
    assert_like_alone(tmp_path, alone)
    (incident,) = IncidentLog(tmp_path).read()
    assert (incident["step"], incident["action"]) == (6, "rewound")


@pytest.mark.parametrize(
    "parallel", [{}, {"shard": 2}, {"tensor": 2}], ids=["copies", "shards", "products"]
)
def test_before_the_first_checkpoint_all_go_back_to_one_beginning(
    tmp_path, alone, parallel
):
    start(rank_worker.train_spoilt, 2, tmp_path, parallel, checkpoint_every_steps=99)
    assert_like_alone(tmp_path, alone)
    (incident,) = IncidentLog(tmp_path).read()
    assert (incident["step"], incident["action"]) == (6, "rewound")


@pytest.mark.parametrize("parallel", [{}, {"context": 2}, {"tensor": 2}])
def test_a_sum_that_one_process_alone_has_wrong_is_computed_again_by_all(
    tmp_path, alone, parallel
):
    start(rank_worker.train_with_a_gradient_spoilt, 2, tmp_path, parallel)
    (found,) = IncidentLog(tmp_path).read()
    assert (found["step"], found["action"]) == (5, "updated")
    assert (found["fault"], found["repeated"]) == ("not_finite", False)
    assert_like_alone(tmp_path, alone)


def test_a_process_that_loses_another_says_so_and_is_no_fault_of_triptych(tmp_path):
    start(rank_worker.lose_the_last, 2, tmp_path)


ALONE_OF_TWO = """
import signal
from triptych.train.ranks import joined
signal.signal(signal.SIGTERM, lambda *_: None)
print("asks", flush=True)
with joined():
    pass
"""


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_waits_for_others_to_join_ends_by_a_signal(stop):
    told = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    with socket.socket() as silent:  # listens, and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        environment = os.environ | told | {"MASTER_PORT": str(silent.getsockname()[1])}
        command = [sys.executable, "-c", ALONE_OF_TWO]
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE
        ) as alone:
            assert alone.stdout.readline() == b"asks\n"
            silent.accept()  # it waits for an answer by now
            alone.send_signal(stop)
            try:
                assert alone.wait(60) == -stop
            finally:
                alone.kill()


def test_processes_that_joined_by_themselves_know_how_many_they_are_and_who_writes():
    start(rank_worker.join_untold, 2)


def test_processes_that_would_go_on_from_different_checkpoints_stop():
    start(rank_worker.disagree, 2)


def test_a_number_that_does_not_divide_the_rows_names_its_neighbours():
    with pytest.raises(
        ConfigError, match="divides the 12 rows of a step, found 5"
    ) as e:
        Ranks(rank=0, size=5).share(12)
    assert "the nearest are 4, 6" in str(e.value)
    assert nearest_divisors(4, 7) == [4]


def test_rows_of_a_later_step_that_cannot_be_shared_are_refused_at_the_start(tmp_path):
    start(rank_worker.refuse_rows, 2, tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_a_process_with_another_configuration_or_data_is_refused_by_all(tmp_path):
    cases = {
        "rate": r"optimizer.weight_decay: .* found 0.1 in process 0 and 0.3 in process 1",
        "saving": r"checkpoint_every_steps: .* 2 processes, found 3 .* and 4",
        "type": r'precision: .* found "fp32" in process 0 and "auto" in process 1',
        "width": r"model.hidden_size: .* found 32 in process 0 and 64 in process 1",
        "loss": r"objective.z_loss: .* found 0.0 in process 0 and 0.0001 in process 1",
        "rows": r"data \(of the rows: .* in process 1; start all with the same",
    }
    start(rank_worker.refuse_others, 2, tmp_path / "run", cases)


def test_gradients_of_many_small_parameters_are_each_counted_once(monkeypatch):
    """They were as often as there were others in the bucket: 8,000 took 1.7 s a step."""

    class Small(torch.Tensor):
        asked = 0

        def numel(self):
            Small.asked += 1
            return super().numel()

    monkeypatch.setattr(ranks, "BUCKET_NUMBERS", 1000)
    parameters = [torch.zeros(n).as_subclass(Small) for n in [7] * 600 + [999, 2000, 1]]
    buckets = [[p.shape[0] for p in bucket] for bucket in ranks._buckets(parameters)]
    assert [*chain(*buckets)] == [p.shape[0] for p in parameters]
    assert all(sum(bucket) <= 1000 or len(bucket) == 1 for bucket in buckets)
    assert len(buckets) == 5 + 3
    assert Small.asked <= 2 * len(parameters)


def test_shares_are_all_the_rows_in_order():
    for size in (1, 2, 3, 4, 6, 12):
        shares = [Ranks(rank=rank, size=size).share(12) for rank in range(size)]
        assert [row for share in shares for row in share] == list(range(12))


def test_sums_of_a_process_without_any_are_no_sums():
    parts = [{}, {"loss": 1.0, "z": 2.0}, {"loss": 0.5}]
    assert add_sums(parts) == {"loss": 1.5, "z": 2.0}


def write_run(folder, *lines):
    """A configuration of three steps over a few documents; returns its path."""
    write_sources(folder, web=alike())
    settings = {
        "output": str(folder / "run"),
        "tokenizer": str(folder / "tokenizer.json"),
        "seq_len": 32,
        "checkpoint_every_steps": 2,
    }
    head = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    head += ["[sources]", f'web = "{folder / "web"}"', "[model]", "hidden_size = 16"]
    head += ["num_hidden_layers = 1", "num_attention_heads = 2", "[[stage]]"]
    head += ['stage = "only"', "learning_rate = 0.01", "batch_size = 4"]
    (folder / "run.toml").write_text("\n".join([*head, *lines]))
    return folder / "run.toml"


def test_the_command_trains_in_the_processes_of_torchrun(tmp_path):
    write_run(tmp_path, "steps = 3")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "triptych", "pretrain", "--json"]
    command += ["--config", str(tmp_path / "run.toml")]
    done = subprocess.run(
        command, env=os.environ, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["step"] == 3  # one process speaks for both
    metrics = read_metrics(tmp_path / "run")
    assert [line["step"] for line in metrics] == [1, 2, 3]
    assert {line["processes"] for line in metrics} == {2}
    tokens = json.loads((tmp_path / "run" / "tokens.json").read_text())
    assert tokens["sources"]["web"]["consumed"] == metrics[-1]["tokens"]


@pytest.mark.parametrize(
    "told",
    [
        {"WORLD_SIZE": "two"},
        {"WORLD_SIZE": "0"},
        {"WORLD_SIZE": "2", "RANK": "-1"},
        {"WORLD_SIZE": "2", "RANK": "2"},
        {"WORLD_SIZE": "2", "RANK": "0.5"},
    ],
)
def test_what_torchrun_would_not_say_is_refused_by_name(monkeypatch, told):
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    name, value = list(told.items())[-1]
    with pytest.raises(ConfigError, match=f"{name}: expected .*{value}"), joined():
        pass


def test_a_first_machine_that_nobody_knows_is_refused_by_its_name(monkeypatch):
    monkeypatch.setattr(ranks, "NAME_SECONDS", 0.0)
    told = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "none.invalid"}
    for name, value in {**told, "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=r"MASTER_ADDR: .*found `none\.invalid`"):
        with joined():
            pass


def test_who_waits_long_for_the_others_says_so(monkeypatch, caplog):
    monkeypatch.setattr(ranks, "SILENT_SECONDS", 0.0)
    monkeypatch.setattr(ranks, "TIMEOUT", timedelta(seconds=1))
    told = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    port = str(free_port())
    for name, value in {**told, "MASTER_PORT": port}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="expected those that `torchrun` sets"):
        with joined():
            pass
    assert f"process 0 waits for the others of 2, at 127.0.0.1:{port}" in caplog.text


def test_threads_of_a_machine_without_processes_are_refused_by_name(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "0")
    with pytest.raises(ConfigError, match="LOCAL_WORLD_SIZE: expected a number from 1"):
        use_threads(None)


def test_a_process_computes_on_the_gpu_of_its_number(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert local_device() == torch.device("cuda", 3)
    assert local_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert local_device() == torch.device("cpu")
    with pytest.raises(ConfigError, match="expected a GPU that torch finds"):
        local_device("cuda")
