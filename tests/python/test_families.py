"""Every family against transformers: logits, losses, gradients, generation, files.

One table of configurations with the options of each family turned, and more drawn
from seeds.
"""

from __future__ import annotations

import dataclasses
import json
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny import packed
from triptych.errors import ConfigError
from triptych.generation import Sampling, generate
from triptych.model import ModelConfig, Transformer
from triptych.model.families import FAMILIES
from triptych.model.huggingface import load_model, read_weights
from triptych.train import PretrainObjective
from triptych.train.measures import document_flops

transformers = pytest.importorskip("transformers")
transformers.logging.set_verbosity_error()
pytestmark = pytest.mark.usefixtures("one_thread")
TOLERANCE = 1e-5

SHAPE = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}
# Wide weights: at 0.02 attention is nearly uniform and hides a wrong window or scale.
WIDE = {"initializer_range": 0.2}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
LINEAR = {"rope_type": "linear", "factor": 3.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
MIXED = ["sliding_attention", "full_attention", "sliding_attention"]
SPARSE = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 24}

TABLE = {
    "llama": ("llama", {}),
    "llama tied, with biases": (
        "llama",
        {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True},
    ),
    "llama 3": ("llama", {"rope_theta": 5e5, "rope_scaling": LLAMA3}),
    "llama stretched": ("llama", {"rope_scaling": LINEAR}),
    "llama yarn": ("llama", {"rope_scaling": YARN}),
    "llama wide heads": ("llama", {"head_dim": 16, "num_key_value_heads": 1}),
    "llama gelu": ("llama", {"hidden_act": "gelu"}),
    "mistral": ("mistral", {"sliding_window": 7}),
    "mistral without window": ("mistral", {"sliding_window": None, "head_dim": 12}),
    "qwen2": ("qwen2", {}),
    "qwen2 window": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    ),
    "qwen2 yarn": ("qwen2", {"rope_scaling": YARN, "tie_word_embeddings": True}),
    "qwen3": ("qwen3", {"head_dim": 16}),
    "qwen3 window, biases": (
        "qwen3",
        {
            "head_dim": 8,
            "attention_bias": True,
            "use_sliding_window": True,
            "sliding_window": 6,
            "layer_types": MIXED,
        },
    ),
    "smollm3": ("smollm3", {"no_rope_layer_interval": 2}),
    "smollm3 window": (
        "smollm3",
        {
            "no_rope_layers": [1, 0, 1],
            "use_sliding_window": True,
            "sliding_window": 5,
            "attention_bias": True,
            "mlp_bias": True,
            "tie_word_embeddings": False,
        },
    ),
    "olmo2": ("olmo2", {}),
    "olmo2 biases, one head of keys": (
        "olmo2",
        {"attention_bias": True, "num_key_value_heads": 1, "rope_scaling": YARN},
    ),
    "gemma2": (
        "gemma2",
        {"head_dim": 16, "sliding_window": 5, "query_pre_attn_scalar": 24},
    ),
    "gemma2 tight caps": (
        "gemma2",
        {
            "head_dim": 8,
            "sliding_window": 9,
            "layer_types": MIXED[::-1],
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 1.5,
            "attention_bias": True,
        },
    ),
    "gemma2 without caps": (
        "gemma2",
        {
            "head_dim": 8,
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
        },
    ),
    "gemma3": (
        "gemma3_text",
        {"head_dim": 16, "sliding_window": 5, "sliding_window_pattern": 3},
    ),
    "gemma3 stretched, capped": (
        "gemma3_text",
        {
            "head_dim": 8,
            "sliding_window": 6,
            "layer_types": MIXED,
            "final_logit_softcapping": 2.0,
            "rope_theta": 5e4,
            "rope_local_base_freq": 500.0,
            "rope_scaling": LINEAR,
        },
    ),
    "mixtral": ("mixtral", {"num_local_experts": 4}),
    "mixtral window": (
        "mixtral",
        {"num_local_experts": 5, "num_experts_per_tok": 3, "sliding_window": 6},
    ),
    "qwen3 moe": ("qwen3_moe", {**SPARSE, "head_dim": 8}),
    "qwen3 moe turned": (
        "qwen3_moe",
        {
            **SPARSE,
            "head_dim": 16,
            "norm_topk_prob": True,
            "decoder_sparse_step": 2,
            "mlp_only_layers": [0],
            "use_sliding_window": True,
            "sliding_window": 5,
            "attention_bias": True,
        },
    ),
}
CASES = [pytest.param(*case, id=name) for name, case in TABLE.items()]


