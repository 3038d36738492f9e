"""What processes do for `test_sharded` and `test_invariance`.

A module of its own, since the server that the processes are forked from imports it. The
processes of a call join once and go through all cases, for joining is what takes long.
"""

import resource
from unittest import mock

import torch
import torch._dynamo
import torch.distributed.fsdp  # here, so that it is imported once for all processes
from safetensors.torch import save_file
from torch.distributed.checkpoint import load
from torch.distributed.fsdp import fully_shard

from rank_worker import meet
from tiny import TinyData, packed, tiny_model, tiny_train_config
from triptych import config
from triptych.commands.pretrain import PretrainConfig, pretrain
from triptych.commands.replay import replay
from triptych.errors import Interrupted, ResourceError
from triptych.train import (
    LossSum,
    OptimizerConfig,
    PretrainObjective,
    StageSchedule,
    Trainer,
    checkpoint,
    gradient,
)
from triptych.train.checkpoint_reader import CheckpointReader
from triptych.train.parallel import ParallelConfig
from triptych.train.ranks import joined

# With its usual epsilon of 1e-8, AdamW makes steps of gradients that are nothing but
# rounding (tokens that the step does not read); with this one it leaves them.
CALM = OptimizerConfig(eps=1e-4)
# Gentler than the tiny run's, under which a difference more than doubles at each step.
GENTLE = (
    StageSchedule(name="first", steps=6, max_lr=2e-3, warmup_steps=2),
    StageSchedule(name="second", steps=4, max_lr=1e-3, schedule="wsd"),
)


class NanAt(PretrainObjective):
    """A loss that is not a number, of one document: the data's fault."""

    def loss(self, model, batch):
        found = super().loss(model, batch)
        factor = torch.nan if 15 in batch.documents.tolist() else 1.0
        return LossSum(found.loss_sum * factor, found.count)


def trainer(folder, parallel, until=99, *, model=None, objective=None, **settings):
    """The tiny training, with gradients of which about half are clipped."""
    config = tiny_train_config(
        folder,
        **{
            "micro_batch_rows": 1,
            "clip_norm": 0.5,
            "stages": GENTLE,
            "checkpoint_every_steps": 99,  # but where a stage ends, twice
            "optimizer": CALM,
            "parallel": ParallelConfig(**parallel),
            **settings,
        },
    )
    found = Trainer(
        tiny_model(**(model or {})),
        objective or PretrainObjective(),
        TinyData(rows=4),
        config,
        should_stop=lambda: found.state.step >= until,
    )
    return found


def train(folder, parallel, until=99, **settings):
    """Goes on with it in `folder`, up to step `until`."""
    try:
        trainer(folder, parallel, until, **settings).run()
    except Interrupted:
        return


def train_all(rank, size, port, cases):
    """One training after another, in the same processes."""
    meet(rank, size, port)
    with joined():
        for arguments, settings in cases:
            train(*arguments, **settings)


def load_by_torch(rank, size, port, folder):
    """Loads a checkpoint as torch's own distributed checkpoints are, into pieces."""
    meet(rank, size, port)
    with joined():
        model = tiny_model()
        fully_shard(model)
        weights = dict(model.state_dict())
        wanted = checkpoint.stored_weights(folder).all()
        load({"model": weights}, storage_reader=CheckpointReader(folder))
        for name, tensor in wanted.items():
            assert weights[name].full_tensor().equal(tensor), name


def train_looking_ahead(rank, size, port, cases):
    """`train_all`, as on a device that computes while the host goes on."""
    gradient.ASYNCHRONOUS = ("cpu",)
    read = gradient.Numbers.read  # by a host that has launched the next step
    with mock.patch.object(gradient.Numbers, "read", autospec=True) as reading:
        reading.side_effect = read
        train_all(rank, size, port, cases)
    assert reading.call_count == 10 * len(cases)


class Documents:
    """The same documents in every step's rows, however many share a row."""

    num_steps, num_documents = 10, 8

    def __init__(self, per_row):
        self.per_row = per_row

    def rows_per_step(self, step):
        return self.num_documents // self.per_row

    def step_hash(self, step):
        return str(step)

    def batch(self, step, first_row=0, num_rows=None):
        num_rows = self.rows_per_step(step) if num_rows is None else num_rows
        first = first_row * self.per_row
        documents = range(first, first + num_rows * self.per_row)
        return packed(
            [self._document(step, n) for n in documents], first_document=first
        )

    def _document(self, step, number):
        """Ids of 3 to 17 tokens: processes have different counts to divide by."""
        generator = torch.Generator().manual_seed(1000 * step + number)
        length = 3 + (5 * number + step) % 15
        return torch.randint(3, 97, (length,), generator=generator).tolist()


class Short(Documents):
    """Documents of 2 and 3 tokens, fewer than processes that share them."""

    def _document(self, step, number):
        return super()._document(step, number)[: 2 + number % 2]


def gradients(
    folder, *, parallel, per_row, documents=Documents, model=None, **settings
):
    """The whole gradients of two steps, before clipping, by parameter."""
    config = tiny_train_config(
        folder, parallel=ParallelConfig(**parallel), optimizer=CALM, **settings
    )
    data, model = documents(per_row), tiny_model(**(model or {}))
    found = Trainer(model, PretrainObjective(), data, config)
    steps = []
    clip = found.placement.clip

    def recording(limit):
        steps.append(_whole_gradients(found))
        return clip(limit)

    found.placement.clip = recording
    found.placement.start_together()
    for step in range(2):
        found._step(step)
    return steps


def _whole_gradients(found):
    pieces = getattr(found.placement, "pieces", None)
    if pieces is None:
        named = found.model.named_parameters()
        return {name: parameter.grad.clone() for name, parameter in named}
    return {piece.name: piece.whole(piece.local.grad).clone() for piece in pieces}


def all_gradients(rank, size, port, folder, cases):
    """Gradients of every case, in a file of the first process."""
    meet(rank, size, port)
    with joined():
        found = {
            name: gradients(folder / name, **settings)
            for name, settings in cases.items()
        }
    if rank == 0:
        tensors = {
            f"{name}/{step}/{parameter}": gradient.contiguous()
            for name, steps in found.items()
            for step, named in enumerate(steps)
            for parameter, gradient in named.items()
        }
        save_file(tensors, folder / "gradients.safetensors")


def fail_to_write(rank, size, port, folder):
    """Saves where the second process has no room."""
    meet(rank, size, port)
    if rank == 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    with joined():
        try:
            train(folder, {"shard": 2}, 1)
        except ResourceError as error:
            (folder / f"said-{rank}").write_text(str(error))


def pretrain_and_replay(rank, size, port, path, step):
    """A run of the command in these processes, and some of its steps again."""
    meet(rank, size, port)
    settings = config.load(PretrainConfig, path)
    with joined():
        pretrain(settings)
        found = replay(settings.output, step)
    assert found == {"from_step": step, "to_step": 2 * step, "differing": []}
