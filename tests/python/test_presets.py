"""The dial: sizes mean what they say, and become runs."""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from triptych import Tokenizer
from triptych.cli import build_parser
from triptych.commands.pretrain import PretrainConfig
from triptych.errors import ConfigError
from triptych.model import Transformer
from triptych.model.presets import DEPTHS, preset
from triptych.model.shape import ModelShape


@pytest.mark.parametrize("size", DEPTHS)
def test_a_size_names_the_numbers_in_its_layers(size):
    number = float(size[:-1]) * {"m": 1e6, "b": 1e9}[size[-1]]
    assert preset(size).parameters == pytest.approx(number, rel=0.35)


def test_a_preset_counts_as_the_model_does(tokenizer):
    shape = ModelShape(size="1m", qk_norm=False)
    config = shape.model_config(tokenizer)
    embeddings = config.vocab_size * config.hidden_size
    assert preset("1m").parameters == config.num_matmul_parameters() - embeddings


def test_larger_models_take_larger_batches_and_smaller_steps():
    found = [preset(size) for size in DEPTHS]
    assert [p.batch_tokens for p in found] == sorted(p.batch_tokens for p in found)
    rates = [p.learning_rate for p in found]
    assert rates == sorted(rates, reverse=True)


def test_the_dial_takes_any_depth_and_the_tokens_of_the_user():
    assert preset("d12").hidden_size == 768
    assert preset("d6") == preset("10m")
    assert preset("10m", 10**8).batch_tokens < preset("10m").batch_tokens
    with pytest.raises(ConfigError, match=r"size: expected one of `1m`.*found `11m`"):
        preset("11m")
    with pytest.raises(ConfigError, match="found `d129`"):
        preset("d129")


def test_what_is_given_beside_a_size_holds(tokenizer):
    shape = ModelShape(size="1m", num_hidden_layers=1, num_key_value_heads=1)
    config = shape.model_config(tokenizer)
    assert (config.num_hidden_layers, config.hidden_size) == (1, 192)
    assert (config.num_attention_heads, config.num_key_value_heads) == (3, 1)


def test_a_shape_needs_a_size_or_its_three_numbers():
    with pytest.raises(ConfigError, match="`size`, or else `num_hidden_layers`, `num"):
        ModelShape(hidden_size=64)


def test_a_size_sets_what_the_founding_stages_are_scaled_by():
    common = {"output": "o", "tokenizer": "t", "sources": {"web": "w"}}
    settings = PretrainConfig(**common, model=ModelShape(size="10m"), seq_len=512)
    stages = settings.stages
    assert max(stage.learning_rate for stage in stages) == preset("10m").learning_rate
    given = PretrainConfig(**common, model=ModelShape(size="10m"), learning_rate=1e-3)
    assert max(stage.learning_rate for stage in given.stages) == 1e-3


def test_the_flag_of_the_command_is_a_key_of_the_configuration():
    options = build_parser().parse_args(["pretrain", "--size", "25m", "--set", "a=1"])
    assert options.overrides == ["model.size=25m", "a=1"]


def test_a_family_can_be_trained_from_nothing(tokenizer):
    shape = ModelShape(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        model_type="gemma2",
        sliding_window=4,
        final_logit_softcapping=5.0,
    )
    model = shape.build(tokenizer, seed=0)
    assert model.config.layer_types == ("sliding_attention", "full_attention")
    assert model.config.attn_logit_softcapping == 50.0
    assert model.logits(torch.tensor([1, 2, 3])).abs().max() < 5.0


def test_residual_projections_start_smaller_unless_told_otherwise(tokenizer):
    shape = {"hidden_size": 64, "num_hidden_layers": 8, "num_attention_heads": 2}
    scaled = ModelShape(**shape).build(tokenizer, seed=0)
    flat = ModelShape(**shape, scale_residual_init=False).build(tokenizer, seed=0)

    def deviation(model: Transformer) -> float:
        return model.model.layers[3].mlp.down_proj.weight.std().item()

    assert deviation(flat) == pytest.approx(0.02, rel=0.05)
    assert deviation(scaled) == pytest.approx(0.02 / 4, rel=0.05)


def test_the_table_of_sizes_in_the_documentation_is_the_dial():
    text = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE)
    shown = {size: row for size, row in rows if size in DEPTHS}
    assert shown == {size: row_of(size) for size in DEPTHS}


def row_of(size: str) -> str:
    p = preset(size)
    numbers = (p.num_hidden_layers, p.hidden_size, p.num_attention_heads)
    millions = f"{p.parameters / 1e6:,.1f}"
    tokens, batch = f"{p.tokens / 1e9:,.2f}", f"{p.batch_tokens:,}"
    cells = (*map(str, numbers), f"{p.intermediate_size}", millions, tokens, batch)
    return " | ".join((*cells, f"{p.learning_rate:.3g}"))


@pytest.mark.parametrize("model_type", [None, "qwen2", "qwen3", "qwen3_moe"])
def test_a_window_that_is_asked_for_is_there_however_few_the_layers(
    tokenizer, model_type
):
    experts = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16}
    shape = {
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "model_type": model_type,
        **(experts if model_type == "qwen3_moe" else {}),
    }
    found = ModelShape(**shape, sliding_window=7).model_config(tokenizer)
    assert [found.window(layer) for layer in range(3)] == [7, 7, 7]
    with pytest.raises(ConfigError, match=r"sliding_window: expected .*found -1"):
        ModelShape(**shape, sliding_window=-1).model_config(tokenizer)


@pytest.mark.parametrize("model_type", [None, "llama", "gemma2", "smollm3"])
def test_a_tokenizer_without_a_pad_makes_a_model_without_one(tokenizer, model_type):
    foreign = Tokenizer.from_str(tokenizer.to_str().replace("<|pad|>", "<unk>"))
    changes = {} if model_type is None else {"model_type": model_type}
    shape = ModelShape(size="1m", **changes)
    config = shape.model_config(foreign)
    assert config.pad_token_id is None
    assert config.to_hf_dict()["pad_token_id"] is None
    assert (config.bos_token_id, config.eos_token_id) == (1, 2)


def test_the_first_weights_are_those_of_the_seed_whatever_another_thread_draws(
    tokenizer,
):
    shape = ModelShape(hidden_size=64, num_hidden_layers=4, num_attention_heads=2)
    torch.manual_seed(3)
    model = Transformer(shape.model_config(tokenizer))
    expected = {name: x.clone() for name, x in model.state_dict().items()}
    before = torch.random.get_rng_state()
    assert _same(shape.build(tokenizer, seed=3).state_dict(), expected)
    assert torch.equal(torch.random.get_rng_state(), before)

    with _another_run_beside():
        for _ in range(20):
            assert _same(shape.build(tokenizer, seed=3).state_dict(), expected)


@contextmanager
def _another_run_beside():
    """A thread that begins torch's generator anew again and again, as steps do."""
    over = threading.Event()

    def draw():
        while not over.is_set():
            torch.manual_seed(0)

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _same(found, expected):
    return all(torch.equal(found[name], tensor) for name, tensor in expected.items())