def twin_of(model_type, changes, seed=0):
    """A random model of transformers, its norms and biases away from 0 and 1."""
    values = {**SHAPE, **WIDE, **changes}
    config = transformers.AutoConfig.for_model(model_type, **values)
    torch.manual_seed(seed)
    twin = transformers.AutoModelForCausalLM.from_config(
        config, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    if hasattr(config, "num_experts_per_tok"):
        twin.set_experts_implementation("eager")  # the other asks for certain widths
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            if parameter.dim() == 1:
                parameter += 0.3 * torch.randn_like(parameter)
            elif "experts" in name or name.endswith("gate.weight"):
                parameter.normal_(std=0.2)
    return twin


def ours(twin, folder):
    """Our model, read from the files that transformers writes."""
    twin.save_pretrained(folder)
    return load_model(folder).eval()


def random_ids(config, batch=2, length=33, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, config.vocab_size, (batch, length), generator=generator)


def relative(found, expected):
    """Largest difference, as a share of the largest value if that is above 1."""
    return ((found - expected).abs().max() / expected.abs().max().clamp(min=1)).item()


def gradients_of(twin, folder):
    """Gradients by the names of files, which for experts are not those in memory."""
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.copy_(parameter.grad)
    twin.save_pretrained(folder)
    return read_weights(folder)


def assert_equal(model_type, changes, folder, seed=0):
    """Logits, loss and every gradient within 1e-5 in float32."""
    twin = twin_of(model_type, changes, seed)
    model = ours(twin, folder / "model")
    ids = random_ids(model.config)
    expected = twin(ids, labels=ids)
    assert relative(model.logits(ids), expected.logits) < TOLERANCE
    expected.loss.backward()
    found = PretrainObjective().loss(model, packed(ids.tolist()))
    loss = found.loss_sum / found.count
    assert loss.item() == pytest.approx(expected.loss.item(), rel=TOLERANCE)
    loss.backward()
    gradients = gradients_of(twin, folder / "gradients")
    for name, parameter in model.named_parameters():
        assert relative(parameter.grad, gradients[name]) < TOLERANCE, name


@pytest.mark.parametrize(("model_type", "changes"), CASES)
def test_logits_losses_and_gradients_are_those_of_transformers(
    tmp_path, model_type, changes
):
    assert_equal(model_type, changes, tmp_path)


@pytest.mark.parametrize("seed", range(24))
def test_a_drawn_configuration_computes_what_transformers_computes(tmp_path, seed):
    model_type, changes = drawn(random.Random(seed))
    assert_equal(model_type, changes, tmp_path, seed)


def drawn(rng):
    """A family and a random choice of its options."""
    model_type = rng.choice(sorted(FAMILIES))
    options = FAMILIES[model_type].options
    activation = FAMILIES[model_type].activation_key
    keys, groups = rng.choice([1, 2, 3]), rng.choice([1, 2, 4])
    head_dim, layers = rng.choice([4, 8, 10]), rng.choice([1, 2, 4])
    heads = keys * groups
    changes = {
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": keys,
        "hidden_size": heads * rng.choice([4, 6]),
        "intermediate_size": rng.choice([24, 40]),
        "head_dim": head_dim,
        "vocab_size": rng.choice([61, 130]),
        "tie_word_embeddings": rng.random() < 0.5,
        "rms_norm_eps": rng.choice([1e-6, 1e-5, 1e-3]),
        "rope_theta": rng.choice([100.0, 1e4, 1e6]),
        activation: rng.choice(
            ["silu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu"]
        ),
        "rope_scaling": rng.choice([None, LLAMA3, YARN, LINEAR]),
    }
    for name in ("attention_bias", "mlp_bias", "norm_topk_prob"):
        if name in options:
            changes[name] = rng.random() < 0.5
    if "sliding_window" in options and rng.random() < 0.7:
        changes |= {"sliding_window": rng.choice([1, 4, 40]), "max_window_layers": 1}
        if FAMILIES[model_type].window_switch:
            changes["use_sliding_window"] = True
    for name in ("attn_logit_softcapping", "final_logit_softcapping"):
        if name in options:
            changes[name] = rng.choice([None, 3.0, 30.0])
    if "num_experts" in options:
        number = rng.choice([2, 7])
        changes |= (
            {**SPARSE, "num_experts": number}
            if "moe_intermediate_size" in options
            else {"num_local_experts": number}
        )
    return model_type, changes


# One of each kind of cache: plain, windowed, typed, capped, without turns, sparse.
GENERATING = [
    "llama yarn",
    "mistral",
    "qwen3 window, biases",
    "smollm3 window",
    "olmo2",
    "gemma2 tight caps",
    "gemma3 stretched, capped",
    "mixtral window",
    "qwen3 moe turned",
]


@torch.no_grad()
@pytest.mark.parametrize("name", GENERATING)
def test_greedy_text_is_that_of_transformers_and_of_no_cache(tmp_path, name):
    twin = twin_of(*TABLE[name])
    model = ours(twin, tmp_path)
    prompts = random_ids(model.config, length=9)
    twin.generation_config.eos_token_id = None
    expected = twin.generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        max_new_tokens=10,
        do_sample=False,
        pad_token_id=0,
    )[:, 9:]
    sampling = Sampling(max_new_tokens=10)
    found = generate(model, prompts.tolist(), sampling, stop_ids=[])
    assert [completion.ids for completion in found] == expected.tolist()
    whole = prompts
    for _ in range(10):
        following = model.logits(whole)[:, -1].argmax(-1, keepdim=True)
        whole = torch.cat((whole, following), dim=1)
    assert whole[:, 9:].tolist() == expected.tolist()


