"""Models on disk, in Hugging Face layout; safetensors only, nothing is unpickled.

The state dict already has Hugging Face's names, so nothing is translated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from triptych.artefact import (
    FILE_NAME,
    Draft,
    Manifest,
    checked,
    copy_file,
    damaged,
    read_json,
    verify,
    write_json,
)
from triptych.errors import ConfigError, IntegrityError
from triptych.model.config import ModelConfig
from triptych.model.shards import INDEX as SHARDS
from triptych.model.shards import Shards, write_tensors
from triptych.model.transformer import Transformer
from triptych.model.verification import Wanted, verify_folder

EXPORT_FORMAT = "triptych-export/1"
CHECKPOINT_FORMAT = "triptych-checkpoint/1"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


def weights_of(model: Transformer) -> dict[str, Tensor]:
    """The state dict by Hugging Face names; a tied output matrix appears once."""
    weights = dict(model.state_dict())
    if model.config.tie_word_embeddings:
        del weights["lm_head.weight"]
    return {name: tensor.detach().contiguous() for name, tensor in weights.items()}


def save_model(model: Transformer, draft: Draft, tokenizer_path: Path | None) -> None:
    """Writes weights, configuration and tokenizer into a draft."""
    write_weights(weights_of(model), draft)
    write_surroundings(model.config, draft, tokenizer_path)


def write_weights(weights: Mapping[str, Tensor], draft: Draft) -> None:
    """Weights by their Hugging Face names into one file of a draft."""
    write_tensors(draft.path(WEIGHTS), weights, {"format": "pt"})


def write_surroundings(
    config: ModelConfig, draft: Draft, tokenizer_path: Path | None
) -> None:
    """Configuration and tokenizer into a draft."""
    write_json(draft.path("config.json"), config.to_hf_dict())
    if tokenizer_path is not None:
        copy_file(tokenizer_path, draft.path("tokenizer.json"))


def export(
    model: Transformer,
    folder: Path | str,
    tokenizer_path: Path | str | None = None,
    chat_template: str | None = None,
    end_of_turn: str = "<|end|>",
    verified: bool = True,
    carried: Path | str | None = None,
    made_from: Mapping[str, Any] | None = None,
) -> Manifest:
    """Writes a folder that `AutoModelForCausalLM` and `AutoTokenizer` read.

    Args:
        model: the weights; written as float32.
        folder: new, or a former export, which is replaced whole.
        tokenizer_path: a `tokenizer.json` whose ids fit the model.
        chat_template: Jinja text for `tokenizer_config.json`.
        end_of_turn: token that ends generation, beside the end of a document.
        verified: read the folder back and compare it with the model before it is
            committed: see `verification`.
        carried: a Hugging Face folder whose tokenizer, template and settings of
            generation are copied as they are; the three above are then not used.
        made_from: goes into the manifest.

    Raises:
        ConfigError: the folder has something else in it.
        IntegrityError: what was read back does something else; nothing is written.
    """
    _check_replaceable(Path(folder))
    with Draft(folder) as draft:
        if carried is not None:
            end_ids = _carry(model, draft, Path(carried))
            wanted = Wanted(end_ids, carried=Path(carried))
        else:
            path = None if tokenizer_path is None else Path(tokenizer_path)
            end_ids = _surround(model, draft, path, chat_template, end_of_turn)
            wanted = Wanted(end_ids, chat_template)
        facts = model_facts(model.config)
        if verified:
            facts["verified"] = verify_folder(model, draft.folder, wanted)
        return draft.commit(EXPORT_FORMAT, made_from or {}, facts)


def _check_replaceable(folder: Path) -> None:
    """A folder is replaced whole, so it must not be a run, say, or a home."""
    if folder.name in ("", ".."):  # it is written beside its name, then renamed
        raise ConfigError(
            f"output: expected the name of a folder to make, found `{folder}`"
        )
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    manifest = folder / FILE_NAME
    found = read_json(manifest).get("format") if manifest.is_file() else None
    if found != EXPORT_FORMAT:
        raise ConfigError(
            "output: expected a new folder, or an export to be replaced, found "
            f"`{folder}`, where something else is"
        )


def _surround(
    model: Transformer,
    draft: Draft,
    tokenizer: Path | None,
    chat_template: str | None,
    end_of_turn: str,
) -> list[int]:
    """Writes a model with our tokenizer and template; returns the ids that end texts."""
    ids = {} if tokenizer is None else _check_tokenizer(tokenizer, model.config)
    save_model(model, draft, tokenizer)
    generation = _generation_config(model.config, ids.get(end_of_turn))
    write_json(draft.path("generation_config.json"), generation)
    if tokenizer is not None:
        settings = _tokenizer_config(model.config, ids, chat_template)
        write_json(draft.path("tokenizer_config.json"), settings)
    return generation["eos_token_id"] or []


# What stands beside the weights in a folder of Hugging Face, apart from config.json.
SURROUNDINGS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
)


def _carry(model: Transformer, draft: Draft, source: Path) -> list[int]:
    """Writes a model with what surrounds `source`; returns the ids that end texts."""
    tokenizer = source / "tokenizer.json"
    if tokenizer.is_file():
        _check_tokenizer(tokenizer, model.config)
    save_model(model, draft, None)
    copy_surroundings(source, draft)
    path = draft.path("generation_config.json")
    if not path.is_file():
        own = _generation_config(model.config, None)
        write_json(path, {**own, "eos_token_id": _ends(source, model.config) or None})
    ends = read_json(path).get("eos_token_id")
    return ends if isinstance(ends, list) else [] if ends is None else [ends]


def copy_surroundings(source: Path, draft: Draft) -> None:
    """Copies what stands beside the weights of a model into a draft."""
    for name in SURROUNDINGS:
        if (source / name).is_file():
            copy_file(source / name, draft.path(name))


def end_ids(folder: Path, config: ModelConfig) -> list[int]:
    """Ids that end a text, by a folder's settings of generation or its `config.json`."""
    found = _ends(folder, config, "generation_config.json")
    return found or _ends(folder, config)


