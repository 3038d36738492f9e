"""Rotary frequencies against transformers, and what a wrong mapping says."""

import pytest
import torch

from triptych.errors import ConfigError
from triptych.ops.rotary import rotary_frequencies

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
YARN = {
    "rope_type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 32768,
}
SCALINGS = {
    "linear": {"type": "linear", "factor": 2.5},
    "llama3": LLAMA3,
    "llama3.2": {**LLAMA3, "factor": 32.0},
    "llama3 of a short context": {**LLAMA3, "original_max_position_embeddings": 100},
    "yarn": YARN,
    "yarn of old files": {**YARN, "type": YARN["rope_type"]},
    "yarn as gpt-oss": {
        **YARN,
        "factor": 32.0,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "original_max_position_embeddings": 4096,
        "truncate": False,
    },
    "yarn as DeepSeek": {**YARN, "factor": 40, "mscale": 0.7, "mscale_all_dim": 1.0},
    "yarn with its factor given": {**YARN, "attention_factor": 1.5},
    "yarn without a ramp": {**YARN, "beta_fast": 1, "beta_slow": 1},
    "yarn of a tiny context": {**YARN, "original_max_position_embeddings": 4},
}


def of_transformers(head_dim, theta, scaling):
    """The frequencies as transformers makes them from a config."""
    utils = pytest.importorskip("transformers.modeling_rope_utils")
    from transformers import LlamaConfig

    config = LlamaConfig(
        hidden_size=4 * head_dim,
        num_attention_heads=4,
        head_dim=head_dim,
        max_position_embeddings=131072,
        rope_parameters={"rope_theta": theta, **scaling},
    )
    kind = scaling.get("rope_type", scaling.get("type"))
    return utils.ROPE_INIT_FUNCTIONS[kind](config)


@pytest.mark.parametrize("scaling", SCALINGS.values(), ids=SCALINGS)
@pytest.mark.parametrize(
    ("head_dim", "theta"), [(16, 10_000.0), (64, 150_000.0), (128, 500_000.0)]
)
def test_frequencies_equal_those_of_transformers(head_dim, theta, scaling):
    expected, expected_factor = of_transformers(head_dim, theta, scaling)
    found, factor = rotary_frequencies(head_dim, theta, scaling)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    assert factor == pytest.approx(expected_factor, rel=1e-12)


@pytest.mark.parametrize("scaling", [None, {}, {"rope_type": "default"}])
def test_frequencies_without_scaling_fall_by_powers_of_theta(scaling):
    found, factor = rotary_frequencies(8, 10_000.0, scaling)
    torch.testing.assert_close(found, torch.tensor([1.0, 0.1, 0.01, 0.001]))
    assert factor == 1.0


def test_llama3_keeps_fast_pairs_and_divides_slow_ones():
    plain, _ = rotary_frequencies(128, 500_000.0)
    found, _ = rotary_frequencies(128, 500_000.0, LLAMA3)
    assert torch.equal(found[:20], plain[:20])
    torch.testing.assert_close(found[-20:], plain[-20:] / 8.0)


WRONG = {
    r"rope_type: expected one of .*yarn, found `longrope`": {"rope_type": "longrope"},
    r"factor: rope_type linear expected a positive": {"type": "linear"},
    r"factor: rope_type yarn .* found -2": {**YARN, "factor": -2},
    r"low_freq_factor: expected below": {**LLAMA3, "low_freq_factor": 5.0},
    r"original_max_position_embeddings: .* found None": {
        **YARN,
        "original_max_position_embeddings": None,
    },
    r"partial_rotary_factor: .* found 0.5": {"partial_rotary_factor": 0.5},
}


@pytest.mark.parametrize(("message", "scaling"), WRONG.items(), ids=WRONG)
def test_a_mapping_that_cannot_be_read_is_named(message, scaling):
    with pytest.raises(ConfigError, match=message):
        rotary_frequencies(64, 10_000.0, scaling)


def test_an_odd_head_and_a_theta_of_one_are_named():
    with pytest.raises(ConfigError, match=r"head_dim: .* found 7"):
        rotary_frequencies(7, 10_000.0)
    with pytest.raises(ConfigError, match=r"rope_theta: expected above 1, found 1\.0"):
        rotary_frequencies(8, 1.0)
