"""The founding design's names for training, and the mistakes left behind."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tiny import same_weights, tiny_model
from triptych.errors import ConfigError, InputError
from triptych.founding import (
    FlashAttentionBlock,
    MixedPrecisionTrainer,
    PreTrainingConfig,
    compute_language_model_loss,
    create_optimizer_and_scheduler,
    next_token_targets,
    pretrain_step,
)

TINY = {"learning_rate": 1e-2, "warmup_steps": 2, "max_steps": 10}


def test_the_loss_is_the_mean_over_targets_that_count():
    logits, targets = torch.randn(2, 5, 11), torch.randint(0, 11, (2, 5))
    targets[0, 2:] = -100
    logps = logits.log_softmax(-1)
    counted = [(b, t) for b in range(2) for t in range(5) if targets[b, t] >= 0]
    expected = -sum(logps[b, t, targets[b, t]] for b, t in counted) / len(counted)
    torch.testing.assert_close(compute_language_model_loss(logits, targets), expected)


def test_a_loss_over_no_targets_is_an_error():
    with pytest.raises(InputError, match="one other than -100, found none"):
        compute_language_model_loss(
            torch.randn(1, 3, 5), torch.full((1, 3), -100, dtype=torch.int64)
        )
    with pytest.raises(InputError, match=r"expected shape \(1, 3\), found \(1, 4\)"):
        compute_language_model_loss(
            torch.randn(1, 3, 5), torch.zeros(1, 4, dtype=torch.int64)
        )


def test_targets_are_shifted_and_padding_is_masked():
    ids = torch.tensor([[5, 6, 7, 0], [0, 8, 9, 10]])
    mask = torch.tensor([[1, 1, 1, 0], [0, 1, 1, 1]])
    assert next_token_targets(ids, mask).tolist() == [
        [6, 7, -100, -100],
        [-100, 9, 10, -100],
    ]


def batch_of_ids(rows=4, length=12):
    ids = torch.randint(3, 97, (rows, length), generator=torch.manual_seed(5))
    mask = torch.ones_like(ids)
    mask[1, 8:] = 0
    mask[2, :3] = 0
    return {"input_ids": ids, "attention_mask": mask}


def mixed_precision_trainer(model, precision="fp32"):
    config = PreTrainingConfig(**TINY)
    optimizer, _ = create_optimizer_and_scheduler(model, config)
    for group in optimizer.param_groups:
        group["lr"] = 1e-2  # the scheduler starts at 0
    return MixedPrecisionTrainer(model, optimizer, "cpu", precision)


def test_what_stands_in_padding_changes_nothing():
    results = []
    for filler in (0, 50):
        batch, model = batch_of_ids(), tiny_model()
        batch["input_ids"][batch["attention_mask"] == 0] = filler
        loss = mixed_precision_trainer(model).training_step(batch)
        results.append((loss, model))
    assert results[0][0] == results[1][0]
    assert same_weights(results[0][1], results[1][1])


class LogitsOnly(nn.Module):
    """A foreign model: the same network behind (B, T) -> (B, T, V)."""

    def __init__(self, model):
        super().__init__()
        self.inner = model

    def forward(self, input_ids):
        return self.inner.logits(input_ids)


def test_any_module_that_gives_logits_trains_alike():
    batch = {"input_ids": batch_of_ids()["input_ids"]}
    ours, foreign = tiny_model(), LogitsOnly(tiny_model())
    one = mixed_precision_trainer(ours).training_step(batch)
    other = mixed_precision_trainer(foreign).training_step(batch)
    assert one == pytest.approx(other, rel=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "auto"])
def test_mixed_precision_training_lowers_the_loss_of_a_batch(precision):
    trainer = mixed_precision_trainer(tiny_model(), precision)
    losses = [trainer.training_step(batch_of_ids()) for _ in range(15)]
    assert losses[0] == pytest.approx(math.log(97), abs=0.3)
    assert losses[-1] < losses[0] - 1.0


def test_master_weights_must_be_float32():
    model = tiny_model().to(torch.bfloat16)
    with pytest.raises(ConfigError, match=r"expected float32 .* found torch.bfloat16"):
        mixed_precision_trainer(model)


def test_a_batch_of_padding_is_an_error():
    batch = batch_of_ids()
    batch["attention_mask"].zero_()
    with pytest.raises(InputError, match="token that follows another, found none"):
        mixed_precision_trainer(tiny_model()).training_step(batch)


@pytest.mark.parametrize("micro_batch_size", [1, 3])
def test_a_pretrain_step_does_not_depend_on_micro_batches(micro_batch_size):
    results = []
    for size in (4, micro_batch_size):
        config = PreTrainingConfig(**TINY, micro_batch_size=size)
        model = tiny_model()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        results.append((pretrain_step(model, optimizer, config, batch_of_ids()), model))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-3)
    pairs = zip(results[0][1].parameters(), results[1][1].parameters(), strict=True)
    assert all(torch.allclose(a, b, atol=1e-3) for a, b in pairs)


def test_the_default_config_is_that_of_the_founding_design():
    config = PreTrainingConfig()
    assert config.d_ff == 11008
    assert config.model_config().num_parameters() == pytest.approx(7.0e9, rel=0.01)


def test_the_learning_rate_warms_up_from_zero_and_ends_at_the_floor():
    config = PreTrainingConfig(
        learning_rate=1.0, warmup_steps=10, max_steps=110, min_lr_ratio=0.1
    )
    rates = [config.get_lr(step) for step in (0, 5, 10, 60, 110, 500)]
    assert rates == pytest.approx([0.0, 0.5, 1.0, 0.55, 0.1, 0.1])


def test_the_scheduler_gives_the_configs_learning_rate():
    config = PreTrainingConfig(**TINY)
    optimizer, scheduler = create_optimizer_and_scheduler(tiny_model(), config)
    rates = []
    for _ in range(12):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([config.get_lr(step) for step in range(12)])
    assert optimizer.defaults["betas"] == (0.9, 0.95)


def test_norms_do_not_decay_whatever_they_are_called():
    block = FlashAttentionBlock(16, 2, 32)
    optimizer, _ = create_optimizer_and_scheduler(block, PreTrainingConfig(**TINY))
    decayed, others = optimizer.param_groups
    assert {p.dim() for p in decayed["params"]} == {2}
    assert {p.dim() for p in others["params"]} == {1}
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)


def explicit_block(block, x, mask):
    """The block written out with a dense mask."""
    batch_size, length, width = x.shape
    shape = (batch_size, length, 3, block.num_heads, -1)
    q, k, v = block.qkv(block.norm1(x)).view(shape).permute(2, 0, 3, 1, 4)
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    seen = causal & mask[:, None, None, :].bool()
    scores = (q @ k.transpose(-1, -2)) / math.sqrt(q.shape[-1])
    weights = scores.masked_fill(~seen, -1e9).softmax(-1)
    mixed = (weights @ v).transpose(1, 2).reshape(batch_size, length, width)
    x = x + block.out_proj(mixed) * mask[..., None]
    inner, outer = block.ffn[0], block.ffn[3]
    return x + outer(F.gelu(inner(block.norm2(x))))


def test_the_attention_block_equals_a_dense_mask_and_honours_padding():
    torch.manual_seed(0)
    block = FlashAttentionBlock(16, 4, 32).eval()
    x = torch.randn(3, 7, 16)
    mask = torch.ones(3, 7)
    mask[0, 5:] = 0
    mask[1, :2] = 0
    torch.testing.assert_close(block(x, mask), explicit_block(block, x, mask))
    every = torch.ones(3, 7)
    torch.testing.assert_close(block(x), explicit_block(block, x, every))


def test_attention_dropout_acts_in_training_and_keeps_the_mean():
    torch.manual_seed(0)
    block = FlashAttentionBlock(16, 4, 32, dropout=0.2)
    x = torch.randn(1, 6, 16)
    mask = torch.ones(1, 6)
    normed = block.norm1(x)
    block.eval()
    expected = block._attend(normed, mask)
    block.train()
    drawn = torch.stack([block._attend(normed, mask) for _ in range(3000)])
    assert drawn.std(0).max() > 0.01
    torch.testing.assert_close(drawn.mean(0), expected, atol=0.03, rtol=0)


def test_bad_settings_of_the_founding_names_are_refused():
    with pytest.raises(ConfigError, match=r"divisor of d_model .10., found 3"):
        FlashAttentionBlock(10, 3, 8)
    with pytest.raises(ConfigError, match=r"dropout: expected in \[0, 1\), found 1.0"):
        FlashAttentionBlock(8, 2, 8, dropout=1.0)
    with pytest.raises(ConfigError, match=r"below max_steps .10., found 10"):
        PreTrainingConfig(warmup_steps=10, max_steps=10)
