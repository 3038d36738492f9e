"""The loss that balances experts: transformers' number, whatever the micro-batches."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from test_ranks import start
from test_trainer import train
from tiny import TinyData, packed, tiny_model
from triptych.errors import ConfigError
from triptych.model.feedforward import Experts
from triptych.model.recompute import layer_call
from triptych.train import PretrainObjective, RouterBalance
from triptych.train.gradient import Launcher
from triptych.train.metrics import read_metrics
from triptych.train.placement import Whole
from triptych.train.precision import Precision
from triptych.train.ranks import Ranks
from triptych.train.router_balance import balanced, routed

EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "router_aux_loss_coef": 0.02,
}
QWEN = {**EXPERTS, "model_type": "qwen3_moe"}
MIXTRAL = {
    "model_type": "mixtral",
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "router_aux_loss_coef": 0.02,
}
WEIGHT = 0.5  # large, so that its gradient shows


def sparse_model(seed=0, **shape):
    """Experts whose routers are far from even: what they read has a common part."""
    model = tiny_model(seed, **(shape or QWEN))
    with torch.no_grad():
        model.model.embed_tokens.weight.add_(0.02)
        for name, parameter in model.named_parameters():
            if name.endswith("gate.weight"):
                parameter.mul_(10.0)
    return model


def documents(*lengths):
    generator = torch.Generator().manual_seed(5)
    return [torch.randint(3, 97, (n,), generator=generator).tolist() for n in lengths]


@pytest.mark.parametrize("shape", [QWEN, MIXTRAL], ids=lambda x: x["model_type"])
def test_one_batch_gives_the_number_of_transformers(shape):
    name = shape["model_type"]
    theirs = pytest.importorskip(f"transformers.models.{name}.modeling_{name}")
    model, batch = sparse_model(**shape), packed(documents(23))
    with routed(model) as logits:
        part = RouterBalance(PretrainObjective(), WEIGHT).loss(model, batch)
    expected = theirs.load_balancing_loss_func(tuple(logits), 4, 2)
    auxiliary = part.metrics["router_aux_loss"] / part.count
    torch.testing.assert_close(auxiliary, expected.detach(), rtol=1e-6, atol=0)
    plain = PretrainObjective().loss(model, batch)
    total, base = part.loss_sum / part.count, plain.loss_sum / part.count
    torch.testing.assert_close(total, base + WEIGHT * expected, rtol=1e-6, atol=0)
    assert auxiliary > 2.1  # 2 would be even


def gradient(model, objective, parts):
    """Of a step, as the Trainer adds it up."""
    model.zero_grad(set_to_none=True)
    batches = [packed(part) for part in parts]
    count = sum(map(objective.count, batches))
    objective.prepare(model, batches, count, lambda x: [x])
    for batch in batches:
        (objective.loss(model, batch).loss_sum / count).backward()
    return torch.cat([p.grad.double().flatten() for p in model.parameters()])


def test_the_gradient_depends_neither_on_micro_batches_nor_on_packing():
    model, ids = sparse_model(), documents(9, 17, 5, 12)
    objective = RouterBalance(PretrainObjective(), WEIGHT)
    whole = gradient(model, objective, [ids])
    for parts in ([ids[:1], ids[1:]], [[x] for x in ids], [ids[2:], ids[:2]]):
        found = gradient(model, objective, parts)
        torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-6)
    # what means of micro-batches would be
    naive = sum(gradient(model, objective, [[x]]) * (len(x) - 1) for x in ids) / sum(
        len(x) - 1 for x in ids
    )
    assert (naive - whole).abs().max() > 1e-4


def test_documents_without_a_target_count_whatever_the_micro_batches():
    """A document of one token has nothing to predict, but its token has experts."""
    grads = []
    for rows in (1, 3):
        model = sparse_model()
        placement = Whole(model, Ranks())
        objective = RouterBalance(PretrainObjective(), WEIGHT)
        precision = Precision("fp32", "cpu")
        launcher = Launcher(
            model, objective, precision, precision.scaler(), placement, seed=0
        )
        ids = documents(9, 1, 5)
        parts = [packed(ids[n : n + rows]) for n in range(0, len(ids), rows)]
        launcher.launch(0, parts, sum(map(objective.count, parts)))
        grads.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("grad", [True, False])
def test_no_tokens_are_no_tokens_behind_experts(grad):
    """A process that shares the tokens of a batch may have none of them."""
    layer = next(x for x in sparse_model().modules() if isinstance(x, Experts))
    with torch.set_grad_enabled(grad):
        assert layer(torch.zeros(0, 32)).shape == (0, 32)


@pytest.mark.parametrize("mode", ["selective", "full"])
def test_recomputed_layers_have_the_same_gradient(mode):
    model, ids = sparse_model(), documents(9, 17)
    objective = RouterBalance(PretrainObjective(), WEIGHT)
    kept = gradient(model, objective, [ids[:1], ids[1:]])
    model.call_layer = layer_call(mode)
    assert torch.equal(gradient(model, objective, [ids[:1], ids[1:]]), kept)


def test_training_with_it_evens_the_experts_out_and_logs_it(tmp_path):
    changes = {"checkpoint_every_steps": 1000}
    ends = {}
    for weight in (1e-9, 1.0):
        folder = tmp_path / str(weight)
        objective = RouterBalance(PretrainObjective(), weight)
        train(folder, model=sparse_model(), objective=objective, **changes)
        lines = read_metrics(folder)
        ends[weight] = lines[-1]["router_aux_loss"]
        assert all(math.isfinite(line["router_aux_loss"]) for line in lines)
    assert ends[1.0] < ends[1e-9] - 0.1


def test_a_run_is_not_continued_with_another_weight(tmp_path):
    objectives = [RouterBalance(PretrainObjective(), x) for x in (0.5, 0.25)]
    train(tmp_path, model=sparse_model(), objective=objectives[0])
    with pytest.raises(ConfigError, match="another run: objective"):
        train(tmp_path, model=sparse_model(), objective=objectives[1])


def test_the_models_own_weight_holds_unless_another_is_given():
    model, plain = sparse_model(), PretrainObjective()
    assert balanced(plain, model, None).coefficient == 0.02
    assert balanced(plain, model, 0.3).coefficient == 0.3
    assert balanced(plain, model, 0.0) is plain
    assert balanced(plain, tiny_model(), None) is plain
    with pytest.raises(ConfigError, match="router_aux_loss_coef: expected above 0"):
        balanced(plain, model, -1.0)


@pytest.mark.parametrize("parallel", [{}, {"context": 2}], ids=["copies", "context"])
def test_two_processes_have_the_loss_of_one(tmp_path, parallel):
    import rank_worker

    model, data = sparse_model(), TinyData(steps=10)
    objective = RouterBalance(PretrainObjective(), WEIGHT)
    train(tmp_path / "one", model=model, data=data, objective=objective)
    how = dataclasses.asdict(_Shape(parallel=parallel))
    start(rank_worker.train_experts, 2, tmp_path / "two", how)
    one, two = (read_metrics(tmp_path / name) for name in ("one", "two"))
    assert [x["processes"] for x in two] == [2] * 10
    for a, b in zip(one, two, strict=True):
        for key in ("loss", "router_aux_loss"):
            assert a[key] == pytest.approx(b[key], rel=1e-5), key


@dataclasses.dataclass
class _Shape:
    weight: float = WEIGHT
    shape: dict = dataclasses.field(default_factory=lambda: dict(QWEN))
    parallel: dict = dataclasses.field(default_factory=dict)
