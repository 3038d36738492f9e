"""One process of a training over some, for `test_ranks`.

A module of its own, since the server that the processes are forked from imports it.
"""

import os

import pytest
import torch
import torch._dynamo
import torch.distributed as dist

from tiny import TinyData, tiny_model, tiny_train_config
from triptych.commands.training import require_processes
from triptych.errors import ConfigError, IntegrityError, Interrupted
from triptych.train import (
    LossSum,
    OptimizerConfig,
    PretrainObjective,
    RouterBalance,
    Trainer,
)
from triptych.train.parallel import ParallelConfig
from triptych.train.precision import Precision
from triptych.train.ranks import (
    Ranks,
    alone,
    is_first_process,
    joined,
    num_processes,
)

ROWS = 4


def meet(rank, size, port):
    """Sets what `torchrun` sets."""
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(1)


def join_untold(rank, size, port):
    """Joins as under `torch.multiprocessing.spawn`: the environment says nothing."""
    for name in ("RANK", "WORLD_SIZE"):
        os.environ.pop(name, None)
    dist.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size
    )
    with joined():  # does not join again, nor leave
        assert (num_processes(), is_first_process()) == (size, rank == 0)
        require_processes(ParallelConfig(shard=size))
        with alone():
            assert (num_processes(), is_first_process()) == (1, True)
    dist.destroy_process_group()


def disagree(rank, size, port):
    """Goes on from another checkpoint in each process."""
    meet(rank, size, port)
    with joined(), pytest.raises(IntegrityError, match="the same in all 2 processes"):
        Ranks.current().agree(f"step-{rank}", "checkpoint to go on from")


def train(rank, size, port, folder, until, **settings):
    """Goes on with the tiny training in `folder`, up to step `until`."""
    meet(rank, size, port)
    with joined():
        trainer = Trainer(
            tiny_model(),
            PretrainObjective(),
            TinyData(rows=ROWS),
            tiny_train_config(folder, micro_batch_rows=1, **settings),
            # One process is asked to stop: all do.
            should_stop=lambda: rank == size - 1 and trainer.state.step >= until,
        )
        try:
            trainer.run()
        except Interrupted:
            return


def lose_the_last(rank, size, port, folder):
    """Trains until the last process is suddenly gone."""
    meet(rank, size, port)
    with pytest.raises(ConnectionError, match="another process of this run"):
        train_and_go(rank == size - 1, folder)


def train_and_go(goes, folder):
    """Trains; a process that `goes` ends after two steps without a word."""

    def gone():
        if goes and trainer.state.step == 2:
            os._exit(0)
        return False

    with joined():
        trainer = Trainer(
            tiny_model(),
            PretrainObjective(),
            TinyData(rows=ROWS),
            tiny_train_config(folder, micro_batch_rows=1),
            should_stop=gone,
        )
        trainer.run()


def train_spoilt(rank, size, port, folder, parallel, **settings):
    """Trains to the end; once the last process has a weight that is not a number."""
    meet(rank, size, port)
    with joined():
        spoilt = []

        def spoil():
            if trainer.state.step == 5 and rank == size - 1 and not spoilt:
                spoilt.append(trainer.placement.held()["model.norm.weight"])
                with torch.no_grad():
                    spoilt[0][0] = torch.nan
            return False

        trainer = Trainer(
            tiny_model(),
            PretrainObjective(),
            TinyData(rows=ROWS),
            tiny_train_config(
                folder,
                micro_batch_rows=1,
                parallel=ParallelConfig(**parallel),
                **settings,
            ),
            should_stop=spoil,
            # The first one's is what all get.
            begin_again=lambda: tiny_model(seed=rank),
        )
        assert trainer.run().skipped_steps == 0


def train_with_a_gradient_spoilt(rank, size, port, folder, parallel):
    """Trains to the end; once the last process alone has a sum that is not a number."""
    meet(rank, size, port)
    with joined():
        trainer = Trainer(
            tiny_model(),
            PretrainObjective(),
            TinyData(rows=ROWS),
            tiny_train_config(
                folder,
                micro_batch_rows=1,
                max_rewinds=0,
                parallel=ParallelConfig(**parallel),
            ),
        )
        add_up, spoilt = trainer.placement.sum_gradients, []

        def spoil():
            add_up()
            if trainer.state.step == 4 and rank == size - 1 and not spoilt:
                spoilt.append(trainer.placement.held()["model.norm.weight"])
                spoilt[0].grad[0] = torch.nan

        trainer.placement.sum_gradients = spoil
        assert trainer.run().skipped_steps == 0


