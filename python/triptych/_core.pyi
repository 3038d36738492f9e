"""The Rust engine. Every function releases the interpreter while it works."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt

__all__ = [
    "BatchCleaner",
    "Batches",
    "ConfigError",
    "InputError",
    "IntegrityError",
    "InternalError",
    "Interrupted",
    "Order",
    "ResourceError",
    "TextPreprocessor",
    "Tokenizer",
    "__version__",
    "add_narrow",
    "attention_backward",
    "attention_forward",
    "cpu_has_vectors",
    "decode_attention",
    "export_megatron",
    "import_tokens",
    "local_token_shards",
    "logit_slopes",
    "logit_statistics",
    "loss_and_slopes",
    "main",
    "measure_fertility",
    "multiply_few",
    "provoke_panic",
    "rms_norm",
    "rms_norm_slopes",
    "run_prep",
    "swiglu",
    "swiglu_slopes",
    "tokenize_documents",
    "train_tokenizer",
    "turn",
    "usable_cores",
    "verify_token_shards",
    "write_token_shards",
]

__version__: str

# Of every exception: the file, the line in it (from 1), the offset in bytes (of what it
# decompresses to) and what to do next; None where that is not known.

class InputError(ValueError):
    """Data that cannot be read as what it should be."""

    file: str | None
    line: int | None
    byte: int | None
    hint: str | None

class ConfigError(ValueError):
    """A setting, argument or path that is wrong before any work is done."""

    file: str | None
    line: int | None
    byte: int | None
    hint: str | None

class IntegrityError(ValueError):
    """A file that is not as its manifest says."""

    file: str | None
    line: int | None
    byte: int | None
    hint: str | None

class ResourceError(OSError):
    """Memory, disk or a limit of the run is exhausted."""

    file: str | None
    line: int | None
    byte: int | None
    hint: str | None

class Interrupted(Exception):
    """The run stopped when asked; the same command continues it."""

    file: str | None
    line: int | None
    byte: int | None
    hint: str | None

class InternalError(Exception):
    """A fault of triptych itself; the message says what to report."""

    file: str | None
    line: int | None
    byte: int | None
    hint: str | None

def main(args: list[str]) -> int:
    """Runs the preparation command line `args` (program name first).

    Returns:
        The exit status: 0 good, 1 failed, 2 usage, 3 too many bad records,
        4 integrity, 5 resources, 75 interrupted, 130 Ctrl-C.
    """

def usable_cores() -> int:
    """Cores that this process may use, by its affinity and a container's quota."""

def provoke_panic(message: str) -> None:
    """Panics in the engine, so that a test sees what becomes of it: an `InternalError`."""

# Preparation.

@final
class TextPreprocessor:
    """PII scrubbing, quality and n-gram deduplication: the `seed` profile.

    Semantics are those of Python 3.11's `re` and `str` on any Unicode text. Every
    method raises `ValueError` for a lone surrogate, naming the text that holds it.

    Args:
        min_length: fewest words that pass the quality check.
        max_length: most words that pass it, at least `min_length`.

    Raises:
        ConfigError: the bounds exclude everything.
    """

    def __new__(
        cls, min_length: int = 128, max_length: int = 4096
    ) -> TextPreprocessor: ...
    def __getnewargs__(self) -> tuple[int, int]: ...
    def remove_pii(self, text: str) -> str:
        """The text with `[EMAIL]`, `[PHONE]`, `[SSN]` and `[IP]` in place of personal data.

        Four substitutions in this order, each over the result of the one before.
        """

    def check_quality(self, text: str) -> bool:
        """Whether the text passes; each bound passes.

        Words (`text.split()`) within the bounds; mean word length in [3, 10] code
        points; at most 0.3 of the code points neither alphanumeric nor white space;
        at least 0.2 of the words distinct. A text without words fails.
        """

    def deduplicate_by_ngram(self, texts: Sequence[str], n: int = 13) -> list[str]:
        """The texts that share none of their first five n-grams with an earlier one.

        N-grams start at the words 0, n, 2n, ... strictly below `len(words) - n`.
        Texts of fewer than n words are dropped; one of exactly n is always kept.

        Raises:
            ValueError: n is below 1.
        """

    def process(self, texts: Sequence[str]) -> list[str]:
        """Scrubs, checks and deduplicates, in this order; returns what is kept."""

