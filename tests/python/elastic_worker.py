"""One copy of an elastic training, and the points at which it is killed, for `test_elastic`.

A module of its own, since the server that the processes are forked from imports it.
"""

import os
import signal
import sys
import time
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

import torch
import torch._dynamo
from torchft.coordination import LighthouseServer

from tiny import TinyData, tiny_model, tiny_train_config
from triptych import cli
from triptych.artefact import write_text
from triptych.commands import pretrain  # noqa: F401, for those that are forked
from triptych.errors import Interrupted
from triptych.train import (
    ElasticTrainer,
    LossSum,
    PretrainObjective,
    checkpoint,
)
from triptych.train.metrics import read_metrics
from triptych.train.parallel import ParallelConfig
from triptych.train.run_log import RunLog

ROWS = 5  # which neither 2 nor 3 copies divide


def config(folder, **changes):
    """The tiny training in copies that come and go."""
    changes = {"micro_batch_rows": 1, "max_rewinds": 0, **changes}
    return tiny_train_config(
        folder, parallel=ParallelConfig(elastic="torchft"), **changes
    )


def train(name, folder, lighthouse, how):
    """Trains as copy `name`, once as many as `how["meet"]` are there.

    `how["die"]` is a point of `POINTS` and a step from 1, `how["stand"]` likewise;
    `how["stop"]` a step after which this copy is asked to stop.
    """
    os.environ |= {
        **how.get("environ", {}),
        "TORCHFT_LIGHTHOUSE": lighthouse,
        "TORCHFT_TIMEOUT_SEC": "200",  # no test may come to its end by this
        "REPLICA_GROUP_ID": str(name),
    }
    torch.set_num_threads(1)
    trainer = ElasticTrainer(
        tiny_model(seed=name),  # all but one are given another's weights
        how.get("objective", PretrainObjective)(),
        Rows(folder, **{"rows": ROWS, **how.get("data", {})}),
        config(folder, **how.get("config", {})),
        should_stop=lambda: trainer.state.step >= how.get("stop", 1000),
    )
    trainer.copies.join()
    for what, number in (("die", signal.SIGKILL), ("stand", signal.SIGSTOP)):
        if what in how:
            point, step = how[what]
            POINTS[point](trainer, step, partial(os.kill, os.getpid(), number))
    arrive(folder, name, how["meet"])
    try:
        trainer.run()
    except Interrupted:
        (folder / f"left-{name}").touch()


class NanAtStep5(PretrainObjective):
    """A loss that is not a number in all rows of a step."""

    def loss(self, model, batch):
        found = super().loss(model, batch)
        hit = int(batch.documents[0]) // ROWS == 4
        return LossSum(found.loss_sum * float("nan" if hit else 1), found.count)


def serve(path=None, min_replicas=1):
    """A lighthouse that misses a copy after a second.

    With a path it serves until it is killed, and its address is put there.
    """
    server = LighthouseServer(
        bind="127.0.0.1:0",
        min_replicas=min_replicas,
        join_timeout_ms=20_000,
        quorum_tick_ms=20,
        heartbeat_timeout_ms=1_000,
    )
    if path is not None:
        write_text(path, server.address())
        time.sleep(600)
    return server


def command(arguments, lighthouse, path):
    """`triptych …` as a copy; what it prints goes to `path`."""
    os.environ["TORCHFT_LIGHTHOUSE"] = lighthouse
    with open(path, "w") as printed, redirect_stdout(printed):
        status = cli.main(arguments)
    sys.exit(status)


def arrive(folder, name, number):
    """Waits until so many copies have been here; all are heard of by the lighthouse."""
    folder.mkdir(exist_ok=True)
    (folder / f"arrived-{name}").touch()
    wait_for(lambda: len(list(folder.glob("arrived-*"))) >= number)


def wait_for(there, seconds=60.0):
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


class Rows(TinyData):
    """Rows that from a step on come slowly, and first when another copy has arrived."""

    def __init__(self, folder, awaited=None, since=0, **shape):
        super().__init__(**shape)
        self.folder, self.awaited, self.since = Path(folder), awaited, since

    def batch(self, step, first_row=0, num_rows=None):
        if self.awaited is not None and step >= self.since:
            wait_for(lambda: (self.folder / f"arrived-{self.awaited}").exists())
            time.sleep(0.05)
        return super().batch(step, first_row, num_rows)


def before(owner, name, condition, happens):
    """Something happens where `owner.name` is about to be called, if a condition holds."""
    called = getattr(owner, name)

    def disturbed(*arguments, **keywords):
        if condition(*arguments):
            happens()
        return called(*arguments, **keywords)

    setattr(owner, name, disturbed)


def in_forward(trainer, step, happens):
    before(
        PretrainObjective, "loss", lambda *_: trainer.state.step == step - 1, happens
    )


def before_gradients(trainer, step, happens):
    """The others are adding gradients up, and wait for this one's."""
    before(
        trainer.placement,
        "sum_gradients",
        lambda: trainer.state.step == step - 1,
        happens,
    )


def once_entered(trainer, _, happens):
    """The incident is on the disk, and the others wait to hear of it."""
    write = trainer.incidents.write

    def writes(incident):
        write(incident)
        happens()

    trainer.incidents.write = writes


def before_the_commit(trainer, step, happens):
    """All is exchanged: the others commit the step."""
    before(trainer.copies, "commit", lambda: trainer.state.step == step - 1, happens)


def when_committed(trainer, step, happens):
    """The others have the step, or are about to; this one has not updated yet."""
    before(trainer.optimizer, "step", lambda: trainer.state.step == step - 1, happens)


def before_its_line(trainer, step, happens):
    """The step is done everywhere, and nothing tells of it."""
    before(RunLog, "report", lambda _, found, *__: found["step"] == step, happens)


def while_saving(trainer, step, happens):
    """A draft lies there."""
    before(
        checkpoint, "finish", lambda _, __, state, *___: state["step"] == step, happens
    )


def when_told(trainer, step, happens):
    """The step's line is written."""
    folder = Path(trainer.config.output)

    def is_told(_):
        done = trainer.state.step == step
        if done:
            wait_for(lambda: len(read_metrics(folder)) == step)
        return done

    before(trainer.copies, "meet", is_told, happens)


def missed(trainer, step, _):
    """This copy alone does not hear the end of the step, which the others commit."""
    manager = trainer.copies._manager
    tried = []

    def fails():
        if trainer.state.step == step - 1 and not tried:
            tried.append(step)
            manager.report_error(RuntimeError("nothing was heard"))
        return False

    before(trainer.copies, "commit", fails, None)


def elsewhere(trainer, step, _):
    """This copy did the step with others than the others did."""

    def drift(_):
        if trainer.state.step == step:
            trainer.copies.done_by -= 1

    before(trainer.copies, "meet", drift, None)


POINTS = {
    "forward": in_forward,
    "gradients": before_gradients,
    "entered": once_entered,
    "uncommitted": before_the_commit,
    "committed": when_committed,
    "line": before_its_line,
    "saving": while_saving,
    "told": when_told,
    "missed": missed,
    "elsewhere": elsewhere,
}
