"""The examples of docs/formats.md run, on shards that were written; keys have a row."""

import json
import re
import subprocess
import sys
from pathlib import Path

from triptych import config
from triptych._core import train_tokenizer, write_token_shards
from triptych.conversation import read_conversations, read_preferences

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"


def examples(heading):
    """The Python of a section and of those under it."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n{heading}")[1]
    section = section.split("\n## ")[0]
    return [part.split("\n```")[0] for part in section.split("```python\n")[1:]]


def test_token_shards_read_as_the_page_says(tmp_path):
    tokenizer = train_tokenizer(None, ["the cat sat on the mat"] * 3, 300)
    folder = tmp_path / "tokens"
    documents = [("a", "s", [1, 7, 8, 2], None), ("b", "s", [1, 9, 2], None)]
    write_token_shards(documents, tokenizer, str(folder), 1)
    by_numpy, by_pyarrow = examples("## Token shards")
    assert "pyarrow" not in by_numpy
    names = {"folder": str(folder)}
    exec(by_numpy, names)
    assert names["shards"][0].tolist() == [1, 7, 8, 2, 1, 9, 2]
    exec(by_pyarrow, names)
    assert names["tokens"].tolist() == [1, 7, 8, 2]


def test_conversations_and_preferences_read_as_the_page_shows_them(tmp_path):
    section = PAGE.read_text(encoding="utf-8").split("\n## Conversations and pref")[1]
    shown = [part.split("```")[0] for part in section.split("```json\n")[1:3]]
    for name, record in zip(("chats", "pairs"), shown, strict=True):
        line = json.dumps(json.loads(record))
        (tmp_path / f"{name}.jsonl").write_text(f"\n{line}\n", encoding="utf-8")
    (chat,) = read_conversations([tmp_path / "chats.jsonl"])
    assert (chat.id, [turn["role"] for turn in chat.messages]) == (
        "c1",
        ["user", "assistant"],
    )
    (pair,) = read_preferences([tmp_path / "pairs.jsonl"])
    assert pair.chosen != pair.rejected


def test_every_key_of_preparation_has_its_default_in_the_docs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").touch()
    call = ["run", "--input", "in.jsonl", "--output", "x", "--dry-run", "--json"]
    result = subprocess.run(
        [sys.executable, "-m", "triptych", "prep", *call],
        capture_output=True,
        text=True,
    )
    taken = json.loads(result.stdout)["config"]
    del taken["input"], taken["output"]  # they have none
    del taken["python_rule"]  # it is no key of the user's
    page = PAGE.with_name("prep.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (?:`(.*?)`|none) \|", page, re.MULTILINE)
    shown = {
        key: config.tomllib.loads(f"x = {value}")["x"] for key, value in rows if value
    }
    taken["pii"] = {key: kind for key, kind in taken["pii"].items() if kind}
    assert taken["pii"].pop("default") == "off"
    assert {**shown, "language": None} == taken