@final
class BatchCleaner:
    """An iterator over what is left of Arrow batches; `triptych.prep.clean` is its door.

    Args:
        batches: an object with `__arrow_c_stream__`, or an iterable of such objects.
        config_json: a JSON object of the keys of `triptych.prep.CleanConfig`.
        rule: gives an array of strings, a reason or null for each row of a batch.
        features: measured of every text that passes, as further columns for `rule`.
    """

    def __new__(
        cls,
        batches: Any,
        config_json: str,
        rule: Callable[[Any], Any] | None,
        features: Sequence[str],
    ) -> BatchCleaner: ...
    @property
    def schema(self) -> Any:
        """The `pyarrow.Schema` of the batches.

        Raises:
            InputError: there was no batch to tell it.
        """

    @property
    def ledger_json(self) -> str:
        """The counts of all batches given so far, as JSON."""

    def __arrow_c_stream__(self, requested_schema: Any | None = None) -> Any:
        """The rest of the batches as a capsule with an Arrow C stream."""

    def __iter__(self) -> BatchCleaner: ...
    def __next__(self) -> Any:
        """The next `pyarrow.RecordBatch` that is not empty.

        Raises:
            InputError: `batches` failed, or the stream was begun before a fork.
            InternalError: the engine failed.
        """

def run_prep(config_json: str, rule: Callable[[Any], Any] | None = None) -> str:
    """Runs preparation on files; `triptych.prep.run` is its door.

    Args:
        config_json: a JSON object of the keys of `triptych.prep.PrepConfig`, and
            `python_rule`, the names of what `rule` asks.
        rule: as for `BatchCleaner`.

    Returns:
        The summary as JSON: `output`, `already_done`, `documents`, `bad_fraction`,
        `warning` and `ledger`.
    """

# Tokens: tokenizer, token shards, order.

@final
class Tokenizer:
    """A BPE tokenizer; ids equal those of the `tokenizers` library.

    Any `tokenizer.json` of byte-level BPE, or of BPE over characters with byte
    fallback, can be loaded. Tokenizers trained here have the special tokens
    `<|pad|>`, `<|bos|>`, `<|eos|>`, `<|system|>`, `<|user|>`, `<|assistant|>` and
    `<|end|>`, with the ids 0 to 6; of others, the tokens of the same roles are
    found by their usual names.
    """

    @staticmethod
    def from_file(path: str | PathLike[str]) -> Tokenizer:
        """Loads a `tokenizer.json`.

        Raises:
            ConfigError: there is no such file.
            InputError: it is malformed, not BPE, or asks for what is not supported.
        """

    @staticmethod
    def from_str(json: str) -> Tokenizer:
        """Loads the content of a `tokenizer.json`."""

    def save(self, path: str | PathLike[str]) -> None:
        """Writes the `tokenizer.json`, byte for byte as loaded or trained."""

    def to_str(self) -> str:
        """The content of the `tokenizer.json`."""

    def encode(self, text: str, allow_special: bool = False) -> list[int]:
        """Ids of `text`, without BOS or EOS; `decode` is the inverse.

        Args:
            text: any string without lone surrogates.
            allow_special: read strings like `<|end|>` in `text` as control ids.
                By default they are ordinary text.
        """

    def encode_batch(
        self, texts: Sequence[str], allow_special: bool = False
    ) -> list[list[int]]:
        """Ids of each text, computed on all threads."""

    def encode_arrays(
        self, texts: Sequence[str], allow_special: bool = False
    ) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint64]]:
        """The same without a Python object an id.

        Returns:
            The ids of all texts, and where the ids of each text end among them.
        """

    def decode(self, ids: Sequence[int], skip_special: bool = False) -> str:
        """Text of `ids`; bytes that are not UTF-8 become U+FFFD.

        Args:
            ids: token ids.
            skip_special: leave out control ids instead of spelling them.

        Raises:
            ConfigError: an id is outside the vocabulary.
        """

    def token_to_id(self, token: str) -> int | None:
        """Id of a token as it is spelt in the vocabulary (a space is `Ġ`)."""

    def id_to_token(self, id: int) -> str | None:
        """Spelling of an id in the vocabulary."""

    @property
    def vocab_size(self) -> int:
        """The largest id plus one."""

    @property
    def sha256(self) -> str:
        """SHA-256 of the `tokenizer.json`, in hexadecimal."""

    @property
    def bos_id(self) -> int:
        """Id of `<|bos|>`, which opens a document; `ConfigError` if there is none."""

    @property
    def eos_id(self) -> int:
        """Id of `<|eos|>`, which closes a document; `ConfigError` if there is none."""

    @property
    def pad_id(self) -> int:
        """Id of `<|pad|>`; `ConfigError` if there is none."""

    @property
    def end_id(self) -> int:
        """Id of `<|end|>`, which closes a turn; `ConfigError` if there is none."""

