"""Proof that a folder does what the model does, before it is committed.

The folder is read by transformers where that is installed, otherwise by our reader.
Logits are compared, and greedy text; and with transformers what surrounds the model
in use: the ids that end a text, the tokenizer, the chat template.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from triptych._core import Tokenizer
from triptych.conversation import CHAT_TEMPLATE, render
from triptych.errors import InputError, IntegrityError
from triptych.generation import Sampling, generate
from triptych.model.transformer import Transformer

TOLERANCE = 1e-5  # of the largest logit, in float32
PROBE_TOKENS = 64
PROMPT_TOKENS = 8
GREEDY_TOKENS = 32

# Scripts, spaces, digits and line ends that tokenizers cut differently.
TEXTS = (
    "The house stood on a hill.",
    "  two spaces,\ta tab\r\nand  a line end ",
    "Straße, naïve café; 日本語のテキスト, русский текст",
    "x = 3.14159 * 1234567890  # <|not a marker|>",
)
MESSAGES = (
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is 2 + 2?"},
    {"role": "assistant", "content": "4"},
    {"role": "user", "content": "And  3 + 3?\n"},
)


@dataclass(frozen=True)
class Wanted:
    """What must surround a written model.

    Attributes:
        end_ids: ids that end a generated text.
        chat_template: Jinja text; None for none.
        carried: folder whose tokenizer and template the written one must have.
    """

    end_ids: Sequence[int] = ()
    chat_template: str | None = None
    carried: Path | None = None


def verify_folder(model: Transformer, folder: Path, wanted: Wanted) -> dict[str, Any]:
    """Compares a written folder with its model; returns what was measured.

    Raises:
        IntegrityError: naming the first thing that differs.
    """
    if not util.find_spec("transformers"):
        from triptych.model.huggingface import load_model

        reread = load_model(folder).eval()
        difference = verify_logits(model, reread.logits, "triptych")
        _compare_greedy(model, _our_greedy(reread), "triptych")
        return _facts("triptych", difference)
    twin = transformers_model(folder)
    difference = verify_logits(model, lambda ids: twin(ids).logits, "transformers")
    ends = _as_list(twin.generation_config.eos_token_id)
    _compare("the ids that end a text", sorted(wanted.end_ids), sorted(ends))
    _compare_greedy(model, _transformers_greedy(model, twin), "transformers")
    facts = _facts("transformers", difference)
    if (folder / "tokenizer_config.json").is_file():
        facts |= _verify_tokenizer(folder, wanted)
    return facts


def _facts(reader: str, difference: float) -> dict[str, Any]:
    return {
        "reader": reader,
        "max_logit_difference": difference,
        "greedy_tokens": GREEDY_TOKENS,
    }


@torch.no_grad()
def verify_logits(model: Transformer, read: Any, reader: str) -> float:
    """Largest difference from the logits that `read` gives for the probe's ids.

    Raises:
        IntegrityError: it is more than `TOLERANCE` of the largest logit.
    """
    ids = _probe(model, PROBE_TOKENS)
    expected = model.logits(ids.to(model.output_weight.device)).float().cpu()
    difference: float = (read(ids) - expected).abs().max().item()
    limit = TOLERANCE * max(1.0, expected.abs().max().item())
    if not difference <= limit:  # NaN is no proof either
        raise IntegrityError(
            f"the export differs from the model: expected logits within {limit:.1e} "
            f"as read by {reader}, found a difference of {difference:.1e}"
        )
    return difference


def _probe(model: Transformer, length: int) -> Tensor:
    """(2, tokens) ids drawn from a fixed seed."""
    config = model.config
    length = min(length, config.max_position_embeddings)
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, config.vocab_size, (2, length), generator=generator)


def _room(model: Transformer) -> tuple[int, int]:
    """Tokens of the greedy probe's prompts, and of what follows them."""
    context = model.config.max_position_embeddings
    prompt = min(PROMPT_TOKENS, max(1, context // 2))
    return prompt, min(GREEDY_TOKENS, context - prompt)


@torch.no_grad()
def _our_greedy(model: Transformer) -> list[list[int]]:
    prompt, length = _room(model)
    if length < 1:
        return []
    prompts = _probe(model, prompt).tolist()
    sampling = Sampling(max_new_tokens=length)
    return [c.ids for c in generate(model, prompts, sampling, stop_ids=[])]


@torch.no_grad()
def _transformers_greedy(model: Transformer, twin: Any) -> list[list[int]]:
    prompt, length = _room(model)
    if length < 1:
        return []
    from transformers import GenerationConfig

    prompts = _probe(model, prompt)
    # The publisher's settings, of tokens that are suppressed, say, are not the model's.
    twin.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=length, do_sample=False, pad_token_id=0
    )
    ids = twin.generate(prompts, attention_mask=torch.ones_like(prompts))
    found: list[list[int]] = ids[:, prompt:].tolist()
    return found


def _compare_greedy(model: Transformer, found: list[list[int]], reader: str) -> None:
    """A token may differ only where two logits are equal within the tolerance."""
    expected = _our_greedy(model)
    prompts = _probe(model, _room(model)[0]).tolist()[: len(expected)]
    for prompt, ours, theirs in zip(prompts, expected, found, strict=True):
        pairs = enumerate(zip(ours, theirs, strict=False))
        first = next((place for place, (a, b) in pairs if a != b), None)
        if first is not None and not _is_tie(model, prompt, ours, theirs, first):
            raise IntegrityError(
                f"the export differs from the model: expected the greedy text "
                f"{ours[: first + 1]} as read by {reader}, found {theirs[: first + 1]}"
            )


@torch.no_grad()
def _is_tie(
    model: Transformer, prompt: list[int], ours: list[int], theirs: list[int], at: int
) -> bool:
    ids = torch.tensor(prompt + ours[:at], device=model.output_weight.device)
    logits = model.logits(ids)[-1].float()
    gap = (logits[ours[at]] - logits[theirs[at]]).abs().item()
    return gap <= TOLERANCE * max(1.0, logits.abs().max().item())


def transformers_model(folder: Path) -> Any:
    """The model of a folder as transformers reads it, in float32.

    Experts in its plain implementation: its grouped one fails where the width of an
    expert is no multiple of 16 bytes.

    Raises:
        IntegrityError: it does not read the folder.
    """
    from transformers import AutoModelForCausalLM

    try:
        with _without_bars():
            twin: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, trust_remote_code=False
            )
    except Exception as error:  # of any kind: what it checks raises errors of its own
        raise IntegrityError(
            f"`{folder}`: expected a model that transformers reads, found "
            f"{type(error).__name__}: {error!s:.300}"
        ) from error
    if hasattr(twin.config, "num_experts_per_tok"):
        twin.set_experts_implementation("eager")
    return twin.eval()


