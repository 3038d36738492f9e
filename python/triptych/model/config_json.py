"""`config.json` of Hugging Face to the fields of `ModelConfig`, and back.

Strict: a key is a field, or known to change nothing, or refused by name. What asks
for mathematics that is not implemented is never ignored.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from triptych.errors import ConfigError
from triptych.model.config import (
    DEFAULTS,
    FULL,
    MOST_LAYERS,
    REQUIRED,
    SLIDING,
    TOKEN_IDS,
    is_bool,
    is_count,
    is_integer,
)
from triptych.model.families import Family, family_named
from triptych.ops.rotary import SCALINGS

if TYPE_CHECKING:
    from triptych.model.config import ModelConfig

logger = logging.getLogger("triptych.model")


# Keys that change nothing this model computes: bookkeeping, and settings of generation
# that transformers 4 kept here.
_INERT = frozenset(
    "_attn_implementation_autoset _name_or_path architectures bad_words_ids "
    "begin_suppress_tokens chunk_size_feed_forward cross_attention_hidden_size "
    "decoder_start_token_id diversity_penalty do_sample dtype early_stopping "
    "encoder_no_repeat_ngram_size exponential_decay_length_penalty finetuning_task "
    "forced_bos_token_id forced_eos_token_id id2label is_decoder is_encoder_decoder "
    "is_llama_config label2id length_penalty max_length max_window_layers min_length "
    "no_repeat_ngram_size num_beam_groups num_beams num_return_sequences "
    "output_attentions output_hidden_states output_scores prefix pretraining_tp "
    "problem_type remove_invalid_values repetition_penalty return_dict "
    "return_dict_in_generate sep_token_id suppress_tokens task_specific_params "
    "temperature tf_legacy_loss tokenizer_class top_k top_p torch_dtype torchscript "
    "transformers.js_config transformers_version typical_p unsloth_fixed "
    "unsloth_version use_bfloat16 use_cache".split()
)

# Keys that would change what is computed: only these values are implemented.
_ONLY_VALUES: dict[str, tuple[Any, ...]] = {
    "add_cross_attention": (False, None),
    "attention_dropout": (0.0, None),
    "output_router_logits": (False, None),
    "pruned_heads": ({}, None),
    "quantization_config": (None,),
    "rope_interleaved": (False, None),
    "router_jitter_noise": (0.0, None),
    "tie_encoder_decoder": (False, None),
    "use_bidirectional_attention": (False, None),
    "use_mrope": (False, None),
}

_SCALING_KEYS = frozenset(
    "rope_type rope_theta type factor original_max_position_embeddings "
    "low_freq_factor high_freq_factor beta_fast beta_slow attention_factor mscale "
    "mscale_all_dim truncate partial_rotary_factor".split()
)


def read(values: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `ModelConfig` from our own settings or a `config.json`.

    Raises:
        ConfigError: a key is unknown or missing, or asks for another model.
    """
    values = dict(values)
    foreign = "model_type" in values
    family = _take_family(values)
    for key in _INERT.union(family.inert) - {"max_window_layers"}:
        values.pop(key, None)
    _check_only_values(values)
    _rename(values, family)
    _check_keys(values, family)
    _check_kinds(values)
    for name, value in (family.defaults if foreign else {}).items():
        values.setdefault(name, value)
    _take_heads(values)
    _take_rope(values, family)
    _take_layers(values, family)
    _take_token_ids(values, foreign)
    known = {key: values[key] for key in values if key in family.fields}
    return {**known, **family.fixed, "model_type": family.model_type}


def _take_family(values: dict[str, Any]) -> Family:
    """The family that `model_type` names, or `qk_norm` where there is none."""
    qk_norm = values.pop("qk_norm", None)
    if qk_norm is not None and not is_bool(qk_norm):
        raise ConfigError(f"qk_norm: expected true or false, found {qk_norm!r}")
    family = family_named(values.pop("model_type", "qwen3" if qk_norm else "llama"))
    if qk_norm is not None and qk_norm != (family.qk_norm == "head"):
        raise ConfigError(
            f"qk_norm: expected {not qk_norm}, as `{family.model_type}` has it, found "
            f"{qk_norm}"
        )
    return family


def _check_only_values(values: dict[str, Any]) -> None:
    for key, allowed in _ONLY_VALUES.items():
        found = values.pop(key, allowed[0])
        if found not in allowed:
            raise ConfigError(
                f"{key}: expected {allowed[0]!r}, as nothing else is implemented, "
                f"found {found!r:.80}"
            )