@torch.no_grad()
@pytest.mark.parametrize("name", ["gemma2 tight caps", "qwen3 moe turned"])
def test_prompts_of_many_lengths_decode_as_they_do_alone(name):
    model = built(name)
    prompts = [random_ids(model.config, 1, length)[0].tolist() for length in (3, 17, 8)]
    sampling = Sampling(max_new_tokens=9)
    together = generate(model, prompts, sampling, stop_ids=[])
    alone = generate(model, prompts, sampling, stop_ids=[], batch_size=1)
    assert together == alone


def config_of(name):
    model_type, changes = TABLE[name]
    values = {**SHAPE, "model_type": model_type, **changes}
    return ModelConfig.from_dict(values)


def built(name):
    torch.manual_seed(0)
    return Transformer(config_of(name))


@pytest.mark.parametrize("name", TABLE)
def test_a_config_survives_both_ways_and_counts_its_parameters(name):
    config = config_of(name)
    assert ModelConfig.from_hf_dict(config.to_hf_dict()) == config
    assert ModelConfig.from_hf_dict(json.loads(json.dumps(config.to_dict()))) == config
    model = Transformer(config)
    held = sum(parameter.numel() for parameter in model.parameters())
    assert config.num_parameters() == held
    again = transformers.AutoConfig.for_model(**config.to_hf_dict())
    assert ModelConfig.from_hf_dict(again.to_dict()) == config


@pytest.mark.parametrize("name", ["qwen2 window", "gemma2", "gemma3", "mixtral"])
def test_packed_documents_of_a_family_have_the_logits_they_have_alone(name):
    model = built(name)
    documents = [[5, 6, 7, 8, 9, 10, 11, 12], [9, 10], [11, 12, 13, 14], [15]]
    batch = packed(documents)
    together = model.logits(batch.input_ids, batch.position_ids, batch.cu_seqlens)
    alone = [model.logits(torch.tensor(document)) for document in documents]
    torch.testing.assert_close(together, torch.cat(alone))


def test_an_idle_expert_has_a_gradient_of_zero():
    model = built("mixtral")
    ids = torch.tensor([7])
    model.logits(ids).sum().backward()
    block = model.model.layers[0].block_sparse_moe
    chosen = block.route(torch.zeros(1, 32))[1]
    assert chosen.shape == (1, 2)
    gradients = [expert.w1.weight.grad for expert in block.experts]
    assert all(gradient is not None for gradient in gradients)
    assert sum(bool(gradient.abs().max() > 0) for gradient in gradients) == 2


