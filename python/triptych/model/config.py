"""The shape of a model, named as in the `config.json` that it is exported to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from triptych.errors import ConfigError

# Keys of a Hugging Face config.json that change nothing this model computes.
_IGNORED_KEYS = frozenset(
    "_attn_implementation_autoset _name_or_path architectures attention_dropout "
    "chunk_size_feed_forward dtype id2label is_encoder_decoder label2id "
    "max_window_layers output_attentions output_hidden_states pretraining_tp "
    "problem_type return_dict sliding_window torch_dtype transformers_version "
    "use_cache".split()
)

# Keys that would change what is computed: only this value is implemented.
_ONLY_VALUES: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "use_sliding_window": (False,),
    "rope_scaling": (None,),
}

_REQUIRED = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
)
_Test = Callable[[object], bool]
_DERIVED = ("num_key_value_heads", "head_dim")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A Llama (`qk_norm=False`) or Qwen3 (`qk_norm=True`) decoder.

    Checked at birth: an impossible shape is a `ConfigError` that names the field,
    what was expected and what was found.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int = 2048
    rope_theta: float = 10_000.0  # Su et al. 2021
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = True
    qk_norm: bool = False
    initializer_range: float = 0.02  # GPT-2
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    pad_token_id: int | None = None

    def __post_init__(self) -> None:
        for name in (*_REQUIRED, *_DERIVED, "max_position_embeddings"):
            _check(name, getattr(self, name), _is_count, "an integer above 0")
        for name in ("rope_theta", "rms_norm_eps", "initializer_range"):
            _check(name, getattr(self, name), _is_positive, "a number above 0")
        for name in ("tie_word_embeddings", "qk_norm"):
            _check(name, getattr(self, name), _is_bool, "true or false")
        self._check_heads()
        self._check_token_ids()

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

    def _check_token_ids(self) -> None:
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            value = getattr(self, name)
            inside = _is_integer(value) and 0 <= value < self.vocab_size
            if value is not None and not inside:
                raise ConfigError(
                    f"{name}: expected an id below vocab_size ({self.vocab_size}), "
                    f"found {value!r}"
                )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Reads our own fields or a Hugging Face `config.json`, strictly.

        Unknown keys are errors, unless they are known not to change the model.
        As in Hugging Face, `num_key_value_heads` defaults to `num_attention_heads`
        and `head_dim` to their share of `hidden_size`.

        Raises:
            ConfigError: a key is unknown or missing, or asks for another model.
        """
        values = dict(values)
        _take_rope(values)
        _take_family(values)
        _check_layer_types(values)
        for key, allowed in _ONLY_VALUES.items():
            found = values.pop(key, allowed[0])
            if found not in allowed:
                raise ConfigError(f"{key}: expected {allowed[0]!r}, found {found!r}")
        _check_keys(values, {field.name for field in fields(cls)})
        heads = values["num_attention_heads"]
        _check("num_attention_heads", heads, _is_count, "an integer above 0")
        if values.get("num_key_value_heads") is None:
            values["num_key_value_heads"] = heads
        if values.get("head_dim") is None:
            values["head_dim"] = _share(values["hidden_size"], heads)
        if isinstance(values.get("eos_token_id"), list):
            values["eos_token_id"] = values["eos_token_id"][0]
        known = {key: values[key] for key in values if key not in _IGNORED_KEYS}
        return cls(**known)

    from_hf_dict = from_dict

    def to_dict(self) -> dict[str, Any]:
        """Our own fields, as `from_dict` reads them."""
        return asdict(self)

    def to_hf_dict(self) -> dict[str, Any]:
        """The `config.json` that transformers reads as `LlamaForCausalLM` or Qwen3."""
        values = self.to_dict()
        qk_norm = values.pop("qk_norm")
        return {
            "architectures": ["Qwen3ForCausalLM" if qk_norm else "LlamaForCausalLM"],
            "model_type": "qwen3" if qk_norm else "llama",
            **values,
            "rope_parameters": {"rope_theta": self.rope_theta, "rope_type": "default"},
            "hidden_act": "silu",
            "attention_bias": False,
            "dtype": "float32",
            **({"use_sliding_window": False} if qk_norm else {"mlp_bias": False}),
        }

    def num_matmul_parameters(self) -> int:
        """Parameters a token is multiplied by: all matrices, the output one included.

        The input embedding is a lookup and does not count; tied or not, the output
        projection does.
        """
        width, head_dim = self.hidden_size, self.head_dim
        heads = 2 * self.num_attention_heads + 2 * self.num_key_value_heads
        layer = heads * head_dim * width + 3 * width * self.intermediate_size
        return self.num_hidden_layers * layer + self.vocab_size * width

    def num_parameters(self) -> int:
        """All trainable numbers; tied embeddings count once."""
        untied = 0 if self.tie_word_embeddings else self.vocab_size * self.hidden_size
        qk_norms = 2 * self.head_dim if self.qk_norm else 0
        norms = self.num_hidden_layers * (2 * self.hidden_size + qk_norms)
        return self.num_matmul_parameters() + untied + norms + self.hidden_size

    def flops_per_token(self, seq_len: int) -> int:
        """Training FLOPs a token, forward and backward (Chowdhery et al. 2022, app. B).

        6 for each matrix parameter, and 12 * heads * head_dim * seq_len a layer for
        attention: the PaLM convention, which does not halve for causality.
        """
        attention = 12 * self.num_attention_heads * self.head_dim * seq_len
        return 6 * self.num_matmul_parameters() + self.num_hidden_layers * attention


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_positive(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _check(name: str, value: object, test: _Test, expected: str) -> None:
    if not test(value):
        raise ConfigError(f"{name}: expected {expected}, found {value!r}")


def _share(hidden_size: int, heads: int) -> int:
    if not _is_count(hidden_size) or hidden_size % heads:
        raise ConfigError(
            f"hidden_size: expected a multiple of num_attention_heads ({heads}) where "
            f"head_dim is not given, found {hidden_size!r}"
        )
    return hidden_size // heads


def _take_rope(values: dict[str, Any]) -> None:
    """Moves transformers 5's `rope_parameters` into `rope_theta`."""
    rope = values.pop("rope_parameters", None) or {}
    kind = rope.get("rope_type", "default")
    if kind != "default":
        raise ConfigError(f"rope_parameters: expected `default`, found `{kind}`")
    if "rope_theta" in rope:
        values["rope_theta"] = rope["rope_theta"]


def _take_family(values: dict[str, Any]) -> None:
    """Turns `model_type` into `qk_norm`."""
    family = values.pop("model_type", None)
    if family not in (None, "llama", "qwen3"):
        raise ConfigError(f"model_type: expected `llama` or `qwen3`, found {family!r}")
    if family is not None:
        values["qk_norm"] = family == "qwen3"


def _check_layer_types(values: dict[str, Any]) -> None:
    kinds = set(values.pop("layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        raise ConfigError(
            f"layer_types: expected `full_attention` only, found {sorted(kinds)}"
        )


def _check_keys(values: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(set(values) - known - _IGNORED_KEYS)
    if unknown:
        raise ConfigError(
            f"unknown model settings {unknown}: expected some of {sorted(known)}"
        )
    missing = [name for name in _REQUIRED if name not in values]
    if missing:
        raise ConfigError(f"missing model settings {missing}: expected all of them")
