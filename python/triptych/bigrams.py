"""How often one token follows another in token shards.

What `train.bigram_start` begins a model from. A pair counts where both tokens are of one
document; sources weigh as much as the run will read of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from triptych.data import TokenShards
from triptych.errors import ConfigError

# Pairs read: 34 million tell a third of what 8,192 x 8,192 pairs there can be (22.9
# million of English hold 1.77 million distinct ones) and take 4 s and 1 GB to count.
MAX_TOKENS = 1 << 25
CHUNK_TOKENS = 1 << 22  # 34 MB of keys at a time

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class BigramCounts:
    """Counts of the pairs that occur, sorted by `previous`, then `following`.

    Attributes:
        vocab_size: V; ids are below it.
        previous, following: (N,) ids. counts: (N,) above 0, not whole where sources
            weigh differently.
    """

    vocab_size: int
    previous: Integers
    following: Integers
    counts: Floats


Table = tuple[Integers, Floats]  # sorted keys previous * V + following; counts
EMPTY: Table = (np.zeros(0, np.int64), np.zeros(0))


def count_bigrams(
    sources: Mapping[str, TokenShards],
    planned_tokens: Mapping[str, int],
    vocab_size: int,
    *,
    max_tokens: int = MAX_TOKENS,
) -> BigramCounts:
    """Counts the pairs of several sources, each weighing as its planned tokens do.

    Where there are more than `max_tokens`, every k-th document of a source is read.

    Raises:
        ConfigError: there is no pair to count.
    """
    read = {name: planned_tokens.get(name, 0) for name in sources}
    shares = {
        name: tokens / max(1, sum(read.values())) for name, tokens in read.items()
    }
    tables = {
        name: _count(shards, vocab_size, int(shares[name] * max_tokens))
        for name, shards in sources.items()
    }
    total = sum(counts.sum() for _, counts in tables.values())
    if not total:
        names = ", ".join(sources) or "no source"
        raise ConfigError(
            "sources: expected documents of two tokens or more, for the model starts "
            f"from pairs of them, found none in {names}"
        )
    merged = EMPTY
    for name, (keys, counts) in tables.items():
        weight = shares[name] * total / max(1.0, counts.sum())
        merged = _merged(merged, (keys, counts * weight))
    keys, counts = merged
    return BigramCounts(vocab_size, keys // vocab_size, keys % vocab_size, counts)


def _count(shards: TokenShards, vocab_size: int, max_tokens: int) -> Table:
    """The pairs of one source."""
    table = EMPTY
    for pairs in _pairs(shards, vocab_size, max_tokens):
        keys, counts = np.unique(pairs, return_counts=True)
        table = _merged(table, (keys, counts.astype(np.float64)))
    return table


def _pairs(shards: TokenShards, vocab_size: int, max_tokens: int) -> Iterator[Integers]:
    """Keys of the pairs of evenly chosen documents, some millions at a time."""
    every = -(-int(shards.lengths.sum()) // max_tokens) if max_tokens else 0
    held, size = [], 0
    for document in range(0, len(shards), every) if every else ():
        ids = shards.tokens(document)
        held.append(ids[:-1] * vocab_size + ids[1:])
        size += len(held[-1])
        if size >= CHUNK_TOKENS:
            yield np.concatenate(held)
            held, size = [], 0
    if size:
        yield np.concatenate(held)


def _merged(left: Table, right: Table) -> Table:
    """The sums of two tables of counts."""
    keys, where = np.unique(np.concatenate((left[0], right[0])), return_inverse=True)
    counts = np.zeros(len(keys))
    np.add.at(counts, where, np.concatenate((left[1], right[1])))
    return keys, counts