def train_tokenizer(
    paths: Sequence[str | PathLike[str]] | None,
    texts: Sequence[str] | None,
    vocab_size: int,
    special_tokens: Sequence[str] | None = None,
    pattern: str | None = None,
    weights: Mapping[str, float] | None = None,
) -> Tokenizer:
    """Trains a byte-level BPE on documents; the same input gives the same bytes.

    Neither the order of the documents nor the number of threads matters.

    Args:
        paths: folders of prepared documents, `.jsonl` (`.gz`, `.zst`) or `.txt` files.
        texts: documents given directly; they are added to those of `paths`.
        vocab_size: entries in all, at least 263 (7 special tokens, 256 bytes).
            The result is smaller if the text has too few repeated pairs.
        special_tokens: more special tokens, of the form `<|name|>`; they come after
            the seven that are always there.
        pattern: how text is split: `triptych` (the default), `gpt2`,
            `llama3`, `qwen2`, `qwen3.5`, `cl100k`, `nanochat`, `o200k`, `tekken`, or a regular
            expression.
        weights: what a word of a source counts, 0.001 to 1000; 1 for other sources.

    Raises:
        ConfigError: `vocab_size`, `pattern` or a weight out of range, or a path that
            does not exist.
        InputError: no text, or a line that is not a document.
    """

def tokenize_documents(
    inputs: Sequence[str | PathLike[str]],
    tokenizer: Tokenizer,
    output: str | PathLike[str],
) -> str:
    """Writes documents as a folder of token shards, each as BOS, its ids, EOS.

    Args:
        inputs: folders of prepared documents, `.jsonl` (`.gz`, `.zst`) or `.txt` files,
            in any order.
        tokenizer: gives the ids.
        output: the folder to write; it appears when it is complete.

    Returns:
        The manifest as JSON.

    Raises:
        InputError: there are no documents.
    """

def write_token_shards(
    documents: Sequence[tuple[str, str, Sequence[int], Sequence[int] | None]],
    tokenizer: Tokenizer,
    output: str | PathLike[str],
    documents_per_unit: int,
) -> str:
    """Writes documents that are ids already (conversations, pairs) as token shards.

    Args:
        documents: (id, source, ids, mask) each. The mask has one entry an id, 1 where
            the id is supervised as a label; None supervises all.
        tokenizer: made the ids; its hash goes into the manifest.
        output: the folder to write.
        documents_per_unit: 1, or 2 for pairs, chosen then rejected.

    Returns:
        The manifest as JSON.

    Raises:
        ConfigError: an empty document, an id outside the vocabulary, a mask of another
            length, or an odd number of documents in pairs.
    """

def verify_token_shards(folder: str | PathLike[str]) -> str:
    """Checks every hash and every id of a folder of token shards.

    Returns:
        The manifest as JSON.

    Raises:
        IntegrityError: a file is not as the manifest says.
    """

def import_tokens(
    input: Sequence[str | PathLike[str]],
    format: str,
    tokenizer: Tokenizer,
    output: str | PathLike[str],
    dtype: str | None = None,
    eos_id: int | None = None,
    bos_id: int | None = None,
    source: str | None = None,
) -> str:
    """Imports token files of other tools: see `triptych.tokens.import_tokens`.

    Returns:
        Manifest and ledger as JSON.
    """

def local_token_shards(
    address: str | PathLike[str], cache: str | PathLike[str] | None = None
) -> Path:
    """The folder on this machine: see `triptych.tokens.local_shards`."""

def measure_fertility(
    tokenizer: Tokenizer,
    paths: Sequence[str | PathLike[str]],
    texts: Sequence[str],
    identify_language: bool = False,
) -> str:
    """Bytes a token and tokens a word: see `triptych.tokens.measure_fertility`.

    Returns:
        The counts as JSON.
    """

