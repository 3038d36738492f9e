"""`torch.distributed.checkpoint` loads what a run saved, whatever grid trained it."""

import shutil

import pytest
import torch
from torch.distributed.checkpoint import CheckpointException, load

import sharded_worker
from test_checkpoint import flip_a_bit
from test_ranks import start
from tiny import TinyData, tiny_model, tiny_train_config
from triptych.train import AverageConfig, PretrainObjective, Trainer, checkpoint
from triptych.train.checkpoint_reader import CheckpointReader

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def averaging(tmp_path_factory):
    """The last checkpoint of one process that averages weights."""
    config = tiny_train_config(
        tmp_path_factory.mktemp("run"), average=AverageConfig(beta=0.5)
    )
    run = Trainer(tiny_model(), PretrainObjective(), TinyData(), config)
    return run.run().checkpoint_folder


@pytest.fixture(scope="module")
def untied(tmp_path_factory):
    """The last checkpoint of a model whose output matrix is its own."""
    config = tiny_train_config(tmp_path_factory.mktemp("untied"))
    model = tiny_model(tie_word_embeddings=False)
    run = Trainer(model, PretrainObjective(), TinyData(), config)
    return run.run().checkpoint_folder


@pytest.fixture(scope="module")
def in_pieces(tmp_path_factory):
    """One that two processes wrote, each its part."""
    folder = tmp_path_factory.mktemp("pieces") / "run"
    start(sharded_worker.train_all, 2, [((folder, {"shard": 2}, 99), {})])
    return checkpoint.latest(folder / "checkpoints")


def empty(tensors):
    return {name: torch.full_like(tensor, 7) for name, tensor in tensors.items()}


@pytest.mark.parametrize("written", ["averaging", "in_pieces"])
def test_weights_averages_and_optimiser_are_those_of_the_files(written, request):
    folder = request.getfixturevalue(written)
    expected = {
        "model": checkpoint.stored_weights(folder).all(),
        "trained": checkpoint.trained_weights(folder),
        "optimizer": checkpoint.stored_optimizer(folder).all(),
    }
    found = {group: empty(tensors) for group, tensors in expected.items()}
    load(found, storage_reader=CheckpointReader(folder), no_dist=True)
    for group, tensors in expected.items():
        assert tensors.keys() == found[group].keys()
        assert all(found[group][name].equal(x) for name, x in tensors.items())
    assert any(not found["trained"][k].equal(x) for k, x in found["model"].items()) == (
        written == "averaging"
    )


@pytest.mark.parametrize("group", ["model", "trained"])
@pytest.mark.parametrize("written", ["averaging", "in_pieces", "untied"])
def test_what_a_model_itself_calls_its_weights_is_all_there_tied_or_not(
    written, group, request
):
    folder = request.getfixturevalue(written)
    model = tiny_model(seed=1, tie_word_embeddings=written != "untied")
    load(
        {group: model.state_dict()},
        storage_reader=CheckpointReader(folder),
        no_dist=True,
    )
    stored = {"model": checkpoint.stored_weights, "trained": checkpoint.stored_trained}
    expected = stored[group](folder).all()
    found = model.state_dict()
    assert all(found[name].equal(tensor) for name, tensor in expected.items())
    head = expected.get("lm_head.weight", expected["model.embed_tokens.weight"])
    assert found["lm_head.weight"].equal(head)


def test_a_bit_that_is_not_as_written_is_refused_by_name(averaging, tmp_path):
    folder = tmp_path / averaging.name
    shutil.copytree(averaging, folder)
    flip_a_bit(folder / "model.safetensors")
    found = {"model": empty(checkpoint.stored_weights(averaging).all())}
    with pytest.raises(CheckpointException, match=r"model\.safetensors"):
        load(found, storage_reader=CheckpointReader(folder), no_dist=True)
    assert all((x == 7).all() for x in found["model"].values())


def test_a_model_in_pieces_takes_what_one_process_wrote(averaging):
    start(sharded_worker.load_by_torch, 2, averaging)
