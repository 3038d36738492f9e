"""`[model.rope_scaling]`: as in config.json, and checked with its line."""

from __future__ import annotations

import pytest
import torch

from triptych import config
from triptych.commands.pretrain import PretrainConfig
from triptych.errors import ConfigError

TABLE = """output = "x"
tokenizer = "x"
[sources]
[model]
hidden_size = 64
num_hidden_layers = 1
num_attention_heads = 2
max_position_embeddings = 256
[[stage]]
stage = "only"
learning_rate = 1e-3
batch_size = 1
steps = 1
seq_len = 64
[model.rope_scaling]
"""

SCALINGS = [
    {"rope_type": "linear", "factor": 4.0},
    {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
]


def load(tmp_path, scaling):
    lines = [
        f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {value}"
        for key, value in scaling.items()
    ]
    path = tmp_path / "run.toml"
    path.write_text(TABLE + "\n".join(lines) + "\n")
    return config.load(PretrainConfig, path)


@pytest.mark.parametrize("scaling", SCALINGS, ids=lambda x: x["rope_type"])
def test_frequencies_are_those_of_transformers(tmp_path, tokenizer, scaling):
    transformers = pytest.importorskip("transformers")
    settings = load(tmp_path, scaling)
    model = settings.model.build(tokenizer, seed=0)
    theirs = transformers.AutoModelForCausalLM.from_config(
        transformers.Qwen3Config(**model.config.to_hf_dict())
    )
    theirs.load_state_dict(model.state_dict())
    ids = torch.arange(120).view(1, -1) % 300
    with torch.no_grad():
        expected, found = theirs(ids).logits, model.logits(ids)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    plain = load(tmp_path, {"rope_type": "linear", "factor": 1.0})
    other = plain.model.build(tokenizer, seed=0).logits(ids)
    assert (other - found).abs().max() > 1e-4
    again = config.from_mapping(PretrainConfig, config.to_mapping(settings))
    assert again == settings


@pytest.mark.parametrize(
    ("scaling", "message"),
    [
        ({"rope_type": "dynamic"}, "run.toml:16.*one of `linear`, `llama3`, `yarn`"),
        ({"rope_type": "linear"}, "expected `factor` with `linear`, found nothing"),
        ({"rope_type": "linear", "factor": 2.0, "beta_fast": 1.0}, "found `beta_fast`"),
        (
            {"rope_type": "llama3", "factor": 2.0},
            "`high_freq_factor`, `low_freq_factor`",
        ),
        ({"rope_type": "yarn", "factr": 2.0}, "factr: unknown key.*mean `factor`"),
    ],
)
def test_a_scaling_that_cannot_be_is_refused(tmp_path, scaling, message):
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, scaling)
