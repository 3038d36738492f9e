"""A model with its tokenizer: what a folder holds, ready to score and to complete.

The folder may be a run, a checkpoint, or any Hugging Face folder of a supported
family; only safetensors are read, nothing is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from triptych import _core
from triptych._core import Tokenizer
from triptych.device import DeviceName, local_device, told_by_torchrun
from triptych.errors import ConfigError, InputError, escaped
from triptych.generation import Completion, Sampling, generate
from triptych.model import Transformer
from triptych.model.huggingface import end_ids
from triptych.model.huggingface import load_model as load_transformer

# Where a demo keeps its result, best first.
RESULTS = ("export", "dpo", "sft", "pretrain")
ID_TYPES = (torch.int64, torch.int32)
# Beyond any machine's cores; torch would try to start so many.
MAX_THREADS = 4096
MARKERS = ("pad", "bos", "eos", "system", "user", "assistant", "end")


@dataclass(frozen=True)
class LanguageModel:
    """A model and the folder it came from; the tokenizer is read when it is needed."""

    model: Transformer
    folder: Path

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer beside the model.

        Raises:
            ConfigError: if there is none, or it has more tokens than the model.
            InputError: if it lacks the markers that triptych's tokenizers have.
        """
        path = self.folder / "tokenizer.json"
        if not path.is_file():
            raise ConfigError(
                f"no tokenizer at `{path}`: expected one beside the model"
            )
        tokenizer = Tokenizer.from_file(str(path))
        require_fit(tokenizer, self.model, self.folder)
        return tokenizer

    @torch.no_grad()
    def logits(self, input_ids: Tensor) -> Tensor:
        """Logits after every position.

        Args:
            input_ids: (B, S) or (S,) int64.

        Returns:
            (B, S, vocab_size) or (S, vocab_size), float32, on the model's device.

        Raises:
            ConfigError: they are no ids of this model.
        """
        self._require_ids(input_ids)
        return self.model.logits(input_ids.to(self.model.output_weight.device))

    def _require_ids(self, input_ids: Tensor) -> None:
        """Refuses what torch would say little of, and what would stop a GPU for good."""
        size = self.model.config.vocab_size
        expected = f"input_ids: expected an int64 tensor of ids from 0 to {size - 1}"
        if not isinstance(input_ids, Tensor) or input_ids.dtype not in ID_TYPES:
            found = getattr(input_ids, "dtype", type(input_ids).__name__)
            raise ConfigError(f"{expected}, found {found}")
        ends = [int(x) for x in input_ids.aminmax()] if input_ids.numel() else [0]
        if not all(0 <= x < size for x in ends):
            raise ConfigError(f"{expected}, found {ends[0]} to {ends[-1]}")

    def generate(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> list[str]:
        """What follows each prompt, as text; see `Sampling` for the settings."""
        sampling = Sampling(
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
        )
        require_utf8(prompts)
        encoded = self.tokenizer.encode_batch(list(prompts))
        opening = opening_ids(self.tokenizer)
        # A model completes nothing only after something.
        ids = [[*opening, *prompt] or [self.tokenizer.bos_id] for prompt in encoded]
        return [self.text(c.ids) for c in self.complete(ids, sampling)]

    def complete(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling
    ) -> list[Completion]:
        """Completes prompts of token ids until one of `stop_ids` ends them."""
        return generate(self.model, prompts, sampling, stop_ids=self.stop_ids)

    @cached_property
    def stop_ids(self) -> list[int]:
        """Ids that end a completion: the markers, and those that the folder names."""
        named = end_ids(self.folder, self.model.config)
        return sorted({*marker_ids(self.tokenizer), *named})

    def text(self, ids: Sequence[int]) -> str:
        """Text of ids; one that no token has is none.

        A model's vocabulary may be larger than its tokenizer's, for the sake of speed.
        """
        size = self.tokenizer.vocab_size
        return self.tokenizer.decode([number for number in ids if number < size])


def load_model(path: str | Path, device: DeviceName = "cpu") -> LanguageModel:
    """Loads the model that `path` means.

    Args:
        path: a folder with `config.json` and safetensors, or a run that holds one.
        device: `auto` is a GPU that torch finds, else the CPU; `cpu` or `cuda`.

    Raises:
        ConfigError: if there is no model, or not one of a supported family; or there is
            no GPU for `cuda`.
        IntegrityError: if a file is not as its manifest says.
    """
    folder = find_model(Path(path))
    loaded = load_transformer(folder, str(local_device(device)))
    return LanguageModel(loaded.eval(), folder)


def find_model(path: Path) -> Path:
    """The folder with `config.json` that `path` means: itself, or its latest result.

    Raises:
        ConfigError: if there is none, or several runs to choose from.
    """
    if (path / "config.json").is_file():
        return path
    for result in (path / name for name in RESULTS):
        if (result / "config.json").is_file() or any(_checkpoints(result)):
            return _latest(result)
    return _latest(path)


def _checkpoints(run: Path) -> list[Path]:
    found = run.glob("checkpoints/step-*/config.json")
    return sorted(x for x in found if x.parent.name.removeprefix("step-").isdecimal())


def _latest(run: Path) -> Path:
    if (run / "config.json").is_file():
        return run
    if checkpoints := _checkpoints(run):
        return checkpoints[-1].parent
    beside = "a file" if run.exists() else "no such folder"
    found = "a folder without one" if run.is_dir() else beside
    raise ConfigError(
        f"no model at `{run}`: expected a folder with `config.json`, a checkpoint "
        f"`step-…`, or a run that holds one; found {found}"
    )


def require_fit(tokenizer: Tokenizer, model: Transformer, folder: Path) -> None:
    """Refuses a tokenizer whose ids the model has no embedding for.

    Raises:
        ConfigError: naming both sizes.
    """
    if tokenizer.vocab_size > model.config.vocab_size:
        raise ConfigError(
            f"`{folder}`: expected a tokenizer of at most {model.config.vocab_size} "
            f"tokens, the model's vocab_size, found {tokenizer.vocab_size}"
        )


def require_utf8(texts: Sequence[str]) -> None:
    """Refuses what is no list of texts, and what Python makes of bytes that are no UTF-8.

    Raises:
        InputError: naming the first of the texts, from 1, and what it is or its bytes.
    """
    if isinstance(texts, str):  # whose letters would be the texts
        raise InputError(f"texts: expected a list of texts, found one, {texts!r:.60}")
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            found = type(text).__name__
            raise InputError(f"text {number}: expected text, found {found}")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"text {number}: expected UTF-8, found `{escaped(error)}` at character "
                f"{error.start + 1}"
            ) from None


