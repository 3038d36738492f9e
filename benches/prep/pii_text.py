# ruff: noqa: E501 - programs and tables
"""Writes prose with five personal data in every 10 KB: the text on which PII is timed.

    python benches/prep/pii_text.py OUT.jsonl [--input FILE ...] [--megabytes 50]

Sentences of the bundled sample, less those that hold a digit, an `@` or a colon, in
documents of 0.5 to 20 KB; into these go, after every 2,000 bytes, made-up values of
all ten kinds in turn, each in a sentence. Same arguments, same bytes.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "python" / "triptych" / "sample"
BYTES_A_MATCH = 2_000
SMALLEST, LARGEST = 500, 20_000


def digits(rng: random.Random, count: int) -> str:
    """Random digits, the first not 0."""
    return str(rng.randrange(10 ** (count - 1), 10**count))


def card(rng: random.Random) -> str:
    """A number with Visa's prefix and Luhn's check digit, grouped or not."""
    body = "4" + digits(rng, 14)
    doubled = [int(d) * (2 - i % 2) for i, d in enumerate(body)]
    number = body + str(-sum(d // 10 + d % 10 for d in doubled) % 10)
    separator = rng.choice(["", " ", "-"])
    return separator.join(number[i : i + 4] for i in range(0, 16, 4))


def iban(rng: random.Random) -> str:
    """A German number with its two check digits."""
    body = digits(rng, 18)
    check = 98 - int(body + "131400") % 97
    number = f"DE{check:02d}{body}"
    return rng.choice(
        [number, " ".join(number[i : i + 4] for i in range(0, len(number), 4))]
    )


def secret(rng: random.Random) -> str:
    """What a token of GitHub looks like."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    return "ghp_" + "".join(rng.choice(letters) for _ in range(36))


def address(rng: random.Random) -> str:
    """An address of Ethereum, in lower case: it has no checksum then."""
    return "0x" + "".join(rng.choice("0123456789abcdef") for _ in range(40))


VALUES: list[tuple[str, Callable[[random.Random], str]]] = [
    ("email", lambda rng: f"ann.{digits(rng, 4)}@mail{digits(rng, 2)}.example.org"),
    ("phone", lambda rng: f"(212) {rng.randrange(200, 999)}-{digits(rng, 4)}"),
    ("ipv4", lambda rng: f"{rng.randrange(60, 223)}.{rng.randrange(256)}.7.{rng.randrange(1, 255)}"),
    ("email", lambda rng: f"info@firm{digits(rng, 3)}.co.uk"),
    ("card", card),
    ("phone", lambda rng: f"+44 20 7946 {digits(rng, 4)}"),
    ("iban", iban),
    ("ssn", lambda rng: f"{rng.randrange(100, 600)}-{rng.randrange(10, 99)}-{digits(rng, 4)}"),
    ("ipv6", lambda rng: f"2001:db8:{digits(rng, 4)}::{digits(rng, 3)}"),
    ("mac", lambda rng: ":".join(f"{rng.randrange(0xA0, 256):02x}" for _ in range(6))),
    ("secret", secret),
    ("crypto", address),
]  # fmt: skip
PHRASES = ["Ask at {}, please.", "It says {} there.", "She wrote down {} for him."]


def sentences(inputs: list[Path]) -> Iterator[str]:
    """Sentences of prose that hold nothing like personal data, over and over."""
    kept = []
    for path in inputs:
        kind = "zstd" if path.suffix == ".zst" else None
        for line in pa.input_stream(str(path), compression=kind).read().split(b"\n"):
            text = json.loads(line).get("text", "") if line else ""
            kept += [s for s in re.split(r"(?<=[.!?])\s", text) if is_prose(s)]
    while True:
        yield from kept


def is_prose(sentence: str) -> bool:
    """True for a sentence of letters and common marks."""
    return 20 < len(sentence) < 600 and not re.search(r"[0-9@:/_=<>]", sentence)


def documents(inputs: list[Path], size: int) -> Iterator[dict[str, object]]:
    """Documents of `size` bytes in all, with the number of values put into each."""
    rng, source = random.Random(3), sentences(inputs)
    written = since = index = 0
    while written < size:
        length = int(SMALLEST * (LARGEST / SMALLEST) ** rng.random())
        parts, count = [], 0
        while length > 0:
            sentence = next(source)
            if since > BYTES_A_MATCH:
                _, value = VALUES[index % len(VALUES)]
                sentence = rng.choice(PHRASES).format(value(rng))
                since, index, count = since - BYTES_A_MATCH, index + 1, count + 1
            parts.append(sentence)
            taken = len(sentence.encode()) + 1
            written, since, length = written + taken, since + taken, length - taken
        yield {"text": " ".join(parts), "values": count}


def write(target: Path, inputs: list[Path], megabytes: float) -> tuple[int, int]:
    """Writes the documents; returns the bytes of text and the number of values."""
    size = values = 0
    with target.open("w", encoding="utf-8") as out:
        for document in documents(inputs, int(megabytes * 1e6)):
            size += len(str(document["text"]).encode())
            values += int(str(document["values"]))
            out.write(json.dumps(document, ensure_ascii=False) + "\n")
    return size, values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("target", type=Path, metavar="OUT.jsonl")
    parser.add_argument("--input", type=Path, nargs="+", help=".jsonl or .jsonl.zst")
    parser.add_argument("--megabytes", type=float, default=50)
    options = parser.parse_args()
    inputs = options.input or sorted(SAMPLE.glob("*.zst"))
    size, values = write(options.target, inputs, options.megabytes)
    print(f"{size} bytes of text, {values} values: {values / size * 1e4:.2f} in 10 KB")


if __name__ == "__main__":
    main()
