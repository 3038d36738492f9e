"""A start from counts: a new model that already knows which token follows which.

A model whose layers add nothing to the residual answers logits W norm(e_i) to token i: a
bigram model of rank `hidden_size`. The best W and e of that form need no pass over the
text, only its counts of pairs c_ij, and gradient descent takes long to find them: a model of
7.4 million parameters is at 2.20 bits a byte after 300,000 tokens, and begins here at 1.94.

1. Spectral: log(1 + c_ij / (K q_j)) is, but for a constant a row that no softmax sees, the
   logarithm of (c_ij + K q_j) / (c_i + K) / q_j, and is zero where a pair does not occur. It
   is weighted by the roots of the frequencies p_i and q_j, which makes its squared error
   the divergence near the unigram model (Levy & Goldberg 2014 factor a like matrix), and
   factored by a randomised singular value decomposition (Halko et al. 2011, algorithm 4.4).
   One dimension more holds log q_j.
2. Some passes of Adam over the rows of the table, for the softmax itself and the norm.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from triptych.bigrams import BigramCounts
from triptych.errors import ConfigError
from triptych.model.near_heads import look_back
from triptych.model.transformer import Transformer
from triptych.train.adamw import AdamW

# K: a row of c_i pairs is mixed with K of the unigram model. On held-out English, V = 8,192,
# 22.9 million pairs: 10 gives 5.124 nats a token, 30 5.074, 100 5.031, 300 5.020.
SMOOTHING = 100.0
OVERSAMPLING = 8  # Halko et al. 2011, section 4.2: 5 or 10
POWER_PASSES = 2  # section 4.5: one or two, where singular values fall slowly
# Of rank 256, in nats on the same text: 5.957 spectral, then 5.649, 5.437, 5.281, 5.193,
# 5.145 and 5.126 after each pass. A pass costs what the head costs for V tokens.
PASSES = 6
EMBEDDING_RATE, HEAD_RATE = 0.03, 0.01  # three times these diverge at first (6.58 nats)
ROWS = 1024  # of a step; 512 gives 5.184 after 4 passes
MOST_ENTRIES = 1 << 23  # of a step's logits: 32 MiB
# Rows that the passes go over, most frequent first: all of a small vocabulary; of a large
# one those that make up nearly all of the text, so that a pass stays as cheap.
MOST_ROWS = 8192


def start_from_bigrams(
    model: Transformer, counts: BigramCounts, *, seed: int = 0
) -> None:
    """Gives a new model the embeddings and output matrix that predict by the last token.

    What writes to the residual becomes zero, so that layers add nothing at first. Heads of
    the first layer begin by looking a few tokens back, see `near_heads`.

    Raises:
        ConfigError: embeddings and output matrix are one, or the family has no norm
            before its layers' halves, or one behind them.
    """
    _check(model, counts)
    generator = torch.Generator().manual_seed(seed)
    embedding, head = fit_bigrams(counts, model.config.hidden_size, generator)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(embedding)
        model.output_weight.copy_(head)
        for weight in model.residual_writers():
            weight.zero_()
    if model.config.turns(0):
        first: Any = model.model.layers[0]
        level = float(embedding[:, 0].mean())
        look_back(first.self_attn, model.config, model.rotary.frequencies, level)


def _check(model: Transformer, counts: BigramCounts) -> None:
    config = model.config
    if config.tie_word_embeddings:
        raise ConfigError(
            "tie_word_embeddings: expected false, for a start from bigrams has an output "
            "matrix of its own, found true"
        )
    if config.family.norms != "pre" or config.family.scale_embeddings:
        raise ConfigError(
            "start: expected `random` for the family "
            f"`{config.model_type}`, found `bigram`, which needs norms before attention "
            "and feed-forward only, as Llama, Mistral, Qwen and SmolLM have them"
        )
    if counts.vocab_size > config.vocab_size:
        raise ConfigError(
            f"sources: expected ids below vocab_size = {config.vocab_size}, found a "
            f"vocabulary of {counts.vocab_size}"
        )


def fit_bigrams(
    counts: BigramCounts, hidden_size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Embeddings of RMS 1 and an output matrix, float32 (V, hidden_size) each."""
    table = _Table(counts)
    embedding, head = _spectral(table, hidden_size, generator)
    return _refined(table, normed(embedding), head, generator)


def normed(x: Tensor) -> Tensor:
    """Rows of x (N, hidden_size) divided by their root mean square, as RMSNorm does."""
    return x / x.pow(2).mean(1, keepdim=True).add(1e-12).sqrt()