def _rename(values: dict[str, Any], family: Family) -> None:
    """Gives keys the names of the fields they mean."""
    for key, name in (
        (family.activation_key, "hidden_act"),
        ("num_local_experts", "num_experts"),
    ):
        if key != name and key in values:
            values[name] = values.pop(key)


# Keys that are turned into fields and are not fields themselves.
_TURNED = frozenset(
    "max_window_layers no_rope_layer_interval rope_parameters sliding_window_pattern "
    "use_sliding_window".split()
)


def _check_keys(values: dict[str, Any], family: Family) -> None:
    """Refuses keys that nobody knows, and options of other families."""
    known = {*REQUIRED, "num_key_value_heads", "head_dim", *DEFAULTS} - {"model_type"}
    unknown = sorted(set(values) - known - _TURNED)
    if unknown:
        raise ConfigError(
            f"unknown model settings {unknown}: expected some of {sorted(known)}"
        )
    missing = [name for name in REQUIRED if name not in values]
    if missing:
        raise ConfigError(f"missing model settings {missing}: expected all of them")
    for name in sorted(set(values) & known - family.fields - {"layer_types"}):
        fixed = family.fixed.get(name, DEFAULTS[name])
        if values[name] not in (fixed, None) and values[name] != _plain(fixed):
            raise ConfigError(
                f"{name}: expected {_plain(fixed)!r}, as all `{family.model_type}` "
                f"models have it, found {values[name]!r:.80}"
            )
        del values[name]


# What the keys must be that are read before `ModelConfig` checks its fields.
_KINDS: tuple[tuple[str, str, Callable[[Any], bool]], ...] = (
    ("layer_types", "a list of names", lambda v: _is_list(v, str)),
    ("no_rope_layers", "a list of 0 and 1", lambda v: _is_list(v, int)),
    ("mlp_only_layers", "a list of layers", lambda v: _is_list(v, int)),
    ("no_rope_layer_interval", "an integer above 0", is_count),
    ("sliding_window_pattern", "an integer above 0", is_count),
    ("max_window_layers", "an integer", is_integer),
    ("use_sliding_window", "true or false", is_bool),
    ("rope_theta", "a number", lambda v: isinstance(v, (int, float))),
)


def _check_kinds(values: Mapping[str, Any]) -> None:
    for name, expected, test in _KINDS:
        value = values.get(name)
        if value is not None and not test(value):
            raise ConfigError(
                f"{name}: expected {expected} or null, found {value!r:.80}"
            )


def _is_list(value: Any, kind: type) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(v, kind) for v in value)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _take_heads(values: dict[str, Any]) -> None:
    """As in transformers, null is one head of keys for each of queries."""
    heads = values["num_attention_heads"]
    if not is_count(heads):
        raise ConfigError(
            f"num_attention_heads: expected an integer above 0, found {heads!r}"
        )
    if values.get("num_key_value_heads") is None:
        values["num_key_value_heads"] = heads
    if values.get("head_dim") is None:
        values["head_dim"] = _share(values["hidden_size"], heads)
    if values.get("query_pre_attn_scalar") is None:
        values["query_pre_attn_scalar"] = values["head_dim"]


