"""What more threads gain, and what the machine would let them gain.

    python benches/prep/bench_threads.py [--input FILE.jsonl] [--threads 2]

Whole processes over one JSONL file, read and written uncompressed, by the clock. Beside
a run on so many threads stand as many processes of one thread each, all at once, each
with all of the text: they wait for nothing of each other, so no program gains more than
they do on processors that share their caches, memory and disk.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bench_native
import measuring

# By name: the profile, and what else the configuration says.
CHAINS = {
    "seed": ("seed", ""),
    "parity": ("gopher-repetition,gopher,c4,fineweb,datatrove-pii", ""),
    "native": (bench_native.PROFILE, bench_native.CONFIGS["all"]),
}


def main() -> None:
    """Runs every side in turn and writes megabytes of text a second and gains."""
    options = measuring.parser(__doc__)
    options.add_argument("--threads", type=int, default=2)
    options = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = folder / "corpus.jsonl"
        size = bench_native.write_corpus(options.input, corpus)
        program, threads = measuring.engine(options), options.threads
        sides = {
            (chain, side): megabytes_a_second(size * copies, run)
            for chain in CHAINS
            for side, copies, run in three_ways(program, corpus, chain, threads)
        }
        figures = measuring.interleaved(sides, options.rounds)
    report = {chain: gains(figures, chain) for chain in CHAINS}
    result = {"threads": threads, "text_megabytes": round(size / 1e6, 1), **report}
    measuring.report(result, options.json)


def three_ways(
    program: str, corpus: Path, chain: str, threads: int
) -> list[tuple[str, int, Callable[[], object]]]:
    """The three sides: name, how many times the text goes through, and what runs."""
    profile, settings = CHAINS[chain]
    config = corpus.with_name(f"{chain}.toml")
    config.write_text(settings, encoding="utf-8")

    def run(threads: int, output: str = "out") -> float:
        arguments = ["--profile", profile, "--config", str(config)]
        arguments += ["--threads", str(threads)]
        return measuring.prepared(program, corpus, corpus.with_name(output), arguments)

    def apart() -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(run, [1] * threads, [f"out-{n}" for n in range(threads)]))

    return [
        ("one", 1, lambda: run(1)),
        ("together", 1, lambda: run(threads)),
        ("apart", threads, apart),
    ]


def megabytes_a_second(size: int, run: Callable[[], object]) -> Callable[[], float]:
    """A side that runs, and says how fast `size` bytes went through."""

    def timed() -> float:
        start = time.perf_counter()
        run()
        return size / 1e6 / (time.perf_counter() - start)

    return timed


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