def export_megatron(
    input: str | PathLike[str],
    output: str | PathLike[str],
    drop_mask: bool = False,
) -> str:
    """Exports token shards as `output`.bin and .idx: see `triptych.tokens.export_tokens`.

    Returns:
        What was written, as JSON.
    """

@final
class Batches:
    """Batches read ahead by a thread: (step, first_row, num_rows, arrays) each.

    `arrays` is what `Order.batch` returns. Only in the process that asked for them.
    """

    def __iter__(self) -> Batches: ...
    def __next__(self) -> tuple[int, int, int, dict[str, Any]]: ...

@final
class Order:
    """The rows of every step, as a pure function of seed, stage table and step.

    Each source is packed into rows of the stage's `seq_len`. A stage takes rows from its
    sources so that after any number of rows each source is within one row of its
    weight; a source deals all its rows once an epoch, in an order of its own each
    time, and goes on from stage to stage while `seq_len` stays the same.

    Args:
        sources: (name, folder of token shards) each, all of one tokenizer.
        stages: tables with the keys `name`, `steps`, `rows_per_step`, `seq_len` and
            `weights` (source name to a number above 0; only proportions count), and if
            wanted `ramp_steps` (first steps, in which the weights move in a straight
            line from those of the stage before; 0), `packing` (`best-fit`, the
            default, `concat` or `bos-aligned`) and `goes_on` (whether the mixture goes
            on where the stage before leaves it, as if both were one).
        seed: chooses the permutations.
        skip: (first, end) windows of data steps to leave out. What comes behind a
            window moves up; the number of steps stays.
        max_epochs: most passes over a source, by its name.

    Raises:
        ConfigError: a faulty stage table, sources of different tokenizers, or a source
            that would be read more often than it may.
        InputError: a source that has no row.
        IntegrityError: damaged shards.
    """

    def __new__(
        cls,
        sources: Sequence[tuple[str, str | PathLike[str]]],
        stages: Sequence[Mapping[str, Any]],
        seed: int,
        skip: Sequence[tuple[int, int]] | None = None,
        max_epochs: Mapping[str, float] | None = None,
    ) -> Order: ...
    def __getnewargs__(self) -> tuple[Any, ...]: ...
    @staticmethod
    def roll(previous: int, ids_hash: int) -> int:
        """The rolling hash after a step: XXH3-64 of the one before and `ids_hash`."""

    @property
    def num_steps(self) -> int:
        """Steps of all stages."""

    def stage(self, step: int) -> int:
        """Index in the stage table of the stage that `step` belongs to."""

    def data_step(self, step: int) -> int:
        """The data step that `step` reads: itself, moved up by windows skipped."""

    def rows(self, step: int) -> list[list[tuple[int, int, int, int]]]:
        """The rows of a step: segments (source, document, start, length) each."""

    def batch(
        self,
        step: int,
        first_row: int = 0,
        num_rows: int | None = None,
        memory: Callable[[int], Sequence[npt.NDArray[Any]]] | None = None,
    ) -> dict[str, Any]:
        """Rows of a step as flat arrays, without padding.

        Args:
            step: the step.
            first_row: first row within the step.
            num_rows: number of rows; None takes all that follow.
            memory: of a number of tokens gives the four arrays with one entry a token,
                in the order below, to be written to; None makes new ones.

        Returns:
            `input_ids`, `labels` (the next id of the document, -100 where there is
            none or it is not supervised), `position_ids` (int64, (tokens,));
            `weights` (float32, (tokens,)); `cu_seqlens` (int32, (segments + 1,));
            `documents` (int64, (segments,)); `sources` (int32, (segments,)), each an
            array of numpy; `ids_hash`, an int: the sum, modulo 2^64, over rows of the XXH3-64
            of the row's segments, each as its length and its ids in little-endian
            u32, seeded with the row's number in the step.

        Raises:
            ConfigError: step or rows out of range, or memory that does not fit.
            IntegrityError: damaged shards.
        """

    def prefetch(
        self,
        first_step: int,
        batch_rows: int,
        depth: int,
        memory: Callable[[int], Sequence[npt.NDArray[Any]]] | None = None,
        share: tuple[int, int] | None = None,
    ) -> Batches:
        """The batches of the steps from `first_step` on, read ahead by a thread.

        Args:
            first_step: the first step.
            batch_rows: rows of a batch; the last of a step may have fewer.
            depth: batches that wait at a time, 1 to 65,536.
            memory: as for `batch`.
            share: number, from 0, of the run of a step's rows that is read, and how
                many such runs, all as long, a step's rows are divided into; None for all.

        Raises:
            ConfigError: a number out of its range, or rows that cannot be so divided.
        """

    def step_hash(self, step: int) -> str:
        """XXH3-128 of the content of all sources and the segments of the step."""

    def report(self) -> str:
        """The plan as JSON, exact to the token.

        `sources`: documents, tokens, and for each `seq_len` rows, fill_fraction, cuts,
        dropped units, planned rows, tokens and epochs. `stages`: the same by source.
        """

    def document_id(self, source: int, document: int) -> str:
        """Id of a document, from the numbers that `rows` and `batch` give."""

