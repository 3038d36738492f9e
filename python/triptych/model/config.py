"""The shape of a model, its fields named as in the `config.json` it is exported to.

Which fields a model may set depends on its family (`families`); reading and writing
`config.json` is in `config_json`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from triptych.errors import ConfigError
from triptych.model.families import Family, family_named
from triptych.ops import rotary_frequencies

# Names of transformers; `swish` is silu, `gelu_new` the approximation by tanh.
ACTIVATIONS = ("silu", "swish", "gelu", "gelu_pytorch_tanh", "gelu_new", "relu")
FULL, SLIDING = "full_attention", "sliding_attention"

MOST_LAYERS = 10_000

REQUIRED = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
)
TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
# Ten times the largest that published models have, so that no slip of a digit asks for
# tables of any length: of vocabularies that of XLM-V, of widths those of MT-NLG 530B, of
# layers the 1,000 of DeepNet, of heads the 128 of Llama 3 405B, of experts the 2,048 of
# Switch, of contexts the 100 million of LTM-2.
_MOST = {
    "vocab_size": 10_000_000,
    "hidden_size": 250_000,
    "intermediate_size": 1_000_000,
    "num_hidden_layers": MOST_LAYERS,
    "num_attention_heads": 2_000,
    "num_key_value_heads": 2_000,
    "head_dim": 8_000,
    "max_position_embeddings": 1_000_000_000,
    "num_experts": 20_000,
    "moe_intermediate_size": 1_000_000,
}
_COUNTS = (
    *REQUIRED,
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "decoder_sparse_step",
)
_POSITIVE = ("rope_theta", "rms_norm_eps", "initializer_range")
_OPTIONAL_COUNTS = (
    "sliding_window",
    "num_experts",
    "num_experts_per_tok",
    "moe_intermediate_size",
    "query_pre_attn_scalar",
)
_OPTIONAL_POSITIVE = (
    "rope_local_base_freq",
    "attn_logit_softcapping",
    "final_logit_softcapping",
)
_FLAGS = ("tie_word_embeddings", "attention_bias", "mlp_bias", "norm_topk_prob")
_Test = Callable[[object], bool]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A decoder of one of the families.

    Checked at birth: an impossible shape is a `ConfigError` that names the field,
    what was expected and what was found. Fields that a family does not have keep
    their default, which changes nothing.

    Attributes:
        vocab_size: ids, rows of the embeddings.
        hidden_size: width of what goes from layer to layer.
        intermediate_size: width inside a feed-forward layer.
        num_hidden_layers: layers.
        num_attention_heads: heads of queries in a layer.
        num_key_value_heads: heads of keys and values, each shared by as many of queries.
        head_dim: numbers of a head.
        model_type: family, as in `config.json`.
        hidden_act: activation of the gate in a feed-forward layer.
        max_position_embeddings: most tokens read together.
        rope_theta: base of the frequencies of rotary positions.
        rope_scaling: how frequencies are stretched, as `ops.rotary_frequencies` takes
            it; None for plain ones.
        rms_norm_eps: added to the mean square of a norm.
        tie_word_embeddings: the output matrix is that of the embeddings.
        attention_bias: projections of attention add a bias.
        mlp_bias: projections of feed-forward layers add one.
        rope_local_base_freq: base of the frequencies of layers with a window; None
            for `rope_theta` there too.
        sliding_window: keys that a layer of `sliding_attention` sees, its own
            position among them.
        layer_types: `full_attention` or `sliding_attention` for each layer; None
            where every layer is full.
        no_rope_layers: 0 for each layer whose heads do not turn, 1 for the others;
            None where all turn.
        query_pre_attn_scalar: scores are divided by its root; None for `head_dim`.
        attn_logit_softcapping: scores become cap * tanh(score / cap).
        final_logit_softcapping: logits likewise.
        num_experts: of a sparse layer; None where all layers are dense.
        num_experts_per_tok: experts that a token goes to.
        moe_intermediate_size: width of an expert; None for `intermediate_size`.
        norm_topk_prob: weights of the chosen experts are made to sum to 1.
        decoder_sparse_step: every so many-th layer is sparse.
        mlp_only_layers: layers, from 0, that are dense all the same.
        router_aux_loss_coef: of the loss that balances experts in training.
        initializer_range: standard deviation of first weights.
        bos_token_id: opens a text; None for none. The next two likewise.
        eos_token_id: closes it.
        pad_token_id: fills it up.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    model_type: str = "llama"
    hidden_act: str = "silu"
    max_position_embeddings: int = 2048
    rope_theta: float = 10_000.0  # Su et al. 2021
    rope_scaling: Mapping[str, Any] | None = None
    rope_local_base_freq: float | None = None
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = True
    attention_bias: bool = False
    mlp_bias: bool = False
    sliding_window: int | None = None
    layer_types: tuple[str, ...] | None = None
    no_rope_layers: tuple[int, ...] | None = None
    query_pre_attn_scalar: int | None = None
    attn_logit_softcapping: float | None = None
    final_logit_softcapping: float | None = None
    num_experts: int | None = None
    num_experts_per_tok: int | None = None
    moe_intermediate_size: int | None = None
    norm_topk_prob: bool = False
    decoder_sparse_step: int = 1
    mlp_only_layers: tuple[int, ...] = ()
    router_aux_loss_coef: float = 0.001
    initializer_range: float = 0.02  # GPT-2
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    pad_token_id: int | None = None

    def __post_init__(self) -> None:
        family_named(self.model_type)
        for name in _COUNTS:
            _check(name, getattr(self, name), is_count, "an integer above 0")
        for name in _POSITIVE:
            _check(name, getattr(self, name), _is_positive, "a number above 0")
        for name in _OPTIONAL_COUNTS:
            _check_optional(self, name, is_count, "an integer above 0 or null")
        for name in _OPTIONAL_POSITIVE:
            _check_optional(self, name, _is_positive, "a number above 0 or null")
        for name, most in _MOST.items():
            if (getattr(self, name) or 0) > most:
                raise ConfigError(
                    f"{name}: expected at most {most}, found {getattr(self, name)}"
                )
        router = self.router_aux_loss_coef
        _check(
            "router_aux_loss_coef", router, _is_at_least_zero, "a number of at least 0"
        )
        for name in _FLAGS:
            _check(name, getattr(self, name), is_bool, "true or false")
        self._check_activation()
        self._check_heads()
        self._check_layers()
        self._check_experts()
        self._check_token_ids()

    def _check_activation(self) -> None:
        if self.hidden_act not in ACTIVATIONS:
            known = ", ".join(f"`{name}`" for name in ACTIVATIONS)
            raise ConfigError(
                f"{self.family.activation_key}: expected one of {known}, found "
                f"{self.hidden_act!r}"
            )

    def _check_heads(self) -> None:
        if self.num_attention_heads % self.num_key_value_heads:
            raise ConfigError(
                f"num_key_value_heads: expected a divisor of num_attention_heads "
                f"({self.num_attention_heads}), found {self.num_key_value_heads}"
            )
        if self.head_dim % 2:
            raise ConfigError(
                "head_dim: expected an even number, as rotary embeddings turn pairs, "
                f"found {self.head_dim}"
            )
        rotary_frequencies(self.head_dim, self.rope_theta, self.rope_scaling)

    def _check_layers(self) -> None:
        for name, known in (
            ("layer_types", (FULL, SLIDING)),
            ("no_rope_layers", (0, 1)),
        ):
            values = getattr(self, name)
            if values is None:
                continue
            if len(values) != self.num_hidden_layers or set(values) - set(known):
                raise ConfigError(
                    f"{name}: expected {self.num_hidden_layers} of {list(known)}, one "
                    f"a layer, found {list(values)}"
                )
        if SLIDING in (self.layer_types or ()) and self.sliding_window is None:
            raise ConfigError(
                "sliding_window: expected a number of keys, as layer_types has "
                "`sliding_attention`, found none"
            )

    def _check_experts(self) -> None:
        if self.num_experts is None:
            return
        chosen = self.num_experts_per_tok
        if chosen is None or chosen > self.num_experts:
            raise ConfigError(
                f"num_experts_per_tok: expected at most num_experts "
                f"({self.num_experts}), found {chosen}"
            )
        layers = range(self.num_hidden_layers)
        if any(index not in layers for index in self.mlp_only_layers):
            raise ConfigError(
                f"mlp_only_layers: expected layers from 0 to {layers[-1]}, found "
                f"{list(self.mlp_only_layers)}"
            )

    def _check_token_ids(self) -> None:
        for name in TOKEN_IDS:
            value = getattr(self, name)
            inside = is_integer(value) and 0 <= value < self.vocab_size
            if value is not None and not inside:
                raise ConfigError(
                    f"{name}: expected an id below vocab_size ({self.vocab_size}), "
                    f"found {value!r}"
                )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Reads our own fields or a Hugging Face `config.json`, strictly.

        Unknown keys are errors, unless they are known not to change the model. With
        a `model_type`, what is absent has its family's default; without one, the
        defaults of this class hold, and `qk_norm` chooses between Llama and Qwen3.

        Raises:
            ConfigError: a key is unknown or missing, or asks for another model.
        """
        from triptych.model.config_json import read

        return cls(**read(values))

    from_hf_dict = from_dict

    def to_dict(self) -> dict[str, Any]:
        """Our own fields, as `from_dict` reads them."""
        chosen = self.family.fields
        values = {name: v for name, v in asdict(self).items() if name in chosen}
        values[self.family.activation_key] = values.pop("hidden_act")
        return values

    def to_hf_dict(self) -> dict[str, Any]:
        """The `config.json` that transformers reads as the family's causal model."""
        from triptych.model.config_json import write

        return write(self)

    @property
    def family(self) -> Family:
        """What all models of this `model_type` have in common."""
        return family_named(self.model_type)

    @property
    def score_scale(self) -> float:
        """Factor of attention scores."""
        scalar = self.query_pre_attn_scalar
        return 1.0 / math.sqrt(self.head_dim if scalar is None else scalar)

    def window(self, layer: int) -> int | None:
        """Keys that a query of a layer sees, itself among them; None for all before."""
        slides = self.layer_types is not None and self.layer_types[layer] == SLIDING
        return self.sliding_window if slides else None

    def turns(self, layer: int) -> bool:
        """Whether a layer's queries and keys turn with their positions."""
        return self.no_rope_layers is None or bool(self.no_rope_layers[layer])

    def is_sparse(self, layer: int) -> bool:
        """Whether a layer sends each token to some of its experts."""
        if self.num_experts is None or layer in self.mlp_only_layers:
            return False
        return (layer + 1) % self.decoder_sparse_step == 0

    def num_matmul_parameters(self) -> int:
        """Parameters a token is multiplied by: all matrices, the output one included.

        The input embedding is a lookup and does not count; tied or not, the output
        projection does. Of the experts of a layer, those count that a token goes to.
        """
        chosen = self.num_experts_per_tok or 0
        return self._num_matrix_parameters(chosen) + self.vocab_size * self.hidden_size

    def _num_matrix_parameters(self, experts: int) -> int:
        """Numbers in the matrices of all layers, with so many experts a sparse one."""
        width = self.hidden_size
        heads = 2 * self.num_attention_heads + 2 * self.num_key_value_heads
        sparse = sum(map(self.is_sparse, range(self.num_hidden_layers)))
        expert = self.moe_intermediate_size or self.intermediate_size
        dense = 3 * width * self.intermediate_size
        routed = 3 * width * expert * experts + width * (self.num_experts or 0)
        attention = self.num_hidden_layers * heads * self.head_dim * width
        dense_layers = self.num_hidden_layers - sparse
        return attention + dense_layers * dense + sparse * routed

    def num_parameters(self) -> int:
        """All trainable numbers; tied embeddings count once."""
        return self._num_with(self.num_experts or 0)

    def num_active_parameters(self) -> int:
        """Those of them that a token meets: of a layer's experts the ones it goes to."""
        return self._num_with(self.num_experts_per_tok or 0)

    def _num_with(self, experts: int) -> int:
        matrices = self._num_matrix_parameters(experts)
        embeddings = self.vocab_size * self.hidden_size
        tables = embeddings if self.tie_word_embeddings else 2 * embeddings
        vectors = self.num_hidden_layers * (self._num_norms() + self._num_biases())
        return matrices + tables + vectors + self.hidden_size

    def _num_norms(self) -> int:
        """Weights of a layer's norms."""
        norms = 4 if self.family.norms == "both" else 2
        queries, keys = self.num_attention_heads, self.num_key_value_heads
        heads = {None: 0, "head": 2, "width": queries + keys}[self.family.qk_norm]
        return norms * self.hidden_size + heads * self.head_dim

    def _num_biases(self) -> int:
        """Biases of a layer."""
        heads = self.num_attention_heads + 2 * self.num_key_value_heads
        attention = heads * self.head_dim
        if self.family.output_bias:
            attention += self.hidden_size
        mlp = 2 * self.intermediate_size + self.hidden_size
        return self.attention_bias * attention + self.mlp_bias * mlp


DEFAULTS: Mapping[str, Any] = {
    field.name: field.default
    for field in fields(ModelConfig)
    if field.name not in (*REQUIRED, "num_key_value_heads", "head_dim")
}


def is_integer(value: object) -> bool:
    """Whether a value is a whole number; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_count(value: object) -> bool:
    """Whether a value is a whole number above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def is_bool(value: object) -> bool:
    """Whether a value is true or false."""
    return isinstance(value, bool)


def _is_positive(value: object) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value) and value > 0  # type: ignore[arg-type,operator]


def _is_at_least_zero(value: object) -> bool:
    return _is_positive(value) or (value == 0 and not isinstance(value, bool))


def _check(name: str, value: object, test: _Test, expected: str) -> None:
    if not test(value):
        raise ConfigError(f"{name}: expected {expected}, found {value!r}")


def _check_optional(config: ModelConfig, name: str, test: _Test, expected: str) -> None:
    value = getattr(config, name)
    if value is not None:
        _check(name, value, test, expected)
