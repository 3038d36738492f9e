"""Objectives: sums and counts, and what each one learns."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from tiny import TinyData, packed, tiny_model, tiny_train_config
from triptych.errors import ConfigError, InputError, IntegrityError
from triptych.train import (
    DpoObjective,
    PretrainObjective,
    ReferenceLogps,
    RouterBalance,
    SftObjective,
    Trainer,
    reference_logps,
)
from triptych.train.dpo import dpo_loss, response_logps


def gradients(model, loss_sum):
    model.zero_grad()
    loss_sum.backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


def test_pretrain_loss_is_the_summed_negative_log_likelihood():
    model = tiny_model()
    batch = packed([[5, 6, 7, 8], [9, 10, 11]])
    part = PretrainObjective().loss(model, batch)
    logits = model.logits(batch.input_ids, cu_seqlens=batch.cu_seqlens)
    expected = F.cross_entropy(logits, batch.labels, reduction="sum")
    torch.testing.assert_close(part.loss_sum, expected)
    assert part.count == 5


def test_sums_over_parts_of_a_batch_add_up_to_the_whole():
    model, data = tiny_model(), TinyData(rows=5)
    objective = PretrainObjective()
    whole = objective.loss(model, data.batch(0))
    parts = [objective.loss(model, data.batch(0, row, 1)) for row in range(5)]
    assert whole.count == sum(part.count for part in parts)
    together = gradients(model, sum(part.loss_sum for part in parts))
    for one, other in zip(gradients(model, whole.loss_sum), together, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_sft_learns_from_supervised_tokens_alone():
    model = tiny_model()
    batch = packed([[5, 6, 7, 8]], [[0, 0, 1, 1]])
    changed = replace(batch, labels=batch.labels.masked_fill(batch.labels == 6, 50))
    one, other = (SftObjective().loss(model, b) for b in (batch, changed))
    assert one.count == 2
    assert one.loss_sum.item() == other.loss_sum.item()


def test_sft_per_conversation_weighs_each_conversation_the_same():
    model = tiny_model()
    long, short = [5, 6, 7, 8, 9, 10], [11, 12]
    objective = SftObjective(per="conversation")
    part = objective.loss(model, packed([long, short]))
    means = [
        PretrainObjective().loss(model, packed([document]))
        for document in (long, short)
    ]
    assert part.count == 2
    expected = sum(mean.loss_sum / mean.count for mean in means)
    torch.testing.assert_close(part.loss_sum, expected)


def test_dpo_loss_equals_equation_seven_by_hand():
    chosen, rejected = torch.tensor([-3.0, -8.0]), torch.tensor([-5.0, -2.0])
    reference = torch.tensor([-4.0, -4.0])
    loss = dpo_loss(chosen, rejected, reference, reference, beta=0.5)
    expected = [math.log(1 + math.exp(-1.0)), math.log(1 + math.exp(3.0))]
    assert loss.tolist() == pytest.approx(expected)
    smoothed = dpo_loss(
        chosen, rejected, reference, reference, beta=0.5, label_smoothing=0.25
    )
    first = 0.75 * expected[0] + 0.25 * math.log(1 + math.exp(1.0))
    assert smoothed[0].item() == pytest.approx(first)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_dpo_starts_at_ln_2(precision):
    model, data = tiny_model(), TinyData(steps=3, documents_per_unit=2)
    reference = reference_logps(model, data, precision=precision)
    objective = DpoObjective(reference)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        part = objective.loss(model, data.batch(1))
    assert part.loss_sum.item() / part.count == pytest.approx(math.log(2), abs=1e-6)
    assert part.metrics["accuracy"].item() / part.count == 0.5


def test_a_dpo_step_raises_the_margin():
    model, data = tiny_model(), TinyData(steps=1, documents_per_unit=2)
    objective = DpoObjective(reference_logps(model, data, precision="fp32"))
    part = objective.loss(model, data.batch(0))
    step = gradients(model, part.loss_sum)
    with torch.no_grad():
        for parameter, gradient in zip(model.parameters(), step, strict=True):
            parameter -= 0.05 * gradient
    after = objective.loss(model, data.batch(0))
    assert part.metrics["margin"].item() == pytest.approx(0.0, abs=1e-5)
    assert after.metrics["margin"] > 0.0
    assert after.loss_sum < part.loss_sum


def test_response_logps_leave_out_the_prompt():
    model = tiny_model()
    batch = packed([[5, 6, 7, 8], [5, 6, 9, 10]], [[0, 0, 1, 1]] * 2)
    logps = model.logits(torch.tensor([[5, 6, 7, 8]])).log_softmax(-1)[0]
    expected = logps[1, 7] + logps[2, 8]
    torch.testing.assert_close(response_logps(model, batch)[0], expected)


def test_documents_that_are_not_pairs_are_refused():
    objective = DpoObjective(ReferenceLogps())
    with pytest.raises(InputError, match="chosen and rejected as neighbouring"):
        objective.count(packed([[5, 6], [7, 8], [9, 10]]))


def test_a_document_without_reference_is_named():
    model, data = tiny_model(), TinyData(documents_per_unit=2)
    with pytest.raises(InputError, match=r"found none for .* \(0, 0\)"):
        DpoObjective(ReferenceLogps()).loss(model, data.batch(0))


def test_reference_logps_are_read_from_their_cache_and_refused_for_another_model(
    tmp_path,
):
    model, data = tiny_model(), TinyData(steps=2, documents_per_unit=2)
    cache, made_from = tmp_path / "reference", {"model": "a", "data": "b"}
    first = reference_logps(model, data, cache=cache, made_from=made_from)
    again = reference_logps(tiny_model(1), data, cache=cache, made_from=made_from)
    assert again.table == first.table
    with pytest.raises(ConfigError, match=r"another model.*expected .*'c'.* found"):
        reference_logps(model, data, cache=cache, made_from={"model": "c", "data": "b"})
    path = cache / "logps.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match=r"logps.safetensors.*bytes, found"):
        reference_logps(model, data, cache=cache, made_from=made_from)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SftObjective(per="row"), "`token` or `conversation`, found `row`"),
        (lambda: DpoObjective(ReferenceLogps(), beta=0.0), "beta: expected above 0"),
        (
            lambda: DpoObjective(ReferenceLogps(), label_smoothing=0.5),
            r"label_smoothing: expected in \[0, 0.5\), found 0.5",
        ),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        (PretrainObjective, "z_loss", 1e-4),
        (PretrainObjective, "label_smoothing", 0.1),
        (SftObjective, "per", "conversation"),
        (SftObjective, "label_smoothing", 0.1),
        (DpoObjective, "beta", 0.3),
        (DpoObjective, "label_smoothing", 0.1),
    ],
)
def test_a_run_goes_on_with_the_settings_of_its_objective_only(
    tmp_path, kind, key, value
):
    data = TinyData(documents_per_unit=2 if kind is DpoObjective else 1)
    model = tiny_model()
    given = (
        {"reference": reference_logps(model, data, precision="fp32")}
        if kind is DpoObjective
        else {}
    )
    config = tiny_train_config(tmp_path)
    Trainer(model, kind(**given), data, config).run()
    assert Trainer(model, kind(**given), data, config).run().step == 10
    with pytest.raises(ConfigError, match=rf"another run: {key}: expected .*{value}"):
        Trainer(model, kind(**given, **{key: value}), data, config).run()
    coefficient = RouterBalance(kind(**given), 0.01)
    assert coefficient.settings == kind(**given).settings