def refuse_others(rank, size, port, folder, cases):
    """Asks for trainings that the last process has another configuration or data for."""
    meet(rank, size, port)
    with joined():
        for what, message in cases.items():
            changes = what_differs(what) if rank == size - 1 else {}
            with pytest.raises(ConfigError, match=message):
                Trainer(
                    tiny_model(**changes.get("model", {})),
                    changes.get("objective", PretrainObjective()),
                    changes.get("data", TinyData(rows=ROWS)),
                    tiny_train_config(folder, **changes.get("config", {})),
                )
    assert not folder.exists()


def what_differs(what):
    """What a process has otherwise than the others, by a word for it."""
    return {
        "rate": {"config": {"optimizer": OptimizerConfig(weight_decay=0.3)}},
        "saving": {"config": {"checkpoint_every_steps": 4}},
        "type": {"config": {"precision": "auto"}},
        "width": {"model": {"hidden_size": 64}},
        "loss": {"objective": PretrainObjective(z_loss=1e-4)},
        "rows": {"data": Reversed(rows=ROWS)},
    }[what]


class Reversed(TinyData):
    """Other rows in as many steps."""

    def step_hash(self, step):
        return super().step_hash(step)[::-1]


class FewerLater(TinyData):
    """Rows that two processes divide in the first steps only."""

    def rows_per_step(self, step):
        return 4 if step < 6 else 3


def refuse_rows(rank, size, port, folder):
    """Asks for a training whose last steps the processes cannot share."""
    meet(rank, size, port)
    with joined():
        trainer = Trainer(
            tiny_model(), PretrainObjective(), FewerLater(), tiny_train_config(folder)
        )
        with pytest.raises(ConfigError, match="divides the 3 and 4 rows of a step"):
            trainer.run()
        assert trainer.state.step == 0


def train_experts(rank, size, port, folder, how):
    """Trains a model with experts, balanced, to its end."""
    meet(rank, size, port)
    from test_router_balance import sparse_model

    with joined():
        Trainer(
            sparse_model(**how["shape"]),
            RouterBalance(PretrainObjective(), how["weight"]),
            TinyData(rows=ROWS),
            tiny_train_config(
                folder, micro_batch_rows=1, parallel=ParallelConfig(**how["parallel"])
            ),
        ).run()


class OverflowAt(PretrainObjective):
    """A loss whose gradient is too large for fp16, of one document."""

    def loss(self, model, batch):
        found = super().loss(model, batch)
        hit = int(batch.documents[0]) <= 15 < int(batch.documents[-1]) + 1
        return LossSum(found.loss_sum * 1e36 if hit else found.loss_sum, found.count)


def train_fp16(rank, size, port, folder, until, parallel):
    """Trains in fp16; step 4 overflows, with copies in the last process alone."""
    meet(rank, size, port)
    with joined():
        trainer = Trainer(
            tiny_model(),
            OverflowAt(),
            TinyData(rows=ROWS),
            tiny_train_config(
                folder,
                micro_batch_rows=1,
                precision="fp16",
                parallel=ParallelConfig(**parallel),
            ),
            should_stop=lambda: trainer.state.step >= until,
        )
        try:
            trainer.run()
        except Interrupted:
            pass
        scales = Ranks.current().gather(trainer.scaler.get_scale())
        assert scales == [2.0**15] * size, scales


def overflow_alone(rank, size, port):
    """Only the last process has an infinite gradient, and they are not added up."""
    meet(rank, size, port)
    with joined():
        scaler = Precision("fp16", "cpu").scaler(size)
        weight = torch.nn.Parameter(torch.ones(3))
        optimizer = torch.optim.SGD([weight], lr=1.0)
        weight.grad = torch.full((3,), torch.inf if rank == size - 1 else 1.0)
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        assert scaler.get_scale() == 2.0**15
        assert torch.equal(weight, torch.ones(3))