@contextmanager
def _without_bars() -> Iterator[None]:
    """Whoever exports has not asked transformers to load anything."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _as_list(value: Any) -> list[int]:
    """One id, several or none, as transformers keeps them."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _verify_tokenizer(folder: Path, wanted: Wanted) -> dict[str, Any]:
    """Ids, texts and rendered conversations as transformers gives them, and as ours."""
    twin = _transformers_tokenizer(folder)
    ours = _our_tokenizer(folder)
    if ours is not None:
        for text in TEXTS:
            _compare_text(text, ours, twin)
    template = wanted.chat_template
    if wanted.carried is not None:
        original = _transformers_tokenizer(wanted.carried)
        template = original.chat_template
        for text in TEXTS:
            _compare(f"ids of the text {text!r}", original(text), twin(text))
    _compare("the chat template", template, twin.chat_template)
    if template == CHAT_TEMPLATE and ours is not None:
        _compare_template(ours, twin)
    return {"tokenizer_texts": len(TEXTS), "chat_template": template is not None}


def _transformers_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder as transformers reads it, without code of the folder's.

    Told nothing, transformers asks on the terminal whether to run that.

    Raises:
        IntegrityError: it does not read one there, or only with such code.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # as of a model
        raise IntegrityError(
            f"`{folder}`: expected a tokenizer that transformers reads, found "
            f"{type(error).__name__}: {error!s:.300}"
        ) from error


def _our_tokenizer(folder: Path) -> Tokenizer | None:
    """The folder's tokenizer; None if it is one that triptych does not run."""
    try:
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    except (InputError, OSError):
        return None


def _compare_text(text: str, ours: Tokenizer, twin: Any) -> None:
    expected = ours.encode(text)
    found = twin(text, add_special_tokens=False).input_ids
    _compare(f"ids of the text {text!r}", expected, found)
    _compare(f"text of the ids {expected}", ours.decode(expected), twin.decode(found))


def _compare_template(ours: Tokenizer, twin: Any) -> None:
    """A conversation rendered for a reply, in ids."""
    expected = render(MESSAGES, ours, add_generation_prompt=True).ids
    found = twin.apply_chat_template(
        list(MESSAGES), add_generation_prompt=True, tokenize=True, return_dict=False
    )
    _compare("a conversation through the chat template", expected, found)


def _compare(what: str, expected: Any, found: Any) -> None:
    if expected != found:
        raise IntegrityError(
            f"the export differs from the model: {what}: expected {expected!r:.300}, "
            f"found {found!r:.300} as read by transformers"
        )
