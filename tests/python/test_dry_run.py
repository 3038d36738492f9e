"""What a dry run says of a corpus, beside what is in it."""

import json
import random
import subprocess
from pathlib import Path

RULES = (
    '[{feature = "num_split_words", max = 500, name = "long"},'
    ' {feature = "num_split_words", min = 1, name = "none"}]'
)


def _planned(corpus: Path, *options: str) -> tuple[dict, str]:
    """The plan as JSON, and as it is printed."""
    paths = ["--input", corpus, "--output", corpus.parent / "out"]
    command = ["triptych-prep", "run", "--dry-run", "--json", "--profile", "clean"]
    done = subprocess.run(
        [*command, *paths, *options], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout), done.stdout


def test_a_plan_and_an_explanation_refuse_rules_that_they_cannot_ask(tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"text": "one"}\n')
    rule = ["--set", 'python_rule=["mine@1:abc"]', "--profile", "clean"]
    run = ["run", "--dry-run", "--input", str(corpus), "--output", str(tmp_path / "o")]
    for command in [run, ["explain", f"{corpus}:1"]]:
        done = subprocess.run(
            ["triptych-prep", *command, *rule], capture_output=True, text=True
        )
        assert done.returncode == 2
        assert "`python_rule`" in done.stderr


def _write(corpus: Path, seed: int) -> float:
    """Writes short and long documents, as many of both; gives the share of the long."""
    words = random.Random(seed)
    lengths = [
        words.randrange(20, 120)
        if words.random() < 0.5
        else words.randrange(2000, 6000)
        for _ in range(1200)
    ]
    lines = [json.dumps({"text": "word " * length}) + "\n" for length in lengths]
    corpus.write_text("".join(lines))
    return sum(length > 500 for length in lengths) / len(lengths)


def test_long_documents_are_in_a_sample_as_often_as_short_ones(tmp_path):
    corpus, faults, held = tmp_path / "corpus.jsonl", [], 0
    for seed in range(20):
        truth = _write(corpus, seed)
        plan, _ = _planned(
            corpus, "--set", f"rule={RULES}", "--sample-bytes", str(1 << 20)
        )
        told = plan["estimate"]["rejected"]["long"]
        faults.append(told["share"] - truth)
        held += told["low"] <= truth <= told["high"]
    assert abs(sum(faults) / len(faults)) < 0.04, faults
    assert held >= 17, f"the intervals held the truth in {held} of 20 samples"


def test_a_plan_shows_its_numbers_as_they_were_written_and_no_share_below_zero(
    tmp_path,
):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"text": ""}\n' + '{"text": "one two three"}\n' * 20_000)
    plan, printed = _planned(
        corpus,
        *("--set", f"rule={RULES}", "--set", "language={threshold = 0.65}"),
        *("--sample-bytes", str(1 << 17)),
    )
    assert '"threshold": 0.65,' in printed or '"threshold": 0.65\n' in printed
    ends = [plan["estimate"]["kept"], *plan["estimate"]["rejected"].values()]
    for end in ends:
        assert end["low"] == 0 or end["low"] > 1e-9, end
        assert end["high"] == 1 or end["high"] < 1 - 1e-9, end
