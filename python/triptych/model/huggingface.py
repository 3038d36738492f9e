"""Models on disk, in Hugging Face layout; safetensors only, nothing is unpickled.

The state dict already has Hugging Face's names, so nothing is translated.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from triptych.artefact import FILE_NAME, Draft, Manifest, damaged, verify
from triptych.errors import ConfigError, IntegrityError
from triptych.model.config import ModelConfig
from triptych.model.transformer import Transformer
from triptych.model.verification import verify_logits

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
    save_file(weights_of(model), draft.path(WEIGHTS), metadata={"format": "pt"})
    write_json(draft.path("config.json"), model.config.to_hf_dict())
    if tokenizer_path is not None:
        shutil.copyfile(tokenizer_path, draft.path("tokenizer.json"))


def export(
    model: Transformer,
    folder: Path | str,
    tokenizer_path: Path | str | None = None,
    chat_template: str | None = None,
    end_of_turn: str = "<|end|>",
    verified: bool = True,
) -> Manifest:
    """Writes a folder that `AutoModelForCausalLM` and `AutoTokenizer` read.

    Args:
        model: the weights; written as float32.
        folder: replaced whole if it exists.
        tokenizer_path: a `tokenizer.json` whose ids fit the model.
        chat_template: Jinja text for `tokenizer_config.json`.
        end_of_turn: token that ends generation, beside the end of a document.
        verified: read the folder back and compare its logits before it is committed.

    Raises:
        IntegrityError: what was read back computes other logits; nothing is written.
    """
    source = None if tokenizer_path is None else Path(tokenizer_path)
    ids = {} if source is None else _check_tokenizer(source, model.config)
    with Draft(folder) as draft:
        save_model(model, draft, source)
        generation = _generation_config(model.config, ids.get(end_of_turn))
        write_json(draft.path("generation_config.json"), generation)
        if source is not None:
            settings = _tokenizer_config(model.config, ids, chat_template)
            write_json(draft.path("tokenizer_config.json"), settings)
        facts = model_facts(model.config)
        if verified:
            facts["verified"] = verify_logits(model, draft.folder)
        return draft.commit(EXPORT_FORMAT, {}, facts)


def load_model(folder: Path | str, device: str = "cpu") -> Transformer:
    """Reads a checkpoint or export of ours, or a Hugging Face folder, as float32.

    A folder with a manifest is verified first.

    Raises:
        ConfigError: something is missing, pickled, or does not fit.
        IntegrityError: a file is not as its manifest or index says.
    """
    folder = Path(folder)
    if (folder / FILE_NAME).exists():
        verify(folder, _declared_format(folder))
    model = _skeleton(read_config(folder))
    load_weights(model, read_weights(folder), folder)
    if (folder / "tokenizer.json").exists():
        _check_tokenizer(folder / "tokenizer.json", model.config)
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


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder, from one safetensors file or from a sharded set."""
    weights: dict[str, Tensor] = {}
    for name in _weight_files(folder):
        path = folder / name
        if not path.is_file():
            raise damaged(path, "a safetensors file", "no such file")
        try:
            weights |= load_file(path)
        except (SafetensorError, OSError) as error:
            raise damaged(path, "a safetensors file", str(error)) from error
    return weights


def load_weights(
    model: Transformer, weights: Mapping[str, Tensor], folder: Path
) -> None:
    """Gives `model` the tensors read from `folder`; all must be there and fit."""
    weights = {name: tensor.float() for name, tensor in weights.items()}
    if model.config.tie_word_embeddings:
        weights.pop("lm_head.weight", None)
    expected = weights_of(model)
    for name, tensor in expected.items():
        found = tuple(weights[name].shape) if name in weights else "no such tensor"
        if found != tuple(tensor.shape):
            raise IntegrityError(
                f"`{folder}`: tensor `{name}`: expected shape {tuple(tensor.shape)}, "
                f"found {found}"
            )
    unknown = sorted(set(weights) - set(expected))
    if unknown:
        raise IntegrityError(
            f"`{folder}`: expected the tensors of its config.json only, found also "
            f"{unknown[:3]}"
        )
    model.load_state_dict(weights, strict=False, assign=False)


def model_facts(config: ModelConfig) -> dict[str, Any]:
    """What a manifest says about a model."""
    return {"num_parameters": config.num_parameters(), "vocab_size": config.vocab_size}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; anything else is an `IntegrityError`."""
    try:
        values = json.loads(path.read_bytes())
    except ValueError as error:
        raise damaged(path, "a JSON object", str(error)) from error
    if not isinstance(values, dict):
        raise damaged(path, "a JSON object", type(values).__name__)
    return values


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """JSON with two spaces of indentation and a final newline."""
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")


def _declared_format(folder: Path) -> str:
    declared = read_json(folder / FILE_NAME).get("format")
    if declared not in (EXPORT_FORMAT, CHECKPOINT_FORMAT):
        raise ConfigError(
            f"no model at `{folder}`: expected format `{CHECKPOINT_FORMAT}` or "
            f"`{EXPORT_FORMAT}`, found `{declared}`"
        )
    return str(declared)


def _skeleton(config: ModelConfig) -> Transformer:
    """A model whose random start does not disturb the global generator."""
    with torch.random.fork_rng(devices=[]):
        return Transformer(config)


def _weight_files(folder: Path) -> list[str]:
    if (folder / WEIGHTS).is_file():
        return [WEIGHTS]
    if (folder / INDEX).is_file():
        names = read_json(folder / INDEX).get("weight_map", {}).values()
        return sorted({Path(str(name)).name for name in names})
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
    values = read_json(path)
    vocab = values.get("model", {}).get("vocab", {})
    added = {token["content"]: token["id"] for token in values.get("added_tokens", [])}
    ids = list(vocab.values()) if isinstance(vocab, dict) else list(range(len(vocab)))
    size = max([*ids, *added.values()], default=-1) + 1
    if size > config.vocab_size:
        raise ConfigError(
            f"tokenizer `{path}` does not match the model: expected at most "
            f"{config.vocab_size} ids (the model's vocab_size), found {size}"
        )
    return added


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