# Kernels for processors. Arrays are flat and contiguous, of float32, or of uint16 as the bits
# of bf16; all of one call have one type unless said. What is written must not overlap what
# is read. Where a processor has no vectors they go one number at a time.

def cpu_has_vectors() -> bool:
    """Whether this processor has vectors: AVX2, AVX-512 or NEON.

    `ATEN_CPU_CAPABILITY`, by which torch is kept to less than there is (`avx2`, or
    `default` for none), counts here too.
    """

def attention_forward(
    inputs: Sequence[npt.NDArray[Any]],
    mixed: npt.NDArray[Any],
    log_sums: npt.NDArray[np.float32],
    rules: Mapping[str, Any],
) -> None:
    """Softmax attention within each document (Dao 2023).

    Args:
        inputs: q (tokens, heads, head_dim), k and v (tokens, kv_heads, head_dim).
        mixed: written, shaped as q.
        log_sums: written, (heads, tokens): logarithms to base 2 of the sums of a query.
        rules: `bf16`, `boundaries` of documents in tokens, `heads`, `kv_heads`,
            `head_dim` (a multiple of 16 up to 256), `causal`, `window` or None, `scale`,
            `softcap` or None, `sinks`, `pairs`, `dropout` in [0, 1) with its `seed`
            below 2^64, `num_threads`.

    Raises:
        ConfigError: shapes and rules do not fit.
    """

def attention_backward(
    inputs: Sequence[npt.NDArray[Any]],
    given: Sequence[npt.NDArray[Any]],
    log_sums: npt.NDArray[np.float32],
    gradients: Sequence[npt.NDArray[Any]],
    totals: npt.NDArray[np.float32],
    rules: Mapping[str, Any],
) -> None:
    """Its gradients.

    Args:
        inputs: as of the forward pass.
        given: its `mixed`, and the gradient of a loss with respect to that.
        log_sums: as the forward pass wrote them.
        gradients: written, shaped as the inputs.
        totals: written, (heads, tokens): weights times their gradients, summed over the
            keys of a query; (0,) where nobody asks.
        rules: as of the forward pass.

    Raises:
        ConfigError: shapes and rules do not fit.
    """

def decode_attention(
    inputs: Sequence[npt.NDArray[Any]],
    mixed: npt.NDArray[Any],
    rules: Mapping[str, Any],
) -> None:
    """Attention of the newest token of each sequence over its stored keys and values.

    Args:
        inputs: queries (sequences, heads, head_dim); keys and values, from the first
            number on to the last that counts.
        mixed: written, shaped as the queries.
        rules: `lengths` of the sequences, at least 1; `heads`, `kv_heads`, `head_dim`, a
            multiple of 32; `window`, `scale`, `softcap`, `sinks`; `strides` of keys and
            of values, each of a sequence, a slot and a head; `num_threads`.

    Raises:
        ConfigError: what the rules name is not there.
    """

def loss_and_slopes(
    logits: npt.NDArray[Any],
    targets: npt.NDArray[np.int64],
    weights: npt.NDArray[np.float32],
    costs: tuple[float, float],
    shape: tuple[int, float | None, float],
    num_threads: int,
) -> float:
    """Weighted sum of the cross-entropy of logits (rows, width), which become its gradient.

    Args:
        logits: overwritten, but for what stands behind the `vocab_size` of a row.
        targets: (rows,) ids below `vocab_size`.
        weights: (rows,).
        costs: z-loss and label smoothing, as in `ops.linear_cross_entropy`.
        shape: `vocab_size`, 1 to width; soft-cap and temperature, of numbers that are
            not shaped yet.
        num_threads: at most so many.

    Raises:
        ConfigError: lengths do not fit, or a target is outside.
    """

