"""The families of models: what each one computes that the others do not.

A family is one row of the table. What all its models do is an attribute of `Family`;
what they may choose is an option, a field of `ModelConfig` named as in `config.json`.
An option that a `config.json` leaves out has the value that transformers 5 gives it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from triptych.errors import ConfigError

# Fields of `ModelConfig` that every family has.
COMMON = frozenset(
    "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads "
    "num_key_value_heads head_dim model_type hidden_act max_position_embeddings "
    "rope_theta rope_scaling rms_norm_eps tie_word_embeddings initializer_range "
    "bos_token_id eos_token_id pad_token_id".split()
)


@dataclass(frozen=True)
class ExpertNames:
    """How a family's files name a layer of experts and the matrices of each expert."""

    block: str
    gate: str
    up: str
    down: str


@dataclass(frozen=True, kw_only=True)
class Family:
    """What the models of one `model_type` have in common.

    Attributes:
        model_type: as in `config.json`.
        architecture: class of transformers that reads an export.
        options: fields of `ModelConfig` beyond the common ones.
        defaults: values of fields that a `config.json` leaves out.
        fixed: fields that have one value in all models of the family.
        inert: keys that transformers accepts for the family and never computes with.
        qk_norm: what of queries and keys is normalised before they turn: each `head`,
            all heads together (`width`), or nothing.
        norms: where a layer normalises: what enters a sublayer (`pre`), what leaves
            it (`post`), or `both`.
        one_plus_norms: norms multiply by 1 + weight, which starts at 0.
        scale_embeddings: embeddings are multiplied by the root of `hidden_size`.
        output_bias: `attention_bias` is true of the output projection as well.
        windows: whose `sliding_window` it is: of `all` layers, of those `layer_types`
            names (`typed`), or of none.
        window_switch: a window holds only if `use_sliding_window` is true.
        experts: names in a sparse layer; None where all layers are dense.
        split: expression by which transformers 5 splits the text of all its models,
            whatever their `tokenizer.json` has; None where it takes that.
    """

    model_type: str
    architecture: str
    options: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    inert: tuple[str, ...] = ()
    qk_norm: Literal["head", "width"] | None = None
    norms: Literal["pre", "post", "both"] = "pre"
    one_plus_norms: bool = False
    scale_embeddings: bool = False
    output_bias: bool = True
    windows: Literal["all", "typed"] | None = None
    window_switch: bool = False
    experts: ExpertNames | None = None
    split: str | None = None

    @property
    def activation_key(self) -> str:
        """Name of `hidden_act` in the family's `config.json`."""
        return "hidden_activation" if self.one_plus_norms else "hidden_act"

    @property
    def fields(self) -> frozenset[str]:
        """Fields of `ModelConfig` that its models may choose."""
        return COMMON.union(self.options)


