"""What more threads gain, and what the machine would let them gain.

    python benches/prep/bench_threads.py [--input FILE.jsonl] [--threads 2]

Whole processes over one JSONL file, read and written uncompressed, by the clock. Beside
a run on so many threads stand as many processes of one thread each, all at once, each
with all of the text: they wait for nothing of each other, so no program gains more than
they do on processors that share their caches, memory and disk.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bench_native
import measuring

# By name: the profile, what else the configuration says, and how many times over the text
# is read, so that a run of one thread takes seconds, to start and to end 50 ms, and n-grams of
# `seed` leave memory, which they do every 150 MB of text.
CHAINS = {
    "seed": ("seed", "", 40),
    "parity": ("gopher-repetition,gopher,c4,fineweb,datatrove-pii", "", 2),
    "native": (bench_native.PROFILE, bench_native.CONFIGS["all"], 2),
}
TEN_WORDS = re.compile(r"(?:\S+\s+){10}")


def main() -> None:
    """Runs every side in turn and writes megabytes of text a second and gains."""
    options = measuring.parser(__doc__)
    options.add_argument("--threads", type=int, default=2)
    options = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = folder / "corpus.jsonl"
        bench_native.write_corpus(options.input, corpus)
        program, threads = measuring.engine(options), options.threads
        sizes = {chain: write_editions(corpus, chain) for chain in CHAINS}
        sides = {
            (chain, side): megabytes_a_second(sizes[chain] * copies, run)
            for chain in CHAINS
            for side, copies, run in three_ways(program, folder, chain, threads)
        }
        figures = measuring.interleaved(sides, options.rounds)
    report = {
        chain: {"text_megabytes": round(sizes[chain] / 1e6, 1), **gains(figures, chain)}
        for chain in CHAINS
    }
    measuring.report({"threads": threads, **report}, options.json)


def write_editions(corpus: Path, chain: str) -> int:
    """The texts of a chain, as `CHAIN.jsonl`: no two alike, or n-grams find them; their bytes.

    After every ten words stands a number that no other text has.
    """
    _, _, editions = CHAINS[chain]
    lines, size = corpus.read_bytes().splitlines() * editions, 0
    with corpus.with_name(f"{chain}.jsonl").open("w", encoding="utf-8") as out:
        for number, line in enumerate(lines):
            record = json.loads(line)
            record["text"] = TEN_WORDS.sub(rf"\g<0>{number} ", record["text"])
            size += len(record["text"].encode())
            out.write(json.dumps(record, ensure_ascii=False) + "\n")
    return size


def three_ways(
    program: str, folder: Path, chain: str, threads: int
) -> list[tuple[str, int, Callable[[], float]]]:
    """The three sides: name, how many times the text goes through, and what runs."""
    profile, settings, _ = CHAINS[chain]
    corpus, config = folder / f"{chain}.jsonl", folder / f"{chain}.toml"
    config.write_text(settings, encoding="utf-8")

    def run(threads: int, output: str = "out") -> float:
        arguments = ["--profile", profile, "--config", str(config)]
        arguments += ["--threads", str(threads)]
        start = time.perf_counter()
        measuring.prepared(program, corpus, folder / output, arguments)
        seconds = time.perf_counter() - start
        # At once: what is not on the disk yet need not go there while the next one runs.
        shutil.rmtree(folder / output)
        return seconds

    def apart() -> float:
        with ThreadPoolExecutor(threads) as pool:
            outputs = [f"out-{n}" for n in range(threads)]
            return max(pool.map(run, [1] * threads, outputs))

    return [
        ("one", 1, lambda: run(1)),
        ("together", 1, lambda: run(threads)),
        ("apart", threads, apart),
    ]


def megabytes_a_second(size: int, run: Callable[[], float]) -> Callable[[], float]:
    """A side that runs, and says how fast `size` bytes went through."""
    return lambda: size / 1e6 / run()


def gains(figures: dict[tuple[str, str], float], chain: str) -> dict[str, float]:
    """Of one chain: its speed on one thread, and what the two others gain over it."""
    one, together, apart = (
        figures[chain, side] for side in ("one", "together", "apart")
    )
    return {
        "megabytes_per_second": round(one, 1),
        "gain_of_threads": round(together / one, 2),
        "gain_of_processes": round(apart / one, 2),
    }


if __name__ == "__main__":
    main()
