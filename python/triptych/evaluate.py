"""What a model can do, measured on data held out from training.

Losses are sums divided once: nats over tokens, bits over bytes. Bits per byte do not
depend on the tokenizer, so models with different vocabularies can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from triptych import ops
from triptych.conversation import Conversation, Message, render
from triptych.data import TokenShards, stored_batches
from triptych.errors import ConfigError
from triptych.generation import Sampling, generate
from triptych.language_model import marker_ids

if TYPE_CHECKING:
    from triptych._core import Tokenizer
    from triptych.model import Transformer
    from triptych.train.batch import Batch

ALL = "all"  # sources together
NO_SOURCE = "expected another name for a source, as this one is that of all together"
EVAL_BATCH_TOKENS = 4096  # 16 rows of 256: no speed is gained beyond, memory is


@dataclass(frozen=True)
class TokenLoss:
    """Sum of negative log-likelihood in nats, over how many supervised tokens."""

    nats: float
    tokens: int

    @property
    def mean(self) -> float:
        """Nats a supervised token."""
        return self.nats / max(self.tokens, 1)


@dataclass(frozen=True)
class SourceLoss:
    """Loss over the supervised tokens of a source, and the UTF-8 bytes of their text."""

    loss: TokenLoss
    text_bytes: int

    @property
    def bits_per_byte(self) -> float:
        """Bits a byte of text, which do not depend on the tokenizer."""
        return self.loss.nats / math.log(2) / max(self.text_bytes, 1)


@torch.no_grad()
def token_loss(model: Transformer, shards: TokenShards, *, seq_len: int) -> TokenLoss:
    """Loss over the supervised tokens of all documents, cut at `seq_len`."""
    nats, tokens = 0.0, 0
    for batch in stored_batches(
        shards, seq_len=seq_len, batch_tokens=EVAL_BATCH_TOKENS
    ):
        count = int((batch.labels >= 0).sum())
        if count:
            nats -= float(_label_logps(model, batch).sum(dtype=torch.float64))
            tokens += count
    return TokenLoss(nats, tokens)


def _label_logps(model: Transformer, batch: Batch) -> Tensor:
    """(tokens,) log-probability of each label; 0 where there is none."""
    batch = batch.to(model.output_weight.device)
    hidden = model.hidden(batch.input_ids, batch.position_ids, batch.cu_seqlens)
    return ops.linear_logprobs(
        hidden, model.output_weight, batch.labels, softcap=model.logit_softcap
    )


def text_bytes(shards: TokenShards, tokenizer: Tokenizer) -> int:
    """UTF-8 bytes of all supervised texts, markers not counted.

    Of conversations those of the replies, as their losses are: bits of a reply over bytes
    of the question as well would be too few. Likewise without the first token of a
    document that begins with none for its beginning: nothing predicts it.
    """

    def size(ids: Sequence[int]) -> int:
        return len(tokenizer.decode(ids, skip_special=True).encode())

    total = 0
    for index in range(len(shards)):
        ids, mask = shards.tokens(index), shards.mask(index)
        total += size(ids[mask].tolist()) - size(ids[:1][mask[:1]].tolist())
    return total


def source_losses(
    model: Transformer,
    sources: Mapping[str, TokenShards],
    tokenizer: Tokenizer,
    *,
    seq_len: int,
) -> dict[str, SourceLoss]:
    """Loss of each source, and first of `all` together, every byte counted once.

    Raises:
        ConfigError: a source is called `all`.
    """
    if ALL in sources:
        raise ConfigError(f"`{ALL}`: {NO_SOURCE}")
    found = {
        name: SourceLoss(
            token_loss(model, shards, seq_len=seq_len), text_bytes(shards, tokenizer)
        )
        for name, shards in sources.items()
    }
    nats = sum(source.loss.nats for source in found.values())
    tokens = sum(source.loss.tokens for source in found.values())
    size = sum(source.text_bytes for source in found.values())
    return {ALL: SourceLoss(TokenLoss(nats, tokens), size), **found}


def bits_per_byte(
    model: Transformer,
    sources: Mapping[str, TokenShards],
    tokenizer: Tokenizer,
    *,
    seq_len: int,
) -> dict[str, float]:
    """Bits a byte of each source, and of `all` together.

    Raises:
        ConfigError: a source is called `all`.
    """
    losses = source_losses(model, sources, tokenizer, seq_len=seq_len)
    return {name: source.bits_per_byte for name, source in losses.items()}


@torch.no_grad()
def document_logps(model: Transformer, shards: TokenShards) -> Tensor:
    """(documents,) summed log-probability, in nats, of each one's supervised tokens."""
    sums = torch.zeros(len(shards), dtype=torch.float64)
    longest = int(shards.lengths.max(initial=1))
    for batch in stored_batches(
        shards, seq_len=longest, batch_tokens=EVAL_BATCH_TOKENS
    ):
        lengths = batch.cu_seqlens.diff().long()
        owner = torch.repeat_interleave(batch.documents, lengths)
        sums.index_add_(0, owner, _label_logps(model, batch).double().cpu())
    return sums


