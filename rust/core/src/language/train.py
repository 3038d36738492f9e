# ruff: noqa: E501 - tables of codes
"""Trains `model.bin`, the built-in language model, on the text that `gather.py` collected.

    OMP_NUM_THREADS=1 python train.py CORPUS model.bin [SCRIPT...]     # about ten minutes on one core

With scripts named, only their tables are trained and the others stay as `model.bin` has them.

A softmax over hashed n-grams of letters (1 to 4) and whole words, one table a script. What a
feature is must be the same here and in `built_in.rs`, which reads what this writes.
"""

import struct
import sys
from pathlib import Path

import numpy as np
import scipy.sparse as sp

# Scripts that more than one language of ours writes: name, first and last letters, bits of a table.
SCRIPTS = {
    "latin": (
        [(0x41, 0x5A), (0x61, 0x7A), (0xC0, 0x24F), (0x300, 0x36F), (0x1E00, 0x1EFF)],
        15,
    ),
    "cyrillic": ([(0x400, 0x52F)], 13),
    "arabic": (
        [
            (0x620, 0x65F),
            (0x66E, 0x6D3),
            (0x6D5, 0x6EF),
            (0x6FA, 0x6FF),
            (0x750, 0x77F),
        ],
        12,
    ),
    "devanagari": ([(0x900, 0x963), (0x970, 0x97F)], 12),
}
NOT_LETTERS = {0xD7, 0xF7}
CODES = {
    "latin": "af az ca cs cy da de en eo es et eu fi fr ga gl hr hu id is it la lt lv ms nb nl nn other pl pt ro "
             "sk sl sq sr sv sw tl tr uz vi",
    "cyrillic": "be bg kk mk mn other ru sr tt uk",
    "arabic": "ar fa other ur",
    "devanagari": "hi mr ne other sa",
}  # fmt: skip
# Odd multipliers of the characters of an n-gram, last first, and of the sum.
LAGS = np.array([0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F], dtype=np.uint32)
MIX = np.uint32(0x2C1B3C6D)
WORD = np.uint32(0x01000193)
WORD_SEED = np.uint32(0x811C9DC5)
MAX_REAL, MAX_WORDY, MAX_OTHER = 4_000, 2_000, 4_000  # samples a language
LETTERS_CAP = 250
EPOCHS = 3
MAGIC = b"TRILANG1"


def fold_table(ranges: list[tuple[int, int]]) -> np.ndarray:
    """Letter of the script -> its lower case; anything else -> 0, a boundary."""
    table = np.zeros(0x3000, dtype=np.uint32)
    for first, last in ranges:
        for code in range(first, last + 1):
            lower = chr(code).lower()
            table[code] = ord(lower) if len(lower) == 1 else code
    table[list(NOT_LETTERS)] = 0
    return table


def letters(text: str, fold: np.ndarray) -> np.ndarray:
    """Folded letters with one 0 before, between and after words."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    folded = np.where(codes < 0x3000, fold[np.minimum(codes, 0x2FFF)], 0)
    folded = np.concatenate(([0], folded, [0])).astype(np.uint32)
    return folded[(folded != 0) | np.concatenate(([True], folded[:-1] != 0))]


def features(stream: np.ndarray, bits: int) -> np.ndarray:
    """Buckets of the n-grams and words of a stream of letters. A boundary ends and begins n-grams."""
    shift = np.uint32(32 - bits)
    found = []
    total = np.zeros(len(stream), dtype=np.uint32)
    inside = np.ones(len(stream), dtype=bool)
    for lag in range(4):
        back = stream[: len(stream) - lag]
        total[lag:] += (back + np.uint32(1)) * LAGS[lag]
        inside[:lag] = False
        valid = inside.copy()
        if lag == 0:
            valid &= stream != 0
        found.append((total[valid] * MIX) >> shift)
        # A boundary may be the first or last of an n-gram, never in its middle.
        if lag > 0:
            inside[lag:] &= back != 0
    found.append(words(stream) * MIX >> shift)
    return np.concatenate(found)


def words(stream: np.ndarray) -> np.ndarray:
    """Hash of each word."""
    ends = np.flatnonzero(stream == 0)
    starts, lengths = ends[:-1] + 1, np.diff(ends) - 1
    hashes = np.full(len(starts), WORD_SEED, dtype=np.uint32)
    for i in range(int(lengths.max(initial=0))):
        live = lengths > i
        hashes[live] = (hashes[live] ^ stream[starts[live] + i]) * WORD
    return hashes[lengths > 0]


def script_of(text: str) -> str:
    """Script with the most letters; empty if none."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    counts = {
        n: sum(int(((codes >= a) & (codes <= b)).sum()) for a, b in r)
        for n, (r, _) in SCRIPTS.items()
    }
    best = max(counts, key=lambda name: counts[name])
    return (
        best
        if counts[best] * 2 > sum(c > 127 or chr(c).isalpha() for c in codes.tolist())
        else ""
    )


def cut(text: str, rng: np.random.Generator) -> str:
    """A stretch of 12 to 60 characters, at spaces."""
    length = int(rng.integers(12, 60))
    start = int(rng.integers(0, max(1, len(text) - length)))
    start = text.rfind(" ", 0, start + 1) + 1
    end = text.find(" ", start + length)
    return text[start : end if end > 0 else len(text)]


