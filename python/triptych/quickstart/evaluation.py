"""The measurements of the demo: each made once, kept beside the run, and read again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from triptych import artefact
from triptych._core import Tokenizer
from triptych.conversation import read_conversations
from triptych.data import TokenShards
from triptych.evaluate import (
    bits_per_byte,
    document_logps,
    preference_accuracy,
    reply_quality,
    supervised_lengths,
    token_loss,
)
from triptych.language_model import load_model
from triptych.model import Transformer
from triptych.quickstart.split import is_heldout
from triptych.recipes import SOURCES

SAMPLE = Path(__file__).resolve().parent.parent / "sample"
SEQ_LEN = 256  # as in pre-training


class Evaluations:
    """Measurements under `<run>/evaluations/`, one JSON file each."""

    def __init__(self, output: Path, tokenizer: Tokenizer) -> None:
        self.output, self.tokenizer = output, tokenizer
        self.folder = output / "evaluations"

    def all(self) -> dict[str, Any]:
        """Every measurement made so far, by name."""
        files = sorted(self.folder.glob("*.json"))
        return {
            file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files
        }

    def _once(self, name: str, measure: Callable[[], dict[str, Any]]) -> None:
        path = self.folder / f"{name}.json"
        if not path.is_file():
            self.folder.mkdir(exist_ok=True)
            artefact.write_text(path, json.dumps(measure(), indent=2) + "\n")

    @cached_property
    def _sources(self) -> dict[str, TokenShards]:
        return {name: self._shards(f"{name}-heldout") for name in SOURCES}

    def _shards(self, name: str) -> TokenShards:
        return TokenShards(self.output / "tokens" / name)

    def base(self, name: str, model: Transformer) -> None:
        """Bits per byte of each source's held-out text."""
        self._once(
            f"text-{name}",
            lambda: bits_per_byte(
                model, self._sources, self.tokenizer, seq_len=SEQ_LEN
            ),
        )

    def replies(self, name: str, folder: Path) -> None:
        """Loss of held-out replies, and how well formed the model's own are."""
        self._once(f"replies-{name}", lambda: self._replies(load_model(folder).model))

    def _replies(self, model: Transformer) -> dict[str, Any]:
        shards = self._shards("conversations-heldout")
        conversations = [
            conversation
            for conversation in read_conversations([SAMPLE / "conversations.jsonl.zst"])
            if is_heldout(conversation.messages[0]["content"])
        ]
        loss = token_loss(model, shards, seq_len=model.config.max_position_embeddings)
        quality = reply_quality(model, self.tokenizer, conversations)
        return {"response_loss": loss.mean, "tokens": loss.tokens, **asdict(quality)}

    def preferences(self, name: str, folder: Path, *, reference: Path) -> None:
        """Implicit preference accuracy against the model that alignment began with."""
        self._once(f"preferences-{name}", lambda: self._preferences(folder, reference))

    def _preferences(self, folder: Path, reference: Path) -> dict[str, Any]:
        shards = self._shards("preferences-heldout")
        policy_logps = document_logps(load_model(folder).model, shards)
        reference_logps = document_logps(load_model(reference).model, shards)
        lengths = supervised_lengths(shards)
        return asdict(preference_accuracy(policy_logps, reference_logps, lengths))