@dataclass(frozen=True)
class PreferenceResult:
    """How often the policy moved towards the preferred reply of a pair.

    Attributes:
        accuracy: share of pairs whose implicit reward (policy minus reference
            log-probability, Rafailov et al. 2023, sec. 4) is larger for the chosen
            reply; a tie counts half, so a policy equal to its reference has 0.5.
        margin: mean difference of the implicit rewards, in nats.
        longer_accuracy: what "prefer the longer reply" would score.
        pairs: how many.
    """

    accuracy: float
    margin: float
    longer_accuracy: float
    pairs: int


def preference_accuracy(
    policy_logps: Tensor, reference_logps: Tensor, lengths: Tensor
) -> PreferenceResult:
    """Scores pairs; all arguments (2 * pairs,), chosen and rejected adjacent.

    Args:
        policy_logps: summed log-probabilities under the policy, in nats.
        reference_logps: the same under the reference.
        lengths: supervised tokens of each reply.
    """
    margins = _pair_differences(policy_logps - reference_logps)
    longer = _pair_differences(lengths.double())
    return PreferenceResult(
        accuracy=_share_positive(margins),
        margin=float(margins.mean()),
        longer_accuracy=_share_positive(longer),
        pairs=len(margins),
    )


def _pair_differences(values: Tensor) -> Tensor:
    return values[0::2] - values[1::2]


def _share_positive(values: Tensor) -> float:
    return float(((values > 0).double() + 0.5 * (values == 0).double()).mean())


def supervised_lengths(shards: TokenShards) -> Tensor:
    """(documents,) number of supervised tokens of each document."""
    return torch.tensor([int(shards.mask(i).sum()) for i in range(len(shards))])


@dataclass(frozen=True)
class ReplyResult:
    """Replies to held-out prompts: how many were well formed, and the first few."""

    well_formed: float
    replies: int
    samples: list[dict[str, str]]


def reply_quality(
    model: Transformer,
    tokenizer: Tokenizer,
    conversations: Sequence[Conversation],
    *,
    max_new_tokens: int = 64,
    num_samples: int = 3,
) -> ReplyResult:
    """Greedy replies to each conversation's last user turn, if it has one.

    Well formed is a reply that is not empty and is closed by the end-of-turn token
    within `max_new_tokens` tokens; any other marker spoils it.
    """
    asked = (_to_last_question(chat.messages) for chat in conversations)
    prompts = [prompt for prompt in asked if prompt]
    ids = [render(p, tokenizer, add_generation_prompt=True).ids for p in prompts]
    sampling = Sampling(max_new_tokens=max_new_tokens)
    completions = generate(model, ids, sampling, stop_ids=marker_ids(tokenizer))
    good = [bool(c.ids) and c.stopped_by == tokenizer.end_id for c in completions]
    samples = [
        {"prompt": prompt[-1]["content"], "reply": tokenizer.decode(c.ids)}
        for prompt, c in zip(prompts[:num_samples], completions, strict=False)
    ]
    return ReplyResult(sum(good) / max(len(good), 1), len(good), samples)


def _to_last_question(messages: Sequence[Message]) -> Sequence[Message]:
    users = [index for index, turn in enumerate(messages) if turn["role"] == "user"]
    return messages[: users[-1] + 1] if users else []