def wordy(lines: list[str], samples: int, rng: np.random.Generator) -> list[str]:
    """Bags of two to twelve words, drawn by count^0.7."""
    pairs = [line.rsplit(" ", 1) for line in lines]
    weights = np.array([float(count) for _, count in pairs]) ** 0.7
    drawn = rng.choice(len(pairs), size=samples * 7, p=weights / weights.sum())
    sizes, at, bags = rng.integers(2, 13, size=samples), 0, []
    for size in sizes:
        bags.append(" ".join(pairs[i][0] for i in drawn[at : at + size]))
        at += size
    return bags


def samples(
    corpus: Path, scripts: list[str], rng: np.random.Generator
) -> dict[str, dict[str, list[str]]]:
    """Texts by script and code."""
    real: dict[str, dict[str, list[str]]] = {name: {} for name in scripts}
    wanted = {code for script in scripts for code in CODES[script].split()}
    for path in sorted(corpus.glob("*/*.txt")):
        code = path.stem.split("_")[0]
        if code not in wanted:
            continue
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        if path.parent.name == "words":
            texts = wordy(lines, MAX_WORDY, rng)
        else:
            most = MAX_OTHER if code == "other" else MAX_REAL // 2
            keep = rng.permutation(len(lines))[:most]
            texts = [
                t for i in keep for t in (lines[i][:LETTERS_CAP], cut(lines[i], rng))
            ]
        for text in texts:
            script = script_of(text)
            if script in scripts and code in CODES[script].split():
                real[script].setdefault(code, []).append(text)
    return real


def matrix(texts: list[str], script: str) -> sp.csr_matrix:
    """Counts of features, each row divided by the root of its number of features."""
    ranges, bits = SCRIPTS[script]
    fold = fold_table(ranges)
    rows = [features(letters(text, fold), bits) for text in texts]
    lengths = np.array([len(row) for row in rows])
    data = np.repeat(1 / np.sqrt(np.maximum(lengths, 1)), lengths).astype(np.float32)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    return sp.csr_matrix(
        (data, np.concatenate(rows).astype(np.int32), offsets),
        shape=(len(rows), 1 << bits),
    )


def fit(
    x: sp.csr_matrix, y: np.ndarray, classes: int, epochs: int, rng: np.random.Generator
) -> np.ndarray:
    """Softmax regression by Adam, each class of the same weight, weights decayed."""
    weight = np.zeros((x.shape[1], classes), dtype=np.float32)
    first, second = np.zeros_like(weight), np.zeros_like(weight)
    class_mass = np.bincount(y, minlength=classes).astype(np.float64) ** -0.7
    mass = (class_mass / (class_mass[y].mean()))[y].astype(np.float32)
    step, size = 0, 2048
    batches = len(y) // size + 1
    for epoch in range(epochs):
        order, loss = rng.permutation(len(y)), 0.0
        for rows in np.array_split(order, batches):
            step += 1
            batch = x[rows]
            logits = batch @ weight
            logits -= logits.max(axis=1, keepdims=True)
            p = np.exp(logits)
            p /= p.sum(axis=1, keepdims=True)
            loss += float(-np.log(p[np.arange(len(rows)), y[rows]] + 1e-9).mean())
            p[np.arange(len(rows)), y[rows]] -= 1
            gradient = (batch.T @ (p * mass[rows, None])) / len(rows) + 2e-7 * weight
            first += 0.1 * (gradient - first)
            second += 0.01 * (gradient**2 - second)
            rate = 0.15 * (1 - step / (epochs * batches + 1))
            weight -= (
                rate
                * (first / (1 - 0.9**step))
                / (np.sqrt(second / (1 - 0.99**step)) + 1e-6)
            )
        print(f"  epoch {epoch}: loss {loss / batches:.4f}", flush=True)
    return weight


def quantise(weight: np.ndarray) -> tuple[np.ndarray, float]:
    """i8 weights and their unit; the largest thousandth is clipped."""
    centred = weight - weight.mean(axis=1, keepdims=True)
    unit = float(np.quantile(np.abs(centred), 0.9995)) / 127
    return np.clip(np.round(centred / unit), -127, 127).astype(np.int8), unit


def packed(script: str, codes: list[str], rows: np.ndarray, unit: float) -> bytes:
    """Bits, number of codes, length of their names, unit; names; rows of i8."""
    names = ",".join(codes).encode()
    return (
        struct.pack("<BBHf", SCRIPTS[script][1], len(codes), len(names), unit)
        + names
        + rows.tobytes()
    )


def unpacked(path: Path) -> dict[str, bytes]:
    """The tables of a model, as they are."""
    model, at, tables = path.read_bytes(), len(MAGIC), {}
    for script in SCRIPTS:
        bits, languages, names, _ = struct.unpack_from("<BBHf", model, at)
        end = at + 8 + names + (languages << bits)
        tables[script], at = model[at:end], end
    return tables


def main() -> None:
    """Trains the scripts that are named, or all."""
    corpus, out, scripts = (
        Path(sys.argv[1]),
        Path(sys.argv[2]),
        sys.argv[3:] or list(SCRIPTS),
    )
    tables = {} if len(scripts) == len(SCRIPTS) else unpacked(out)
    for script, by_code in samples(corpus, scripts, np.random.default_rng(20)).items():
        codes = sorted(by_code)
        texts = [text for code in codes for text in by_code[code]]
        y = np.repeat(np.arange(len(codes)), [len(by_code[code]) for code in codes])
        print(script, {code: len(by_code[code]) for code in codes}, flush=True)
        weight = fit(
            matrix(texts, script), y, len(codes), EPOCHS, np.random.default_rng(20)
        )
        tables[script] = packed(script, codes, *quantise(weight))
    out.write_bytes(MAGIC + b"".join(tables[script] for script in SCRIPTS))


if __name__ == "__main__":
    main()