def _ends(folder: Path, config: ModelConfig, name: str = "config.json") -> list[int]:
    """All ids that end a text by a file of `folder`, of which our config has one."""
    path = folder / name
    ids = read_json(path).get("eos_token_id") if path.is_file() else None
    several: list[Any] = ids if isinstance(ids, list) else [ids]
    return [x for x in several if x in range(config.vocab_size)]


def load_model(folder: Path | str, device: str = "cpu") -> Transformer:
    """Reads a checkpoint or export of ours, or a Hugging Face folder, as float32.

    A folder with a manifest is verified first.

    Raises:
        ConfigError: something is missing, pickled, or does not fit.
        IntegrityError: a file is not as its manifest or index says.
    """
    folder = Path(folder)
    if (folder / FILE_NAME).exists():
        verify(folder, declared_format(folder))
    config = read_config(folder)
    check_tensors(folder, config)
    model = model_with(config, read_weights(folder), folder)
    if (folder / "tokenizer.json").exists():
        _check_tokenizer(folder / "tokenizer.json", model.config)
    return model.to(device)


def model_with(
    config: ModelConfig, weights: dict[str, Tensor], folder: Path | None = None
) -> Transformer:
    """A model of these weights, by their Hugging Face names, on their device.

    The folder they come from is for errors.
    """
    model = _skeleton(config)
    device = next(iter(weights.values())).device
    _give(model, weights, folder or Path())
    return model.to(device)


def read_config(folder: Path) -> ModelConfig:
    """The `config.json` of a folder."""
    path = folder / "config.json"
    if not path.is_file():
        raise ConfigError(f"no model at `{folder}`: expected a `config.json` in it")
    try:
        return ModelConfig.from_hf_dict(read_json(path))
    except ConfigError as error:
        raise ConfigError(f"`{path}`: {error}") from error


def tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors of a folder, from the files' heads: no tensor is read.

    Raises:
        ConfigError: a tensor is not of floating point: quantised, say.
        IntegrityError: a file is missing or no safetensors file.
    """
    if (folder / SHARDS).is_file():
        stored = Shards.indexed(folder, "weights").tensors
        for key, tensor in stored.items():
            _check_dtype(folder / SHARDS, key, tensor.dtype)
        return {key: tensor.shape for key, tensor in stored.items()}
    shapes: dict[str, tuple[int, ...]] = {}
    for name in weight_files(folder):
        path = folder / name
        if not path.is_file():
            raise damaged(path, "a safetensors file", "no such file")
        try:
            with safe_open(path, framework="pt") as file:
                for key in file.keys():
                    head = file.get_slice(key)
                    _check_dtype(path, key, head.get_dtype())
                    shapes[key] = tuple(head.get_shape())
        except (SafetensorError, OSError) as error:
            raise damaged(path, "a safetensors file", str(error)) from error
    return shapes


FLOATS = ("F64", "F32", "F16", "BF16")


def _check_dtype(path: Path, name: str, dtype: str) -> None:
    if dtype not in FLOATS:
        raise ConfigError(
            f"`{path}`: tensor `{name}`: expected one of {', '.join(FLOATS)}, found "
            f"{dtype}: quantised weights are not read"
        )


def check_tensors(folder: Path, config: ModelConfig) -> None:
    """Compares names and shapes in the files with a configuration.

    Nothing of the model's size is allocated before or here.

    Raises:
        IntegrityError: naming the first tensor that is missing, unknown or misshapen.
    """
    found = tensor_shapes(folder)
    held = sum(math.prod(shape) for shape in found.values())
    if config.num_parameters() > 2 * held:
        raise IntegrityError(
            f"`{folder}`: expected the {config.num_parameters()} numbers of its "
            f"config.json, found {held} in its safetensors"
        )
    with torch.device("meta"):
        expected = {
            name: tuple(tensor.shape)
            for name, tensor in weights_of(Transformer(config)).items()
        }
    _compare_shapes(found, expected, folder, config)


def _compare_shapes(
    found: Mapping[str, tuple[int, ...]],
    expected: Mapping[str, tuple[int, ...]],
    folder: Path,
    config: ModelConfig,
) -> None:
    for name, shape in expected.items():
        if found.get(name) != shape:
            raise IntegrityError(
                f"`{folder}`: tensor `{name}`: expected shape {shape}, found "
                f"{found.get(name, 'no such tensor')}"
            )
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    old = {name for name in found if name.endswith(".rotary_emb.inv_freq")}
    unknown = sorted(set(found) - set(expected) - tied - old)
    if unknown:
        raise IntegrityError(
            f"`{folder}`: expected the tensors of its config.json only, found also "
            f"{unknown[:3]}"
        )


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder, from one safetensors file or from a sharded set.

    That set may be Hugging Face's, of whole tensors, or a checkpoint's, of boxes.
    """
    if (folder / SHARDS).is_file():
        return Shards.indexed(folder, "weights").all()
    weights: dict[str, Tensor] = {}
    for name in weight_files(folder):
        path = folder / name
        if not path.is_file():
            raise damaged(path, "a safetensors file", "no such file")
        try:
            weights |= load_file(path)
        except (SafetensorError, OSError) as error:
            raise damaged(path, "a safetensors file", str(error)) from error
    return weights


def load_weights(
    model: Transformer,
    weights: Mapping[str, Tensor],
    folder: Path,
    *,
    assign: bool = False,
) -> None:
    """Gives `model` the tensors read from `folder`; all must be there and fit.

    They are copied into the model's own, or with `assign` take their place.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    expected = {name: tuple(t.shape) for name, t in weights_of(model).items()}
    _compare_shapes(shapes, expected, folder, model.config)
    _check_tie(weights, folder, model.config)
    wanted = {name: weights[name].float() for name in expected}
    model.load_state_dict(wanted, strict=False, assign=assign)


def _check_tie(
    weights: Mapping[str, Tensor], folder: Path, config: ModelConfig
) -> None:
    """A tied output matrix may be in a file as well, if it is the embedding."""
    head = weights.get("lm_head.weight") if config.tie_word_embeddings else None
    if head is None:
        return
    embedding = weights["model.embed_tokens.weight"]
    if not head.to(embedding.dtype).equal(embedding):
        raise ConfigError(
            f"`{folder}`: tie_word_embeddings: expected false, as `lm_head.weight` "
            "differs from `model.embed_tokens.weight`, found true: correct config.json"
        )


def model_facts(config: ModelConfig) -> dict[str, Any]:
    """What a manifest says about a model."""
    return {"num_parameters": config.num_parameters(), "vocab_size": config.vocab_size}


def declared_format(folder: Path) -> str:
    """Which of our formats a folder with a manifest has.

    Raises:
        ConfigError: neither of them.
        IntegrityError: the manifest is damaged; what it is called then means nothing.
    """
    checked(folder / FILE_NAME)
    declared = read_json(folder / FILE_NAME).get("format")
    if declared not in (EXPORT_FORMAT, CHECKPOINT_FORMAT):
        raise ConfigError(
            f"no model at `{folder}`: expected format `{CHECKPOINT_FORMAT}` or "
            f"`{EXPORT_FORMAT}`, found `{declared}`"
        )
    return str(declared)


def _skeleton(config: ModelConfig) -> Transformer:
    """A model without memory for its weights, which is made when they are read."""
    with torch.device("meta"):
        return Transformer(config)


def _give(model: Transformer, weights: dict[str, Tensor], folder: Path) -> None:
    """Makes the tensors read from `folder` a skeleton's, each in memory of its own."""
    for name in weights_of(model):
        # A copy even of float32: what is read maps the file, which may change.
        weights[name] = weights[name].to(torch.float32, copy=True)
    load_weights(model, weights, folder, assign=True)
    if model.config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight


