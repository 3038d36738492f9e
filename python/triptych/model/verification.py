"""Proof that a folder computes what the model computes, before it is committed.

The folder is read by transformers where that is installed, otherwise by our reader,
and the logits of a probe are compared.
"""

from __future__ import annotations

from importlib import util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from triptych.errors import IntegrityError
from triptych.model.transformer import Transformer

TOLERANCE = 1e-5  # of the largest logit, in float32
PROBE_TOKENS = 64


@torch.no_grad()
def verify_logits(model: Transformer, folder: Path) -> dict[str, Any]:
    """Compares the folder's logits with the model's; returns what was measured.

    Raises:
        IntegrityError: they differ by more than `TOLERANCE` of the largest.
    """
    reader = "transformers" if util.find_spec("transformers") else "triptych"
    ids = _probe(model)
    expected = model.logits(ids.to(model.output_weight.device)).float().cpu()
    read = _with_transformers if reader == "transformers" else _with_our_reader
    difference = (read(folder, ids) - expected).abs().max().item()
    limit = TOLERANCE * max(1.0, expected.abs().max().item())
    if not difference <= limit:  # NaN is no proof either
        raise IntegrityError(
            f"the export differs from the model: expected logits within {limit:.1e} "
            f"as read by {reader}, found a difference of {difference:.1e}"
        )
    return {"reader": reader, "max_logit_difference": difference}


def _probe(model: Transformer) -> Tensor:
    """(2, tokens) ids drawn from a fixed seed."""
    config = model.config
    length = min(PROBE_TOKENS, config.max_position_embeddings)
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, config.vocab_size, (2, length), generator=generator)


def _with_transformers(folder: Path, ids: Tensor) -> Tensor:
    from transformers import AutoModelForCausalLM

    twin = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    logits: Tensor = twin(ids).logits
    return logits


def _with_our_reader(folder: Path, ids: Tensor) -> Tensor:
    from triptych.model.huggingface import load_model

    return load_model(folder).eval().logits(ids)