def marker_ids(tokenizer: Tokenizer) -> list[int]:
    """Ids of the markers, which never belong to a text or a reply."""
    ids = (tokenizer.token_to_id(f"<|{name}|>") for name in MARKERS)
    return [id_ for id_ in ids if id_ is not None]


def opening_ids(tokenizer: Tokenizer) -> list[int]:
    """Ids before a prompt: BOS of triptych's tokenizers, else what the file's template has.

    Llama 3 has `<|begin_of_text|>` there, Qwen and SmolLM have nothing, and complete
    otherwise what they were not trained on.
    """
    if tokenizer.token_to_id("<|bos|>") is not None:
        return [tokenizer.bos_id]
    return _before_text(json.loads(tokenizer.to_str()).get("post_processor"))


def _before_text(processor: Any) -> list[int]:
    """Ids that a `post_processor` of a `tokenizer.json` puts before a single text."""
    match processor:
        case {"type": "Sequence", "processors": steps}:
            return [id_ for step in reversed(steps) for id_ in _before_text(step)]
        case {"type": "TemplateProcessing", "single": single, "special_tokens": ids}:
            before = takewhile(lambda piece: "SpecialToken" in piece, single)
            names = [piece["SpecialToken"]["id"] for piece in before]
            return [id_ for name in names for id_ in ids[name]["ids"]]
        case {"type": "BertProcessing" | "RobertaProcessing", "cls": [_, id_]}:
            return [id_]
    return []


def use_threads(threads: int | None) -> int:
    """Sets torch's CPU threads, and returns their number.

    By default all cores that it may use, or its part of them where `torchrun` started
    more. (Threads that wait for a core which has gone to another spin meanwhile: 16 on
    one core halve the speed, 64 take six parts of seven.)

    Raises:
        ConfigError: for a number below 1, or beyond any machine's cores.
    """
    beside = told_by_torchrun("LOCAL_WORLD_SIZE", 1)
    own_cores = max(1, _core.usable_cores() // beside)
    count = own_cores if threads is None else threads
    if not 1 <= count <= MAX_THREADS:
        raise ConfigError(
            f"threads: expected at least 1 and at most {MAX_THREADS}, found {count}"
        )
    torch.set_num_threads(count)
    return count