def _share(hidden_size: Any, heads: int) -> int:
    if not is_count(hidden_size):
        raise ConfigError(
            f"hidden_size: expected an integer above 0, found {hidden_size!r}"
        )
    if hidden_size % heads:
        raise ConfigError(
            f"hidden_size: expected a multiple of num_attention_heads ({heads}) where "
            f"head_dim is not given, found {hidden_size!r}"
        )
    return int(hidden_size // heads)


def _take_rope(values: dict[str, Any], family: Family) -> None:
    """`rope_scaling` of old files or `rope_parameters` of new ones, to our fields."""
    parameters = _mapping(values.pop("rope_parameters", None), "rope_parameters")
    scaling = _mapping(values.pop("rope_scaling", None), "rope_scaling")
    if "rope_local_base_freq" in family.options:
        # transformers lays the older name over the newer one in this family.
        _check_has_type(scaling, parameters, family)
        scaling = {**_take_nested(parameters, values, family), **scaling}
    elif {FULL, SLIDING} & set(parameters):
        raise ConfigError(
            f"rope_parameters: expected one set for all layers of "
            f"`{family.model_type}`, found {sorted(parameters)}"
        )
    # In the others it reads the older name alone where both are there.
    scaling = scaling or parameters
    if scaling.get("rope_theta") is not None:
        values["rope_theta"] = scaling["rope_theta"]
    values["rope_scaling"] = _scaling(scaling, values)


def _check_has_type(
    scaling: Mapping[str, Any], parameters: Mapping[str, Any], family: Family
) -> None:
    """Refuses what transformers 4 stretches and transformers 5 takes for plain."""
    kind = scaling.get("type", "default")
    if not parameters and "rope_type" not in scaling and kind != "default":
        raise ConfigError(
            f"rope_scaling: expected `rope_type` in it, as transformers 5 reads no "
            f"`type` of `{family.model_type}` and would stretch nothing, found `type` "
            f"{kind!r:.80} alone"
        )


def _mapping(value: Any, name: str) -> dict[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        raise ConfigError(f"{name}: expected an object or null, found {value!r:.80}")
    return dict(value or {})


def _take_nested(
    parameters: dict[str, Any], values: dict[str, Any], family: Family
) -> dict[str, Any]:
    """Gemma-3's parameters by kind of layer; returns those of full attention."""
    unknown = sorted(set(parameters) - {FULL, SLIDING})
    if unknown:
        raise ConfigError(
            f"rope_parameters: expected `{FULL}` and `{SLIDING}` with those of each, "
            f"as `{family.model_type}` has them by kind of layer, found {unknown}"
        )
    local = _mapping(parameters.get(SLIDING), f"rope_parameters.{SLIDING}")
    if _scaling(local, values) is not None:
        raise ConfigError(
            f"rope_parameters.{SLIDING}: expected `default`, as layers with a window "
            f"are not stretched, found {local.get('rope_type')!r}"
        )
    if "rope_theta" in local:
        values["rope_local_base_freq"] = local["rope_theta"]
    return _mapping(parameters.get(FULL), f"rope_parameters.{FULL}")


def _scaling(
    scaling: Mapping[str, Any], values: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The parameters of stretched frequencies, complete; None for plain ones."""
    named = scaling.get("rope_type", scaling.get("type", "default"))
    if isinstance(named, str) and named not in SCALINGS:  # it says more than its keys
        expected = ", ".join(f"`{name}`" for name in SCALINGS)
        raise ConfigError(
            f"rope_type: expected one of {expected}, found `{named:.80}`: models whose "
            "positions are stretched so are not supported"
        )
    unknown = sorted(set(scaling) - _SCALING_KEYS)
    if unknown:
        raise ConfigError(
            f"rope_scaling: unknown keys {unknown}: expected some of "
            f"{sorted(_SCALING_KEYS)}"
        )
    kept = {k: v for k, v in scaling.items() if k not in ("type", "rope_theta")}
    kind = kept.setdefault("rope_type", scaling.get("type", "default"))
    if kept.get("partial_rotary_factor") in (1.0, None):
        kept.pop("partial_rotary_factor", None)
    if kind == "default" and "partial_rotary_factor" not in kept:
        return None
    if not isinstance(kind, str):
        raise ConfigError(f"rope_type: expected a name, found {kind!r:.80}")
    default = DEFAULTS["max_position_embeddings"]
    context = values.get("max_position_embeddings", default)
    if kind in ("llama3", "yarn") and not kept.get("original_max_position_embeddings"):
        kept["original_max_position_embeddings"] = context
    original = kept.get("original_max_position_embeddings")
    if kind == "yarn" and kept.get("factor") is None:
        if is_count(context) and is_count(original):
            kept["factor"] = context / original
    return kept


def _take_layers(values: dict[str, Any], family: Family) -> None:
    """Which layers have a window and which do not turn, one entry a layer."""
    layers = values["num_hidden_layers"]
    if not is_count(layers) or layers > MOST_LAYERS:
        raise ConfigError(
            f"num_hidden_layers: expected an integer from 1 to {MOST_LAYERS}, found "
            f"{layers!r}"
        )
    interval = values.pop("no_rope_layer_interval", None) or 4
    if "no_rope_layers" in family.options:
        if values.get("no_rope_layers") is None:
            values["no_rope_layers"] = [
                int(i % interval != 0) for i in range(1, layers + 1)
            ]
        values["no_rope_layers"] = tuple(map(int, values["no_rope_layers"]))
    if "mlp_only_layers" in family.options:
        values["mlp_only_layers"] = tuple(values.get("mlp_only_layers") or ())
    types = _layer_types(values, family)
    plain = set(types) <= {FULL}
    values["layer_types"] = None if plain else tuple(types)
    if plain:
        values["sliding_window"] = None


def _layer_types(values: dict[str, Any], family: Family) -> list[str]:
    """The kind of attention of each layer; takes the keys that say so."""
    layers, given = values["num_hidden_layers"], values.pop("layer_types", None)
    derived = _derived_types(values, family, SLIDING in (given or ()))
    windowed = values.get("sliding_window") is not None
    if given is None or list(given) == derived:
        return derived
    if family.windows == "typed" and windowed and len(given) == layers:
        return list(given)
    raise ConfigError(
        f"layer_types: expected {layers} of `{derived[0]}`, as the family and its "
        f"sliding_window have it, found {list(given)}"
    )


def _derived_types(values: dict[str, Any], family: Family, typed: bool) -> list[str]:
    """What transformers takes where `layer_types` is absent.

    Our own settings have no switch: there, typed layers turn the window on.
    """
    layers = values["num_hidden_layers"]
    switch = values.pop("use_sliding_window", None)
    first = values.pop("max_window_layers", None)
    pattern = values.pop("sliding_window_pattern", None)
    if family.window_switch and not (typed if switch is None else switch):
        values["sliding_window"] = None
    if family.windows is None or values.get("sliding_window") is None:
        return [FULL] * layers
    if family.windows == "all":
        return [SLIDING] * layers
    slides = _sliding_layers(values, family, first, pattern)
    return [SLIDING if slides(index) else FULL for index in range(layers)]


def _sliding_layers(
    values: dict[str, Any], family: Family, first: Any, pattern: Any
) -> Callable[[int], bool]:
    """Whether a layer, from 0, has a window, by the rule of its family."""
    if "no_rope_layers" in family.options:
        return lambda index: not values["no_rope_layers"][index]
    if family.window_switch:
        start = 28 if first is None else int(first)
        return lambda index: index >= start
    period = int(pattern or 6) if family.qk_norm else 2  # Gemma-3, Gemma-2
    return lambda index: (index + 1) % period != 0


def _take_token_ids(values: dict[str, Any], foreign: bool) -> None:
    """The first of several ids.

    In a `config.json` one outside the vocabulary is none, which is said: small models
    of families with large ids are saved so.
    """
    size = values["vocab_size"]
    for name in TOKEN_IDS:
        ids = values.get(name)
        first = next(iter(ids), None) if isinstance(ids, (list, tuple)) else ids
        outside = is_integer(first) and is_count(size) and first not in range(size)
        if foreign and outside:
            logger.warning("%s: %s is not below vocab_size (%s)", name, first, size)
            first = None
        values[name] = first


def write(config: ModelConfig) -> dict[str, Any]:
    """The `config.json` of a model, for transformers 4 and 5 alike."""
    family = config.family
    values = _typed(config.to_dict())
    values |= {"rope_parameters": _rope_parameters(config)}
    if family.model_type == "mixtral":
        values["num_local_experts"] = values.pop("num_experts")
    if family.windows == "all":
        del values["layer_types"]
    elif family.windows == "typed":
        plain = [FULL] * config.num_hidden_layers
        values["layer_types"] = list(config.layer_types or plain)
    if family.window_switch:
        values["use_sliding_window"] = config.sliding_window is not None
    elif family.windows == "typed" and config.sliding_window is None:
        # Of no layer, but transformers makes no cache of a Gemma without a number.
        values["sliding_window"] = config.max_position_embeddings
    return {
        "architectures": [family.architecture],
        **{name: _plain(value) for name, value in values.items()},
        "attention_dropout": 0.0,
        "dtype": "float32",
    }


# Fields that transformers 5 takes as nothing but a float: not as 0 or 30.
_FRACTIONS = (
    "rms_norm_eps",
    "initializer_range",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "router_aux_loss_coef",
)


def _typed(values: dict[str, Any]) -> dict[str, Any]:
    """Numbers of the types that transformers checks."""
    given = {name for name in _FRACTIONS if values.get(name) is not None}
    return {k: float(v) if k in given else v for k, v in values.items()}


def _rope_parameters(config: ModelConfig) -> dict[str, Any]:
    full = {
        "rope_type": "default",
        **(config.rope_scaling or {}),
        "rope_theta": config.rope_theta,
    }
    if config.rope_local_base_freq is None:
        return full
    local = {"rope_type": "default", "rope_theta": config.rope_local_base_freq}
    return {FULL: full, SLIDING: local}
