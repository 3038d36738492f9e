"""`config.json` as others write it: read as transformers reads it, or refused."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from test_families import SHAPE, TOLERANCE, YARN, random_ids, relative
from triptych.errors import ConfigError, IntegrityError
from triptych.model import ModelConfig, Transformer
from triptych.model.huggingface import export, load_model

transformers = pytest.importorskip("transformers")
transformers.logging.set_verbosity_error()
pytestmark = pytest.mark.usefixtures("one_thread")


def written(folder, values):
    """A folder of random weights with exactly this `config.json`."""
    folder.mkdir()
    path = folder / "config.json"
    path.write_text(json.dumps(values))
    config = transformers.AutoConfig.from_pretrained(folder)
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    path.write_text(json.dumps(values))
    return folder


OTHER = {"rope_type": "default", "rope_theta": 50.0}


def assert_read_alike(folder):
    """Logits of a folder are those that transformers computes of it."""
    twin = transformers.AutoModelForCausalLM.from_pretrained(folder)
    model = load_model(folder)
    ids = random_ids(model.config)
    assert relative(model.logits(ids), twin(ids).logits) < TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize(
    ("model_type", "changes"),
    [
        ("llama", {"rope_scaling": YARN, "rope_parameters": OTHER}),
        ("qwen2", {"rope_scaling": YARN, "rope_parameters": OTHER, "rope_theta": 1e3}),
        ("olmo2", {"rope_scaling": OTHER, "rope_parameters": YARN}),
        (
            "gemma3_text",
            {
                "rope_scaling": YARN,
                "rope_parameters": {"full_attention": OTHER, "sliding_attention": None},
            },
        ),
    ],
)
def test_of_two_sets_of_rotary_parameters_that_one_holds_which_transformers_takes(
    tmp_path, model_type, changes
):
    values = {**SHAPE, "model_type": model_type, "initializer_range": 0.2, **changes}
    assert_read_alike(written(tmp_path / "model", {**values, "head_dim": 8}))


@torch.no_grad()
@pytest.mark.parametrize("name", ["sliding_window_pattern", "_sliding_window_pattern"])
def test_a_pattern_of_windows_counts_under_the_name_that_transformers_reads(
    tmp_path, name
):
    shape = {**SHAPE, "model_type": "gemma3_text", "initializer_range": 0.2}
    changes = {"head_dim": 8, "sliding_window": 5, name: 2}
    assert_read_alike(written(tmp_path / "model", {**shape, **changes}))


@torch.no_grad()
def test_a_conversion_of_the_first_llama_is_read(tmp_path):
    values = {**SHAPE, "model_type": "llama", "max_sequence_length": 2048}
    del values["num_key_value_heads"]
    assert_read_alike(written(tmp_path / "model", {**values, "pad_token_id": 0}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"truncate": "no"}, "truncate: .*expected true or false, found 'no'"),
        ({"truncate": 0}, "truncate: .*expected true or false, found 0"),
        ({"factor": True}, "factor: .*expected a positive number, found True"),
        ({"factor": float("inf")}, "factor: .*expected a positive number, found inf"),
    ],
)
def test_a_value_of_rotary_parameters_of_another_type_is_refused(changes, message):
    scaling = {**YARN, **changes}
    with pytest.raises(ConfigError, match=message):
        ModelConfig.from_dict({**SHAPE, "model_type": "llama", "rope_scaling": scaling})


def test_a_type_of_stretching_that_transformers_5_would_not_read_is_refused():
    scaling = {"type": "linear", "factor": 8.0}
    values = {**SHAPE, "model_type": "gemma3_text", "rope_scaling": scaling}
    with pytest.raises(
        ConfigError, match=r"rope_scaling: expected `rope_type`.*linear"
    ):
        ModelConfig.from_dict(values)
    named = {**values, "rope_scaling": {**scaling, "rope_type": "linear"}}
    assert ModelConfig.from_dict(named).rope_scaling["factor"] == 8.0


@pytest.mark.parametrize("key", ["rope_type", "type"])
@pytest.mark.parametrize("kind", ["longrope", "su", "dynamic"])
def test_a_kind_of_stretching_that_there_is_not_is_refused_by_its_name(key, kind):
    factors = {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
    scaling = {key: kind, **factors, "original_max_position_embeddings": 4096}
    message = rf"rope_type: expected one of `default`.*found `{kind}`"
    with pytest.raises(ConfigError, match=message):
        ModelConfig.from_dict({**SHAPE, "model_type": "llama", "rope_scaling": scaling})


def test_rotary_parameters_that_transformers_would_not_read_are_refused():
    values = {**SHAPE, "model_type": "gemma3_text", "rope_parameters": OTHER}
    with pytest.raises(ConfigError, match=r"`full_attention` and .*'rope_theta'"):
        ModelConfig.from_dict(values)


@pytest.mark.parametrize(
    ("model_type", "changes"),
    [
        ("gemma2", {"final_logit_softcapping": 30, "attn_logit_softcapping": 50}),
        ("gemma2", {"query_pre_attn_scalar": None, "head_dim": 8}),
        ("gemma3_text", {"final_logit_softcapping": 20}),
        ("mixtral", {"num_local_experts": 4, "router_aux_loss_coef": 0}),
        ("llama", {"rms_norm_eps": 1, "initializer_range": 1}),
        ("llama", {"max_position_embeddings": 1}),
    ],
)
def test_whole_numbers_and_null_are_exported_as_transformers_takes_them(
    tmp_path, model_type, changes
):
    values = {**SHAPE, "model_type": model_type, **changes}
    model = Transformer(ModelConfig.from_dict(values))
    export(model, tmp_path / "out")
    assert load_model(tmp_path / "out").config == model.config


@pytest.mark.parametrize("model_type", ["gemma2", "gemma3_text"])
def test_a_gemma_without_windows_generates_in_transformers(tmp_path, model_type):
    changes = {"head_dim": 8, "layer_types": ["full_attention"] * 3}
    config = ModelConfig.from_dict({**SHAPE, "model_type": model_type, **changes})
    assert config.sliding_window is None
    export(Transformer(config), tmp_path / "out")
    assert load_model(tmp_path / "out").config == config


def test_a_scalar_of_scores_that_transformers_cannot_read_is_refused():
    values = {**SHAPE, "model_type": "gemma2", "query_pre_attn_scalar": 24.5}
    with pytest.raises(ConfigError, match=r"query_pre_attn_scalar: .*integer.*24\.5"):
        ModelConfig.from_dict(values)


def test_an_export_that_transformers_does_not_read_is_a_sentence_and_not_committed(
    tmp_path, tiny_model, monkeypatch
):
    def refuse(*_, **__):
        raise TypeError("Field 'rms_norm_eps' expected float")

    reader = transformers.AutoModelForCausalLM
    monkeypatch.setattr(reader, "from_pretrained", refuse)
    with pytest.raises(IntegrityError, match=r"that transformers reads.*rms_norm_eps"):
        export(tiny_model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("same", [True, False])
def test_a_tied_output_matrix_in_a_file_must_be_the_embedding(tmp_path, same):
    values = {**SHAPE, "model_type": "llama", "tie_word_embeddings": True}
    folder = written(tmp_path / "model", values)
    path = folder / "model.safetensors"
    tensors = load_file(path)
    embedding = tensors["model.embed_tokens.weight"]
    tensors["lm_head.weight"] = embedding.clone() if same else embedding + 1
    halves = {name: tensor.bfloat16() for name, tensor in tensors.items()}
    save_file(halves, path, metadata={"format": "pt"})
    if same:
        head = load_model(folder).lm_head.weight
        assert head.equal(embedding.bfloat16().float())
        return
    with pytest.raises(ConfigError, match=r"tie_word_embeddings: expected false"):
        load_model(folder)