_UNTIED = {"tie_word_embeddings": False}
_MISTRAL = {
    **_UNTIED,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131_072,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_QWEN = {
    **_UNTIED,
    "num_key_value_heads": 32,
    "max_position_embeddings": 32_768,
    "sliding_window": 4096,
}
_GEMMA = {
    "hidden_act": "gelu_pytorch_tanh",
    "head_dim": 256,
    "num_key_value_heads": 4,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "tie_word_embeddings": True,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": 2,
}
_WINDOWS = ("sliding_window", "layer_types")
_EXPERTS = ("num_experts", "num_experts_per_tok", "router_aux_loss_coef")

_ROWS = (
    # Llama 1 to 3.3, SmolLM and SmolLM2, and what else took this architecture.
    Family(
        model_type="llama",
        architecture="LlamaForCausalLM",
        options=("attention_bias", "mlp_bias"),
        defaults={**_UNTIED, "bos_token_id": 1, "eos_token_id": 2},
        inert=("max_sequence_length",),  # of conversions of Llama 1
    ),
    Family(
        model_type="mistral",
        architecture="MistralForCausalLM",
        options=_WINDOWS,
        defaults={**_MISTRAL, "sliding_window": 4096},
        windows="all",
    ),
    # Qwen2 and Qwen2.5.
    Family(
        model_type="qwen2",
        architecture="Qwen2ForCausalLM",
        options=_WINDOWS,
        defaults=_QWEN,
        fixed={"attention_bias": True},
        output_bias=False,
        windows="typed",
        window_switch=True,
        split=r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    Family(
        model_type="qwen3",
        architecture="Qwen3ForCausalLM",
        options=("attention_bias", *_WINDOWS),
        defaults={**_QWEN, "head_dim": 128},
        qk_norm="head",
        windows="typed",
        window_switch=True,
    ),
    Family(
        model_type="smollm3",
        architecture="SmolLM3ForCausalLM",
        options=("attention_bias", "mlp_bias", "no_rope_layers", *_WINDOWS),
        defaults={
            "num_key_value_heads": 4,
            "max_position_embeddings": 32_768,
            "rope_theta": 2_000_000.0,
            "tie_word_embeddings": True,
            "bos_token_id": 128_000,
            "eos_token_id": 128_001,
            "pad_token_id": 128_004,
        },
        windows="typed",
        window_switch=True,
    ),
    Family(
        model_type="olmo2",
        architecture="Olmo2ForCausalLM",
        options=("attention_bias",),
        defaults={
            **_UNTIED,
            "rms_norm_eps": 1e-5,
            "pad_token_id": 1,
            "eos_token_id": 50_279,
        },
        qk_norm="width",
        norms="post",
    ),
    Family(
        model_type="gemma2",
        architecture="Gemma2ForCausalLM",
        options=(
            "attention_bias",
            "query_pre_attn_scalar",
            "attn_logit_softcapping",
            "final_logit_softcapping",
            *_WINDOWS,
        ),
        defaults={
            **_GEMMA,
            "max_position_embeddings": 8192,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
        },
        inert=("hidden_act", "cache_implementation"),
        norms="both",
        one_plus_norms=True,
        scale_embeddings=True,
        windows="typed",
    ),
    Family(
        model_type="gemma3_text",
        architecture="Gemma3ForCausalLM",
        options=(
            "attention_bias",
            "query_pre_attn_scalar",
            "final_logit_softcapping",
            "rope_local_base_freq",
            *_WINDOWS,
        ),
        defaults={
            **_GEMMA,
            "max_position_embeddings": 131_072,
            "rope_theta": 1_000_000.0,
            "rope_local_base_freq": 10_000.0,
        },
        # transformers keeps the cap of Gemma-2's scores and does not apply it, and writes
        # a pattern beside `layer_types` that it does not read.
        inert=(
            "hidden_act",
            "cache_implementation",
            "attn_logit_softcapping",
            "_sliding_window_pattern",
        ),
        qk_norm="head",
        norms="both",
        one_plus_norms=True,
        scale_embeddings=True,
        windows="typed",
    ),
    Family(
        model_type="mixtral",
        architecture="MixtralForCausalLM",
        options=(*_EXPERTS, *_WINDOWS),
        defaults={
            **_MISTRAL,
            "rope_theta": 1_000_000.0,
            "rms_norm_eps": 1e-5,
            "num_experts": 8,
            "num_experts_per_tok": 2,
        },
        fixed={"norm_topk_prob": True},
        windows="all",
        experts=ExpertNames("block_sparse_moe", "w1", "w3", "w2"),
    ),
    Family(
        model_type="qwen3_moe",
        architecture="Qwen3MoeForCausalLM",
        options=(
            "attention_bias",
            "moe_intermediate_size",
            "norm_topk_prob",
            "decoder_sparse_step",
            "mlp_only_layers",
            *_EXPERTS,
            *_WINDOWS,
        ),
        defaults={
            **_QWEN,
            "num_key_value_heads": 4,
            "num_experts": 128,
            "num_experts_per_tok": 8,
            "moe_intermediate_size": 768,
        },
        qk_norm="head",
        windows="all",
        window_switch=True,
        experts=ExpertNames("mlp", "gate_proj", "up_proj", "down_proj"),
    ),
)

FAMILIES: Mapping[str, Family] = {family.model_type: family for family in _ROWS}


def family_named(model_type: object) -> Family:
    """The family of a `model_type`.

    Raises:
        ConfigError: there is none; the error names those there are.
    """
    family = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    if family is None:
        names = ", ".join(f"`{name}`" for name in FAMILIES)
        raise ConfigError(f"model_type: expected one of {names}, found {model_type!r}")
    return family
