"""AdamW with moments of 8 bits: it learns, it resumes to the bit, it is small."""

from importlib import util

import pytest
import torch

from test_trainer import Killed, kill_after, train
from tiny import TinyData, tiny_model, tiny_train_config
from triptych.errors import ConfigError
from triptych.model.huggingface import load_model
from triptych.model.shards import Shards
from triptych.train.metrics import read_metrics
from triptych.train.optimizer import OptimizerConfig, create_optimizer, set_lr
from triptych.train.parallel import ParallelConfig

EIGHT = OptimizerConfig(state_bits=8)
# Embedding, queries, values and feed-forward of so many numbers are kept in bytes.
WIDE = {"hidden_size": 64, "intermediate_size": 128, "vocab_size": 128}
LAST = "checkpoints/step-00000010"

pytestmark = pytest.mark.usefixtures("one_thread")


def run(folder, optimizer=EIGHT, hooks=None):
    torch.manual_seed(0)
    changes = {"data": TinyData(), "optimizer": optimizer}
    return train(folder, model=tiny_model(**WIDE), hooks=hooks, **changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    run(folder)
    return folder


def test_losses_are_those_of_adamw_to_a_hundredth(whole, tmp_path):
    run(tmp_path, OptimizerConfig())
    losses = [
        [line["loss"] for line in read_metrics(folder)] for folder in (whole, tmp_path)
    ]
    assert losses[0][0] == losses[1][0]
    assert losses[0] == pytest.approx(losses[1], abs=0.01)
    assert losses[0] != losses[1]


def test_a_run_that_was_killed_ends_with_the_same_bytes(whole, tmp_path):
    with pytest.raises(Killed):
        run(tmp_path, hooks={"on_step": kill_after(5)})
    run(tmp_path)
    for name in ("model.safetensors", "optimizer.safetensors"):
        one, other = (folder / LAST / name for folder in (whole, tmp_path))
        assert one.read_bytes() == other.read_bytes(), name


def test_large_parameters_have_a_byte_a_number_and_a_scale_for_256(whole):
    tensors = Shards.of_file(whole / LAST / "optimizer.safetensors").all()
    sizes = {n: p.numel() for n, p in load_model(whole / LAST).named_parameters()}
    for name, size in sizes.items():
        for kind in ("exp_avg", "exp_avg_sq"):
            if size < 4096:
                assert tensors[f"{kind}:{name}"].dtype == torch.float32
                continue
            codes, scale = (tensors[f"{kind}.{x}:{name}"] for x in ("codes", "scale"))
            assert (codes.dtype, codes.numel()) == (torch.uint8, size)
            assert (scale.dtype, scale.numel()) == (torch.float32, size // 256)
    assert sum(size >= 4096 for size in sizes.values()) >= 5


def test_groups_and_rates_are_those_of_adamw():
    model = tiny_model(**WIDE, tie_word_embeddings=False)
    config = OptimizerConfig(state_bits=8, head_lr_ratio=0.5)
    optimizer = create_optimizer(model, config, 1e-3)
    set_lr(optimizer, 4e-3)
    found = {
        g["kind"]: (float(g["lr"]), g["weight_decay"]) for g in optimizer.param_groups
    }
    expected = {"matrix": (4e-3, 0.1), "head": (2e-3, 0.1), "embedding": (4e-3, 0.0)}
    for kind, pair in expected.items():
        assert found[kind] == pytest.approx(pair), kind


def test_what_cannot_be_is_refused(monkeypatch, tmp_path):
    with pytest.raises(
        ConfigError, match='8 with `name = "adamw"`, found 8 with `muon`'
    ):
        OptimizerConfig(name="muon", state_bits=8)
    with pytest.raises(ConfigError, match="found 4 with `adamw`"):
        OptimizerConfig(state_bits=4)
    with pytest.raises(ConfigError, match="expected 32 with `parallel"):
        tiny_train_config(tmp_path, optimizer=EIGHT, parallel=ParallelConfig(shard=2))
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'triptych\[ao\]'"):
        create_optimizer(tiny_model(), EIGHT, 1e-3)
