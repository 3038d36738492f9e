"""Training a vocabulary beside tokenizers, rustbpe and gigatoken: processor seconds, interleaved.

    python benches/tokens/bench_train.py --input corpus.jsonl --vocab-size 32768

Each run is a process of its own on one thread with the pattern of GPT-2; the clock covers the
training call. gigatoken reads the file itself, the others are given the texts.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "prep"))
import measuring

# What every side does: sys.argv is side, corpus.jsonl, vocab_size.
PROGRAM = r"""
import json, os, resource, sys, time
side, corpus, vocab_size = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
texts = []
if side != "gigatoken":
    with open(corpus, encoding="utf-8", newline="\n") as lines:
        texts = [json.loads(line)["text"] for line in lines]
if side == "triptych":
    from triptych import _core
    train = lambda: _core.train_tokenizer(None, texts, vocab_size, pattern="gpt2")
elif side == "gigatoken":
    import gigatoken
    source = gigatoken.JsonlFileSource([corpus])
    train = lambda: gigatoken.train_bpe(source, vocab_size, ["<|endoftext|>"])
elif side == "rustbpe":
    import rustbpe
    gpt2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    peer = rustbpe.Tokenizer()
    train = lambda: peer.train_from_iterator(iter(texts), vocab_size - 1, pattern=gpt2)
else:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    settings = {"initial_alphabet": alphabet, "show_progress": False}
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, **settings)
    train = lambda: tokenizer.train_from_iterator(texts, trainer)
cpu = time.process_time()
train()
cpu = time.process_time() - cpu
print(json.dumps({"cpu": cpu, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""

SIDES = ["triptych", "gigatoken", "rustbpe", "tokenizers"]


def main() -> None:
    """Runs every side in turn and writes medians, megabytes a second and ratios."""
    options = measuring.parser(__doc__)
    options.add_argument("--vocab-size", type=int, default=32_768)
    options.add_argument("--sides", nargs="+", default=SIDES, choices=SIDES)
    options = options.parse_args()
    if options.input is None:
        sys.exit("--input: expected a .jsonl file with `text`")
    megabytes = measuring.text_bytes(options.input) / 1e6
    peaks: dict[str, float] = {}

    def run(side: str) -> float | None:
        arguments = [side, str(options.input), str(options.vocab_size)]
        python = sys.executable if side == "triptych" else options.peer_python
        found = measuring.peer(python, PROGRAM, arguments)
        if found is None:
            return None
        peaks[side] = max(found["peak"], peaks.get(side, 0.0))
        return found["cpu"]

    medians = measuring.interleaved(
        {side: lambda side=side: run(side) for side in options.sides}, options.rounds
    )
    report = {"text_megabytes": round(megabytes, 2), "vocab_size": options.vocab_size}
    for side, seconds in medians.items():
        report[f"{side}_cpu_seconds"] = round(seconds, 3)
        report[f"{side}_megabytes_per_cpu_second"] = round(megabytes / seconds, 1)
        report[f"{side}_peak_mebibytes"] = round(peaks[side])
        report[f"ratio_to_{side}"] = round(seconds / medians["triptych"], 2)
    measuring.report(report, options.json)


if __name__ == "__main__":
    main()
