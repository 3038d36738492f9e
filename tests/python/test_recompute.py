"""Activation checkpointing changes memory, never a bit of the result."""

import pytest
import torch

from tiny import TinyData, packed, same_weights, tiny_model, tiny_train_config
from triptych.errors import ConfigError
from triptych.model.families import FAMILIES
from triptych.model.recompute import layer_call
from triptych.train import PretrainObjective, Trainer

MODES = ("none", "selective", "full")
BATCH = packed([list(range(5, 40)), [7, 8, 9], list(range(50, 90))])
SPARSE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}


def family_model(name):
    sparse = SPARSE if FAMILIES[name].experts else {}
    if name == "mixtral":  # its experts have the width of a dense layer
        sparse = {key: n for key, n in SPARSE.items() if not key.startswith("moe")}
    return tiny_model(model_type=name, **sparse)


def gradients(model, mode):
    model.call_layer = layer_call(mode)
    model.zero_grad()
    PretrainObjective().loss(model, BATCH).loss_sum.backward()
    return [p.grad.clone() for p in model.parameters()]


def kept_bytes(model, mode):
    """Bytes that autograd's graph holds after a forward pass, each storage once."""
    model.call_layer = layer_call(mode)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def pack(x):
        storage = x.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        hidden = model.hidden(BATCH.input_ids, BATCH.position_ids, BATCH.cu_seqlens)
    assert hidden.requires_grad
    return sum(size for size, _ in kept.values())


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_gradients_are_the_same_bits_whatever_is_computed_again(name):
    model = family_model(name)
    expected = gradients(model, "none")
    for mode in MODES[1:]:
        for found, wanted in zip(gradients(model, mode), expected, strict=True):
            assert torch.equal(found, wanted), mode


def test_a_layer_computed_again_keeps_its_input_only():
    model = tiny_model()
    assert kept_bytes(model, "full") < kept_bytes(model, "none") / 5


def test_a_run_with_recompute_ends_with_the_same_weights(tmp_path):
    models = []
    for mode in MODES:
        model, data = tiny_model(), TinyData()
        config = tiny_train_config(tmp_path / mode, steps=10, recompute=mode)
        Trainer(model, PretrainObjective(), data, config).run()
        models.append(model)
    assert all(same_weights(models[0], other) for other in models[1:])


def test_an_unknown_mode_names_those_there_are():
    with pytest.raises(
        ConfigError, match="expected one of `none`, `selective`, `full`"
    ):
        layer_call("some")
