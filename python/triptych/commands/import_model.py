"""`triptych import`: a Hugging Face model folder as an artefact of triptych."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from importlib import util
from pathlib import Path

from triptych.errors import ConfigError
from triptych.model.huggingface import export, load_model
from triptych.model.verification import transformers_model, verify_logits


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """Which Hugging Face folder to read, and where to write the artefact.

    Attributes:
        folder: holds `config.json` and weights in safetensors.
        output: folder to write.
    """

    folder: str
    output: str


def import_model(settings: ImportConfig) -> Path:
    """Reads a folder of Hugging Face and writes an artefact; returns its path.

    Names, shapes and types of tensors are compared with `config.json` before anything
    of the model's size is allocated. Where transformers is installed, it must find the
    same logits in the original. Weights are written as float32; tokenizer, template
    and settings of generation are copied as they are.

    Raises:
        ConfigError: the folder has no model, or not one of a supported family, or its
            weights are pickled or quantised.
        IntegrityError: a tensor is missing, unknown or misshapen, or the logits differ.
    """
    source, output = Path(settings.folder), Path(settings.output)
    if output.resolve() == source.resolve():
        raise ConfigError(f"output: expected another folder than the input, `{source}`")
    model = load_model(source).eval()
    if util.find_spec("transformers"):
        twin = transformers_model(source)
        read = "transformers from the source"
        verify_logits(model, lambda ids: twin(ids).logits, read)
    export(model, output, carried=source)
    return output


def run(options: argparse.Namespace) -> int:
    """The command's door from the shell."""
    settings = ImportConfig(folder=options.folder, output=options.output)
    print(import_model(settings))
    return 0
