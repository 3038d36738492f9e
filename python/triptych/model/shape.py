"""What a configuration says of a new model: its shape, from which the model is built."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch.overrides import TorchFunctionMode

from triptych import config
from triptych._core import Tokenizer
from triptych.errors import ConfigError
from triptych.model.config import ModelConfig
from triptych.model.presets import gated_width, preset
from triptych.model.transformer import Transformer


@dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """How rotary frequencies are stretched for longer texts; names as in `config.json`.

    Attributes:
        rope_type: `linear` (Chen et al. 2023), `llama3` (Llama 3.1) or `yarn` (Peng et
            al. 2023); which of the others each reads is in docs/models.md.
        factor: how many times longer.
        original_max_position_embeddings: tokens before; None for the model's
            `max_position_embeddings`.
        low_freq_factor: of `llama3`: pairs that turn fewer times than this within the
            original length are stretched whole.
        high_freq_factor: pairs that turn more often than this are left as they are.
        beta_fast: of `yarn`, as `high_freq_factor`; None for 32.
        beta_slow: of `yarn`, as `low_freq_factor`; None for 1.
        attention_factor: multiplies cosines and sines; None for 0.1 ln(factor) + 1.
        mscale: with `mscale_all_dim`, DeepSeek's way to say that factor.
        mscale_all_dim: see `mscale`.
        truncate: the ramp begins and ends at whole pairs; None for true.
    """

    rope_type: Literal["linear", "llama3", "yarn"]
    factor: float | None = None
    original_max_position_embeddings: int | None = None
    low_freq_factor: float | None = None
    high_freq_factor: float | None = None
    beta_fast: float | None = None
    beta_slow: float | None = None
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool | None = None

    def __post_init__(self) -> None:
        """Checks that what the type needs is there, and nothing it does not read."""
        config.require_numbers(self)
        needed, optional = _ROPE_KEYS[self.rope_type]
        given = set(config.to_mapping(self)) - {"rope_type"}
        missing, foreign = needed - given, given - needed - optional
        if missing or foreign:
            expected = (
                ", ".join(f"`{name}`" for name in sorted(needed)) or "nothing else"
            )
            found = ", ".join(f"`{name}`" for name in sorted(given)) or "nothing"
            raise ConfigError(
                f"rope_type: expected {expected} with `{self.rope_type}`, found {found}"
            )


# Keys that a `rope_type` needs, and those that it may have.
_ROPE_KEYS: dict[str, tuple[set[str], set[str]]] = {
    "linear": ({"factor"}, set()),
    "llama3": (
        {"factor", "low_freq_factor", "high_freq_factor"},
        {"original_max_position_embeddings"},
    ),
    "yarn": (
        {"factor"},
        {
            "original_max_position_embeddings",
            "beta_fast",
            "beta_slow",
            "attention_factor",
            "mscale",
            "mscale_all_dim",
            "truncate",
        },
    ),
}


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """The shape of a model; names as in `config.json`, the rest follows the tokenizer.

    What is None is left to its family, see docs/models.md. What is not said here is as in
    `ModelConfig`.

    Attributes:
        size: `10m`, `100m`, ... or `d7` for a depth of 7: sets the next four, which
            may still be given.
        num_key_value_heads: None for as many as `num_attention_heads`.
        intermediate_size: None for 8/3 of `hidden_size`, rounded up to 64 (Shazeer
            2020 keeps the parameters of a plain 4x layer so).
        head_dim: None for `hidden_size / num_attention_heads`.
        max_position_embeddings: most tokens read together.
        qk_norm: queries and keys are normalized before they turn.
        model_type: family; None for Qwen3 or, without `qk_norm`, Llama.
        scale_residual_init: projections that write to the residual start smaller, by
            the root of twice the layers.
        start: `random`, or `bigram` for embeddings and an output matrix that know from
            counts which token follows which; it needs `tie_word_embeddings = false`.
    """

    described_by: ClassVar[type] = ModelConfig

    hidden_size: int | None = None
    num_hidden_layers: int | None = None
    num_attention_heads: int | None = None
    size: str | None = None
    num_key_value_heads: int | None = None
    intermediate_size: int | None = None
    head_dim: int | None = None
    max_position_embeddings: int = 2048
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = True
    qk_norm: bool = True
    initializer_range: float = 0.02
    scale_residual_init: bool = True
    start: Literal["random", "bigram"] = "random"
    model_type: str | None = None
    hidden_act: str | None = None
    attention_bias: bool | None = None
    mlp_bias: bool | None = None
    sliding_window: int | None = None
    layer_types: tuple[str, ...] | None = None
    no_rope_layers: tuple[int, ...] | None = None
    rope_local_base_freq: float | None = None
    query_pre_attn_scalar: int | None = None
    attn_logit_softcapping: float | None = None
    final_logit_softcapping: float | None = None
    num_experts: int | None = None
    num_experts_per_tok: int | None = None
    moe_intermediate_size: int | None = None
    norm_topk_prob: bool | None = None
    decoder_sparse_step: int | None = None
    mlp_only_layers: tuple[int, ...] | None = None
    router_aux_loss_coef: float | None = None

    def __post_init__(self) -> None:
        """Checks the size, or that the shape is given without one."""
        config.require_numbers(self)
        needed = ("hidden_size", "num_hidden_layers", "num_attention_heads")
        missing = [name for name in needed if getattr(self, name) is None]
        if self.size is not None:
            preset(self.size)
        elif missing:
            names = ", ".join(f"`{name}`" for name in missing)
            raise ConfigError(f"model: expected `size`, or else {names}, found neither")
        if self.start == "bigram" and self.tie_word_embeddings:
            raise ConfigError(
                "model.start: expected `random`, or `tie_word_embeddings = false`, found "
                "`bigram` with tied embeddings"
            )

    def build(self, tokenizer: Tokenizer, *, seed: int) -> Transformer:
        """A new model with weights drawn from `seed`, whatever other threads draw."""
        shape = self.model_config(tokenizer)
        with _DrawingFrom(torch.Generator().manual_seed(seed)):
            return Transformer(shape, scale_residual=self.scale_residual_init)

    def recipe(self, tokens: int | None) -> dict[str, int | float]:
        """`tokens`, `batch_tokens` and `learning_rate` of the size; none without one."""
        if self.size is None:
            return {}
        found = preset(self.size, tokens)
        names = ("tokens", "batch_tokens", "learning_rate")
        return {name: getattr(found, name) for name in names}

    def model_config(self, tokenizer: Tokenizer) -> ModelConfig:
        """The complete shape, vocabulary and marker ids included."""
        given = config.to_mapping(self)
        shape: dict[str, Any] = {}
        if self.size is not None:
            shape |= preset(self.size).shape
        if "hidden_size" in given:
            shape.pop("intermediate_size", None)
        shape |= given
        for name in ("size", "scale_residual_init", "start"):
            shape.pop(name, None)
        if self.model_type is not None:
            del shape["qk_norm"]
        shape.setdefault("intermediate_size", gated_width(shape["hidden_size"]))
        shape.setdefault("num_key_value_heads", shape["num_attention_heads"])
        shape.setdefault("head_dim", None)
        if self.sliding_window is not None and self.layer_types is None:
            # In all layers: in a config.json of Qwen it is from the 28th on.
            shape |= {"use_sliding_window": True, "max_window_layers": 0}
        markers = {
            "bos_token_id": tokenizer.bos_id,
            "eos_token_id": tokenizer.eos_id,
            "pad_token_id": _pad_id(tokenizer),
        }
        return ModelConfig.from_dict(
            {"vocab_size": tokenizer.vocab_size, **shape, **markers}
        )


class _DrawingFrom(TorchFunctionMode):
    """What this thread draws comes from a generator of its own.

    The modules of torch draw from the process's, which another run beside this one
    begins anew at each of its steps.
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Calls `func`, with the generator where it may be given one."""
        given = dict(kwargs or {})
        if "generator" in given:  # all of torch.nn.init that draw come with it
            given["generator"] = self.generator
        return func(*args, **given)


def _pad_id(tokenizer: Tokenizer) -> int | None:
    """Those of Llama 2 and Mistral have none; nothing here is padded."""
    try:
        return tokenizer.pad_id
    except ConfigError:
        return None
