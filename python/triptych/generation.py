"""Completions from a model: KV-cached, batched, reproducible from a seed.

A prompt's completion does not depend on its company in the batch: each has its own
random generator, seeded by (seed, index of the prompt).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from triptych.errors import ConfigError

if TYPE_CHECKING:
    from triptych.model import Transformer


# Tokens among which a nucleus is looked for first; 0.95 of text is within a few hundred.
NUCLEUS_TOKENS = 1024


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        max_new_tokens: most tokens drawn for a prompt, a stop token among them.
        temperature: divides the logits; 0 takes the likeliest token.
        top_k: only so many likeliest tokens; None for all.
        top_p: only the likeliest tokens that together reach this probability
            (Holtzman et al. 2020, nucleus sampling) among those of `top_k`; 1 for all.
        seed: of the random draws.
    """

    max_new_tokens: int = 64
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks every type and bound once, at birth."""
        for name in ("max_new_tokens", "top_k", "seed"):
            value = getattr(self, name)
            absent = name == "top_k" and value is None
            whole = isinstance(value, Integral) and not isinstance(value, bool)
            _check(absent or whole, name, "a whole number", value)
        for name in ("temperature", "top_p"):
            value = getattr(self, name)
            _check(isinstance(value, Real), name, "a number", value)
        _check(self.max_new_tokens >= 1, "max_new_tokens", ">= 1", self.max_new_tokens)
        _check(self.temperature >= 0, "temperature", ">= 0", self.temperature)
        small = self.temperature < 2**63  # or torch would not take a whole one
        _check(small, "temperature", "< 2^63", self.temperature)
        _check(self.top_k is None or self.top_k >= 1, "top_k", ">= 1", self.top_k)
        _check(0 < self.top_p <= 1, "top_p", "in (0, 1]", self.top_p)


@dataclass(frozen=True)
class Completion:
    """Ids that followed a prompt, and the stop token that ended them (None: cut off)."""

    ids: list[int]
    stopped_by: int | None


def _check(good: bool, name: str, expected: str, found: object) -> None:
    if not good:
        raise ConfigError(f"{name}: expected {expected}, found {found!s:.60}")


def generate(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    stop_ids: Sequence[int],
    batch_size: int = 32,
) -> list[Completion]:
    """Completes each prompt of token ids.

    Args:
        model: in any mode; nothing is trained.
        prompts: ids, at least one each.
        sampling: how tokens are drawn.
        stop_ids: tokens that end a completion.
        batch_size: prompts decoded together.

    Raises:
        ConfigError: for an empty prompt, one that leaves no room in the model, or an id
            that is not of its vocabulary; or a batch of none.
    """
    _check(isinstance(batch_size, Integral), "batch_size", "a whole number", batch_size)
    _check(batch_size >= 1, "batch_size", ">= 1", batch_size)
    generators = [_generator(sampling.seed, index) for index in range(len(prompts))]
    completions: list[Completion] = []
    for start in range(0, len(prompts), batch_size):
        batch = [list(prompt) for prompt in prompts[start : start + batch_size]]
        lanes = _Lanes(model, batch, generators[start : start + batch_size], sampling)
        completions += lanes.run(frozenset(stop_ids))
    return completions


def stream(
    model: Transformer,
    prompt: Sequence[int],
    sampling: Sampling,
    *,
    stop_ids: Sequence[int],
) -> Iterator[int]:
    """Yields the ids of one completion as they are drawn."""
    lanes = _Lanes(model, [list(prompt)], [_generator(sampling.seed, 0)], sampling)
    while lanes.active:
        before = len(lanes.drawn[0])
        lanes.step(frozenset(stop_ids))
        yield from lanes.drawn[0][before:]


def _generator(seed: int, index: int) -> torch.Generator:
    # A prime apart, so that neighbouring seeds and prompts share no stream.
    return torch.Generator().manual_seed((seed * 1_000_003 + index) % 2**63)


class _Lanes:
    """A batch of prompts being completed; a finished lane leaves the cache."""

    def __init__(
        self,
        model: Transformer,
        prompts: list[list[int]],
        generators: list[torch.Generator],
        sampling: Sampling,
    ) -> None:
        self.model, self.generators, self.sampling = model, generators, sampling
        self.drawn: list[list[int]] = [[] for _ in prompts]
        self.stopped_by: list[int | None] = [None] * len(prompts)
        self.active = list(range(len(prompts)))
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        self._check_room(lengths)
        size = model.config.vocab_size
        for prompt in prompts:
            beyond = max(prompt) if max(prompt) >= size else min(prompt)
            _check(0 <= beyond < size, "prompt", f"ids from 0 to {size - 1}", beyond)
        capacity = int(lengths.max()) + sampling.max_new_tokens
        self.cache = model.new_cache(len(prompts), capacity)
        self.logits = model.decode(_right_padded(prompts), self.cache, lengths)

    def _check_room(self, lengths: Tensor) -> None:
        limit = self.model.config.max_position_embeddings
        most = self.sampling.max_new_tokens
        _check(most < limit, "max_new_tokens", f"< {limit}, as the model reads", most)
        needed = int(lengths.max()) + most
        if int(lengths.min()) < 1 or needed > limit:
            raise ConfigError(
                f"prompt: expected 1 to {limit - most} tokens (the model reads {limit}, "
                f"{most} are to be generated), found {lengths.tolist()!s:.100}"
            )

    def run(self, stop_ids: frozenset[int]) -> list[Completion]:
        while self.active:
            self.step(stop_ids)
        return [
            Completion(*pair) for pair in zip(self.drawn, self.stopped_by, strict=True)
        ]

    def step(self, stop_ids: frozenset[int]) -> None:
        """Draws one token for each active lane and reads it."""
        tokens = [
            _draw(logits, self.sampling, self.generators[lane])
            for lane, logits in zip(self.active, self.logits.cpu(), strict=True)
        ]
        staying = []
        for row, (lane, token) in enumerate(zip(self.active, tokens, strict=True)):
            if token in stop_ids:
                self.stopped_by[lane] = token
                continue
            self.drawn[lane].append(token)
            if len(self.drawn[lane]) < self.sampling.max_new_tokens:
                staying.append(row)
        self._advance(staying, tokens)

    def _advance(self, staying: list[int], tokens: list[int]) -> None:
        if len(staying) < len(self.active):
            self.active = [self.active[row] for row in staying]
            self.cache.keep(torch.tensor(staying, dtype=torch.int64))
        if self.active:
            ids = torch.tensor([[tokens[row]] for row in staying])
            self.logits = self.model.decode(ids, self.cache)


def _right_padded(prompts: list[list[int]]) -> Tensor:
    longest = max(map(len, prompts))
    return torch.tensor([prompt + [0] * (longest - len(prompt)) for prompt in prompts])


def _draw(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """One token from logits (vocab_size,)."""
    largest, likeliest = logits.max(-1)
    found = "NaN or infinity, from the model's weights"
    _check(bool(largest.isfinite()), "logits", "numbers", found)
    if sampling.temperature == 0:
        return int(likeliest)
    # Off their largest, as doubles: over a tiny temperature logits would be infinite.
    scaled = (logits.double() - largest) / sampling.temperature
    probabilities, ids = _nucleus(scaled, sampling)
    sums = probabilities.cumsum(-1)
    drawn = torch.rand((), dtype=torch.float64, generator=generator) * sums[-1]
    # Rounding may put it at the sum of all.
    place = min(int(torch.searchsorted(sums, drawn, right=True)), len(sums) - 1)
    return place if ids is None else int(ids[place])


def _nucleus(scaled: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor | None]:
    """Probabilities of the tokens that may be drawn, and their ids; None for all in order.

    A whole vocabulary is sorted only where its likeliest tokens do not reach `top_p`: that
    takes 11 ms for 128,256 tokens, a nucleus among the first 0.5.
    """
    if sampling.top_k is None and sampling.top_p == 1:
        return torch.softmax(scaled, -1), None
    if sampling.top_k is not None:
        scaled, ids = scaled.topk(min(sampling.top_k, len(scaled)))
        return _up_to(torch.softmax(scaled, -1), ids, sampling.top_p)
    for likeliest in (min(NUCLEUS_TOKENS, len(scaled)), len(scaled)):
        found, ids = scaled.topk(likeliest)
        probabilities = (found - scaled.logsumexp(-1)).exp()
        if probabilities.sum() >= sampling.top_p:
            break
    return _up_to(probabilities, ids, sampling.top_p)


def _up_to(probabilities: Tensor, ids: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Those before which `top_p` is not reached, the likeliest first: that one always."""
    before = probabilities.cumsum(-1) - probabilities
    kept = max(int((before < top_p).sum()), 1)
    return probabilities[:kept], ids[:kept]