class _Table:
    """Counts as tensors: `indices` (2, N), `counts` (N,), totals of rows and columns (V,)."""

    def __init__(self, counts: BigramCounts) -> None:
        self.size = size = counts.vocab_size
        previous = torch.from_numpy(counts.previous)
        following = torch.from_numpy(counts.following)
        self.indices = torch.stack((previous, following))
        self.counts = torch.from_numpy(counts.counts).float()
        self.rows = torch.bincount(previous, self.counts, minlength=size).float()
        columns = torch.bincount(following, self.counts, minlength=size).float()
        self.row_share = (self.rows + 0.5) / (self.rows + 0.5).sum()
        self.unigram = (columns + 0.5) / (columns + 0.5).sum()
        self.first = self._first_of(previous)

    def _first_of(self, rows: Tensor) -> Tensor:
        """(V + 1,) where the pairs of each row begin, of sorted `rows` (N,)."""
        return torch.searchsorted(rows.contiguous(), torch.arange(self.size + 1))

    def sparse(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """(V, V) with `values` where there are counts, and its transpose, by rows."""
        back = self.indices.flip(0)
        order = (back[0] * self.size + back[1]).argsort()
        return (
            self._by_rows(self.indices, values),
            self._by_rows(back[:, order], values[order]),
        )

    def _by_rows(self, indices: Tensor, values: Tensor) -> Tensor:
        # Six times as fast in a product as coordinates are; torch warns of it as new.
        first = self._first_of(indices[0])
        shape = (self.size, self.size)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse", UserWarning)
            return torch.sparse_csr_tensor(
                first, indices[1].contiguous(), values, shape, check_invariants=True
            )

    def targets(self, rows: Tensor) -> Tensor:
        """(R, V) smoothed shares of what follows each token of `rows`."""
        found = SMOOTHING * self.unigram.repeat(len(rows), 1)
        for number, row in enumerate(rows.tolist()):
            pairs = slice(int(self.first[row]), int(self.first[row + 1]))
            found[number, self.indices[1, pairs]] += self.counts[pairs]
        return found / (self.rows[rows] + SMOOTHING)[:, None]


def _spectral(
    table: _Table, hidden_size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Step 1: the weighted table's best factors, and log q in a dimension of its own."""
    rank = min(hidden_size - 1, table.size)
    row_root, column_root = table.row_share.sqrt(), table.unigram.sqrt()
    previous, following = table.indices
    values = torch.log1p(table.counts / (SMOOTHING * table.unigram[following]))
    values *= row_root[previous] * column_root[following]
    left, singular, right = _factors(table, values, rank, generator)
    embedding = left * singular.sqrt() / row_root[:, None]
    head = right * singular.sqrt() / column_root[:, None]
    # As long as an embedding is in the mean over the text: it survives the norm.
    length = (table.row_share * embedding.norm(dim=1)).sum().clamp(min=1e-6)
    unigram = table.unigram.log()
    constant = torch.full((table.size, 1), float(length))
    filler = torch.zeros(table.size, hidden_size - 1 - rank)
    embedding = torch.cat((constant, embedding, filler), dim=1)
    head = torch.cat(
        ((unigram - unigram.mean())[:, None] / length, head, filler), dim=1
    )
    scale = embedding.pow(2).mean(1).sqrt().median()
    return embedding / scale, head * scale


def _factors(
    table: _Table, values: Tensor, rank: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """The `rank` largest singular values of a sparse table, with their vectors."""
    matrix, transposed = table.sparse(values)
    wide = min(rank + OVERSAMPLING, table.size)
    basis = _orthonormal(matrix @ torch.randn(table.size, wide, generator=generator))
    for _ in range(POWER_PASSES):
        basis = _orthonormal(matrix @ _orthonormal(transposed @ basis))
    small, singular, right = torch.linalg.svd(
        (transposed @ basis).T, full_matrices=False
    )
    return (basis @ small)[:, :rank], singular[:rank], right[:rank].T


def _orthonormal(matrix: Tensor) -> Tensor:
    basis: Tensor = torch.linalg.qr(matrix)[0]
    return basis


def _refined(
    table: _Table, embedding: Tensor, head: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Step 2: cross-entropy of the rows, each weighing as it is frequent."""
    embedding, head = embedding.requires_grad_(), head.requires_grad_()
    groups = [{"params": [embedding]}, {"params": [head]}]
    optimizer = AdamW(groups, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    frequent = table.rows.argsort(descending=True, stable=True)[:MOST_ROWS]
    size = max(1, min(ROWS, MOST_ENTRIES // table.size))
    steps = PASSES * math.ceil(len(frequent) / size)
    for step, rows in enumerate(_batches(frequent, size, generator)):
        for group, rate in zip(
            optimizer.param_groups, (EMBEDDING_RATE, HEAD_RATE), strict=True
        ):
            group["lr"] = rate * min(1.0, 1.05 - (step + 1) / steps)
        optimizer.zero_grad()
        torch.autograd.backward(_loss(table, rows, embedding, head))
        optimizer.step()
    return normed(embedding.detach()), head.detach()


def _batches(rows: Tensor, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Rows of each step, in another order each pass."""
    for _ in range(PASSES):
        yield from torch.split(
            rows[torch.randperm(len(rows), generator=generator)], size
        )


def _loss(table: _Table, rows: Tensor, embedding: Tensor, head: Tensor) -> Tensor:
    """Cross-entropy in nats of the tokens that follow those of `rows`."""
    scores = torch.log_softmax(normed(embedding[rows]) @ head.T, dim=1)
    nats = -(table.targets(rows) * scores).sum(1)
    weights = table.row_share[rows]
    return (nats * weights).sum() / weights.sum()
