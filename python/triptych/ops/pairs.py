"""Two responses over one prompt, where they stand within their documents."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def within_documents(pairs: Tensor, boundaries: Sequence[int]) -> Tensor:
    """Counts each document's two places from its own start.

    Args:
        pairs: (documents, 2) integers, tokens counted along the row.
        boundaries: documents + 1 tokens that rise from 0.

    Returns:
        (documents, 2) int64 on the CPU; 0 for documents without tokens.

    Raises:
        ValueError: of another shape, or places out of order or of their document.
    """
    if pairs.shape != (len(boundaries) - 1, 2):
        raise ValueError(
            f"pairs: expected ({len(boundaries) - 1}, 2), found {tuple(pairs.shape)}"
        )
    edges = torch.tensor(boundaries, dtype=torch.int64)
    starts, lengths = edges[:-1], edges.diff()
    places = (pairs.cpu().long() - starts[:, None]) * (lengths > 0)[:, None]
    chosen, rejected = places.unbind(1)
    wrong = (chosen < 0) | (chosen > rejected) | (rejected > lengths)
    if bool(wrong.any()):
        first = int(wrong.nonzero()[0])
        raise ValueError(
            "pairs: expected two tokens in order, within their document and counted "
            f"along the row, found {pairs[first].tolist()} in document {first}, which "
            f"runs from {boundaries[first]} to {boundaries[first + 1]}"
        )
    return places
