"""`triptych export`: a model folder that Hugging Face transformers loads."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.conversation import CHAT_TEMPLATE, has_markers
from triptych.language_model import LanguageModel, load_model
from triptych.model.huggingface import export as write_folder
from triptych.train.checkpoint import STATE


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Which model to write, and where.

    Attributes:
        model: run or checkpoint folder.
        output: folder to write.
    """

    model: str
    output: str


def export(settings: ExportConfig) -> Path:
    """Writes weights, configuration, tokenizer and chat template; returns the folder.

    Tokenizer and template of an imported model are its own, tuned or not; the template of
    a model trained here is triptych's, if its tokenizer has the markers of a conversation. What
    was written is read back and compared first.

    Raises:
        ConfigError: if there is no such model.
        IntegrityError: if a file of it is damaged, or the export does something else.
    """
    write(load_model(settings.model), settings.output)
    return Path(settings.output)


def write(
    opened: LanguageModel, output: str, made_from: Mapping[str, Any] | None = None
) -> None:
    """Writes a model with what surrounds it in its folder, verified."""
    source = opened.folder
    made_from = made_from or {}
    tokenizer = source / "tokenizer.json"
    has_own = (source / "tokenizer_config.json").is_file() and not _learnt_ours(opened)
    if has_own or not tokenizer.is_file():
        write_folder(opened.model, output, carried=source, made_from=made_from)
        return
    template = CHAT_TEMPLATE if has_markers(opened.tokenizer) else None
    write_folder(opened.model, output, tokenizer, template, made_from=made_from)


def _learnt_ours(opened: LanguageModel) -> bool:
    """Whether it was tuned on conversations as we write them, whatever it had before."""
    return (opened.folder / STATE).is_file() and has_markers(opened.tokenizer)


def run(options: argparse.Namespace) -> int:
    """The command's door from the shell."""
    print(export(ExportConfig(model=options.model, output=options.output)))
    return 0