def test_flops_count_the_chosen_experts_and_the_keys_of_a_window():
    config = config_of("mixtral window")
    layer = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 3 * 32 * 48 + 32 * 5
    matrices = 3 * layer + 97 * 32
    assert config.num_matmul_parameters() == matrices
    pairs = 6 * 7 // 2 + 58 * 6  # of 64 tokens, each of which sees 6 at most
    assert document_flops(config, [64]) == 6 * matrices * 64 + 3 * 12 * 4 * 8 * pairs


REFUSED = [
    ("gemma2", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
    ("gemma2", {"hidden_activation": "mish"}, "hidden_activation: expected one of"),
    (
        "mixtral",
        {"router_aux_loss_coef": []},
        "router_aux_loss_coef: expected a number",
    ),
    (
        "mixtral",
        {"router_aux_loss_coef": -0.1},
        "router_aux_loss_coef: expected a number",
    ),
    ("mixtral", {"router_jitter_noise": 0.1}, "router_jitter_noise: expected 0.0"),
    ("mixtral", {"norm_topk_prob": False}, "norm_topk_prob: expected True.*`mixtral`"),
    ("mixtral", {"output_router_logits": True}, "output_router_logits: expected False"),
    ("llama", {"num_experts": 4}, "num_experts: expected None.*`llama`.*found 4"),
    ("llama", {"partial_rotary_factor": 0.5}, "unknown .*'partial_rotary_factor'"),
    ("llama", {"rope_scaling": {"partial_rotary_factor": 0.5}}, "partial_rotary"),
    ("llama", {"rope_parameters": {"full_attention": {}}}, "one set for all layers"),
    ("qwen2", {"attention_bias": False}, "attention_bias: expected True"),
    ("qwen2", {"use_mrope": True}, "use_mrope: expected False"),
    (
        "qwen2",
        {"use_sliding_window": False, "layer_types": MIXED},
        "layer_types: expected 3 of `full_attention`",
    ),
    ("mistral", {"layer_types": MIXED}, "layer_types: expected 3 of `sliding_att"),
    (
        "gemma2",
        {"sliding_window": 4, "layer_types": ["x"] * 3},
        "layer_types: expected",
    ),
    ("smollm3", {"no_rope_layers": [1, 2, 0]}, "no_rope_layers: expected 3 of .0, 1."),
    ("qwen3_moe", {"num_experts": 4}, "num_experts_per_tok: expected at most .*4.*8"),
    ("qwen3_moe", {"mlp_only_layers": [3]}, "mlp_only_layers: expected layers from 0"),
    (
        "gemma3_text",
        {"rope_parameters": {"sliding_attention": {"rope_type": "linear"}}},
        "rope_parameters.sliding_attention: expected `default`",
    ),
]


@pytest.mark.parametrize(("model_type", "changes", "message"), REFUSED)
def test_what_would_compute_something_else_is_refused(model_type, changes, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig.from_dict({**SHAPE, "model_type": model_type, **changes})


def test_a_refusal_names_the_file(tmp_path):
    values = {**SHAPE, "model_type": "llama", "alibi": True}
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=r"config.json`: unknown .*'alibi'"):
        load_model(tmp_path)


def test_an_id_outside_a_small_vocabulary_is_none():
    values = {**SHAPE, "model_type": "olmo2"}
    del values["eos_token_id"]
    assert ModelConfig.from_dict(values).eos_token_id is None


KEYS = sorted(
    {field.name for field in dataclasses.fields(ModelConfig)}
    | {"rope_parameters", "use_sliding_window", "max_window_layers", "qk_norm"}
    | {"sliding_window_pattern", "no_rope_layer_interval", "num_local_experts"}
    | {"hidden_activation", "quantization_config", "attention_dropout"}
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 40),
    st.floats(),
    st.sampled_from(["", "yarn", "llama3", "linear", "default", *MIXED[:2]]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from([*LLAMA3, *YARN, "rope_theta", *MIXED[:2]]),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([*FAMILIES, None]),
    st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3),
)
def test_any_values_give_a_config_or_a_sentence(model_type, changes):
    known = {} if model_type is None else {"model_type": model_type}
    try:
        config = ModelConfig.from_dict({**SHAPE, **known, **changes})
    except ConfigError:
        return
    assert ModelConfig.from_dict(config.to_hf_dict()) == config