def weight_files(folder: Path) -> list[str]:
    """Names of the safetensors of a folder that is no checkpoint in parts.

    Raises:
        ConfigError: there are none, or pickles in their place.
    """
    if (folder / WEIGHTS).is_file():
        return [WEIGHTS]
    if (folder / INDEX).is_file():
        files = read_json(folder / INDEX).get("weight_map")
        if not isinstance(files, dict):
            expected = "`weight_map`, an object with the file of each tensor"
            raise damaged(folder / INDEX, expected, repr(files)[:80])
        return sorted({Path(str(name)).name for name in files.values()})
    pickles = [path.name for path in folder.glob("pytorch_model*.bin")]
    pickles += [path.name for path in folder.glob("*.pt")]
    if pickles:
        raise ConfigError(
            f"`{folder}`: expected weights as safetensors, found `{pickles[0]}`, a "
            "pickle, which could run code and is never opened: convert it first"
        )
    raise ConfigError(f"no weights at `{folder}`: expected `{WEIGHTS}` or `{INDEX}`")


def _check_tokenizer(path: Path, config: ModelConfig) -> dict[str, int]:
    """Ids of the added tokens of a `tokenizer.json`, once all ids fit the model."""
    try:
        size, added = _size_and_added(read_json(path))
    except (AttributeError, KeyError, TypeError) as error:
        raise damaged(path, "a vocabulary and added tokens", repr(error)) from error
    if size > config.vocab_size:
        raise ConfigError(
            f"tokenizer `{path}` does not match the model: expected at most "
            f"{config.vocab_size} ids (the model's vocab_size), found {size}"
        )
    return added


def _size_and_added(values: Mapping[str, Any]) -> tuple[int, dict[str, int]]:
    """One more than the highest id, and the ids of added tokens."""
    vocab = values.get("model", {}).get("vocab", {})
    added = {token["content"]: token["id"] for token in values.get("added_tokens", [])}
    ids = list(vocab.values()) if isinstance(vocab, dict) else list(range(len(vocab)))
    return max([*ids, *added.values()], default=-1) + 1, added


def _generation_config(config: ModelConfig, end_id: int | None) -> dict[str, Any]:
    ends = [end_id, config.eos_token_id]
    return {
        "bos_token_id": config.bos_token_id,
        "eos_token_id": sorted({end for end in ends if end is not None}) or None,
        "pad_token_id": config.pad_token_id,
    }


def _tokenizer_config(
    config: ModelConfig, ids: Mapping[str, int], chat_template: str | None
) -> dict[str, Any]:
    tokens = {number: token for token, number in ids.items()}
    special = {
        f"{name}_token": tokens[number]
        for name in ("bos", "eos", "pad")
        if (number := getattr(config, f"{name}_token_id")) in tokens
    }
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config.max_position_embeddings,
        "clean_up_tokenization_spaces": False,
        **special,
        **({} if chat_template is None else {"chat_template": chat_template}),
    }
