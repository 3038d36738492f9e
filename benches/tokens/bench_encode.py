"""Encoding beside tokenizers, tiktoken, kitoken and gigatoken: processor seconds, interleaved.

    python benches/tokens/bench_encode.py --input corpus.jsonl --tokenizer tokenizer.json

Each run is a process of its own, so every cache begins cold; the clock covers the encode call
alone, after one call on 64 documents. Ids must be those of `tokenizers` on a head of the corpus.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "prep"))
import measuring

# What every side does: sys.argv is side, tokenizer.json, corpus.jsonl, threads.
PROGRAM = r"""
import hashlib, json, os, sys, time
side, path, corpus, threads = sys.argv[1:]
os.environ["RAYON_NUM_THREADS"] = threads
# A thread of numpy's own, which nothing here asks for, spins through the first 26 ms.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "true" if threads != "1" else "false"
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(threads)])
with open(corpus, encoding="utf-8", newline="\n") as lines:
    texts = [json.loads(line)["text"] for line in lines]
import numpy as np
def flat(lists):
    return np.concatenate([np.asarray(ids, dtype=np.uint32) for ids in lists])
finish = flat
if side == "triptych":
    from triptych import Tokenizer
    encode = Tokenizer.from_file(path).encode_arrays
    finish = lambda arrays: np.frombuffer(arrays[0], dtype=np.uint32)
elif side == "gigatoken":
    import awkward, gigatoken
    encode = gigatoken.Tokenizer(path).encode_batch
    finish = lambda array: np.asarray(awkward.flatten(array), dtype=np.uint32)
elif side == "kitoken":
    import kitoken
    encode = kitoken.Kitoken.from_tokenizers_file(path).encode_all
elif side == "tiktoken":
    import tiktoken
    from tokenizers.decoders import ByteLevel
    file = json.load(open(path, encoding="utf-8"))
    pre = file["pre_tokenizer"]
    gpt2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    steps = pre.get("pretokenizers")
    pattern = steps[0]["pattern"]["Regex"] if steps else gpt2
    special = {token["content"]: token["id"] for token in file["added_tokens"]}
    kept = {chr(b): b for b in [*range(33, 127), *range(161, 173), *range(174, 256)]}
    rest = [b for b in range(256) if b not in kept.values()]
    kept.update({chr(256 + i): b for i, b in enumerate(rest)})
    vocab = file["model"]["vocab"].items()
    ranks = {bytes(kept[c] for c in token): id for token, id in vocab if token not in special}
    encoding = tiktoken.Encoding(
        "bench", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special
    )
    encode = lambda texts: encoding.encode_ordinary_batch(texts, num_threads=int(threads))
else:
    import tokenizers
    tokenizer = tokenizers.Tokenizer.from_file(path)
    tokenizer.encode_special_tokens = True
    batch = tokenizer.encode_batch_fast
    encode = lambda texts: [one.ids for one in batch(texts, add_special_tokens=False)]
encode(texts[:64])
cpu, wall = time.process_time(), time.perf_counter()
result = encode(texts)
cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
ids = finish(result)
head = finish(encode(texts[:200]))
head = hashlib.sha256(head.tobytes()).hexdigest()
print(json.dumps({"cpu": cpu, "wall": wall, "tokens": len(ids), "head": head}))
"""

SIDES = ["triptych", "gigatoken", "kitoken", "tiktoken", "tokenizers"]


def main() -> None:
    """Runs every side in turn and writes medians, megabytes a second and ratios."""
    options = measuring.parser(__doc__)
    options.add_argument("--tokenizer", type=Path, required=True)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--sides", nargs="+", default=SIDES, choices=SIDES)
    options = options.parse_args()
    if options.input is None:
        sys.exit("--input: expected a .jsonl file with `text`")
    megabytes = measuring.text_bytes(options.input) / 1e6
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in options.sides}

    def run(side: str) -> float | None:
        arguments = [
            side,
            str(options.tokenizer),
            str(options.input),
            str(options.threads),
        ]
        python = sys.executable if side == "triptych" else options.peer_python
        found = measuring.peer(python, PROGRAM, arguments)
        if found is None:
            return None
        runs[side].append(found)
        return found["wall" if options.threads > 1 else "cpu"]

    medians = measuring.interleaved(
        {side: lambda side=side: run(side) for side in options.sides}, options.rounds
    )
    report = {"text_megabytes": round(megabytes, 2), "threads": options.threads}
    for side, seconds in medians.items():
        report[f"{side}_seconds"] = round(seconds, 4)
        report[f"{side}_megabytes_per_second"] = round(megabytes / seconds, 1)
        report[f"{side}_tokens"] = runs[side][0]["tokens"]
        report[f"ratio_to_{side}"] = round(seconds / medians["triptych"], 2)
    heads = {side: found[0]["head"] for side, found in runs.items() if found}
    report["sides_with_other_ids"] = [
        side for side, head in heads.items() if head != heads.get("tokenizers", head)
    ]
    measuring.report(report, options.json)


if __name__ == "__main__":
    main()