def logit_statistics(
    logits: npt.NDArray[Any],
    targets: npt.NDArray[np.int64],
    shape: tuple[int, float | None, float],
    found: Sequence[npt.NDArray[np.float32]],
    num_threads: int,
) -> None:
    """What losses on logits (rows, width) are made of.

    Args:
        logits: read.
        targets: (rows,) ids below `vocab_size`.
        shape: as of `loss_and_slopes`.
        found: written, (rows,) each: log-probability of the target, log-sum-exp, mean
            and entropy in nats; (0,) of entropy that nobody asks for.
        num_threads: at most so many.

    Raises:
        ConfigError: as of `loss_and_slopes`.
    """

def logit_slopes(
    logits: npt.NDArray[Any],
    targets: npt.NDArray[np.int64],
    shape: tuple[int, float | None, float],
    entropies: npt.NDArray[np.float32],
    upstream: Sequence[npt.NDArray[np.float32]],
    num_threads: int,
) -> None:
    """Turns logits into the gradient of a loss that is made of their statistics.

    Args:
        logits: as `logit_statistics` read them; overwritten.
        targets: as there.
        shape: as there.
        entropies: as it wrote them; (0,) where nobody asked.
        upstream: what the loss changes by for each unit of its four.
        num_threads: at most so many.

    Raises:
        ConfigError: as of `loss_and_slopes`.
    """

def multiply_few(
    x: npt.NDArray[Any],
    weight: npt.NDArray[Any],
    product: npt.NDArray[Any],
    num_rows: int,
    num_threads: int,
) -> None:
    """Product of x (rows, width) with the transpose of weight (outputs, width).

    Args:
        x: of 1 to 8 rows, of a width that is a multiple of 32.
        weight: read once, from the first row to the last.
        product: written, (rows, outputs).
        num_rows: of x.
        num_threads: at most so many.

    Raises:
        ConfigError: lengths do not fit.
    """

def swiglu(
    inputs: Sequence[npt.NDArray[Any]], gated: npt.NDArray[Any], num_threads: int
) -> None:
    """Writes silu(gate) * up of inputs gate and up, whose lengths are multiples of 16."""

def add_narrow(
    sums: npt.NDArray[np.float32], numbers: npt.NDArray[np.uint16], num_threads: int
) -> None:
    """Adds numbers of bf16 to sums; lengths are equal, and multiples of 16."""

def swiglu_slopes(
    inputs: Sequence[npt.NDArray[Any]],
    slopes: Sequence[npt.NDArray[Any]],
    num_threads: int,
) -> None:
    """Writes the slopes of gate and up, of inputs gate, up and the result's gradient."""

def turn(
    x: npt.NDArray[Any],
    turned: npt.NDArray[Any],
    angles: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], int, float],
    num_threads: int,
) -> None:
    """Writes x (tokens, heads, head_dim), dimensions i and i + half turned as a pair.

    Args:
        x: read.
        turned: written, shaped as x.
        angles: cosines and sines (tokens, half), half (a multiple of 16), and 1, or -1
            to turn back.
        num_threads: at most so many.

    Raises:
        ConfigError: lengths do not fit.
    """

def rms_norm(
    x: npt.NDArray[Any],
    weight: tuple[npt.NDArray[np.float32], float],
    eps: float,
    outputs: tuple[npt.NDArray[np.uint16], npt.NDArray[np.float32]],
    num_threads: int,
) -> None:
    """Writes x / rms(x) * (weight + plus) in bf16 (Zhang & Sennrich 2019, eq. 4).

    Args:
        x: (rows, columns) of either type; columns are a multiple of 16.
        weight: (columns,), and what is added to it.
        eps: added to the mean square.
        outputs: written: the norm, and what each row was multiplied by, (rows,).
        num_threads: at most so many.
    """

def rms_norm_slopes(
    x: npt.NDArray[Any],
    weight: tuple[npt.NDArray[np.float32], float],
    given: tuple[npt.NDArray[np.float32], npt.NDArray[np.uint16]],
    slopes: tuple[npt.NDArray[Any], npt.NDArray[np.float32]],
    num_threads: int,
) -> None:
    """Writes the slopes of x, in its type, and of weight.

    Args:
        x: as of the forward pass.
        weight: as of the forward pass.
        given: the factors that it wrote, and the gradient of its norm.
        slopes: written.
        num_threads: at most so many.
    """
