"""`triptych export`: a model folder that Hugging Face transformers loads."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from triptych.conversation import CHAT_TEMPLATE
from triptych.language_model import load_model
from triptych.model.huggingface import export as write_folder


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Which model to write, and where."""

    model: str
    output: str


def export(settings: ExportConfig) -> Path:
    """Writes weights, configuration, tokenizer and chat template; returns the folder.

    Tokenizer and template of an imported model are its own; those of a model trained
    here are triptych's. What was written is read back and compared first.

    Raises:
        ConfigError: if there is no such model.
        IntegrityError: if a file of it is damaged, or the export does something else.
    """
    opened = load_model(settings.model)
    output, source = Path(settings.output), opened.folder
    if (source / "tokenizer_config.json").is_file():
        write_folder(opened.model, output, carried=source)
    else:
        write_folder(opened.model, output, source / "tokenizer.json", CHAT_TEMPLATE)
    return output


def run(options: argparse.Namespace) -> int:
    """The command's door from the shell."""
    print(export(ExportConfig(model=options.model, output=options.output)))
    return 0
