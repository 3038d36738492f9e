"""Documents of millions of words, marks or lines: what is kept of each is bounded.

The promise is 300 MB and 64 MB a thread, whatever the input.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROFILES = "gopher-repetition", "gopher", "native", "c4", "fineweb", "dolma", "dclm"
UNITS = {
    "marks": "<",
    "words of a letter": "a ",
    "sentences of a mark": ". ",
    "short lines": "a\n",
    "emoji": "\N{GRINNING FACE} ",
    "words that differ": "".join(f"{number:x} " for number in range(1 << 20)),
}
MEGABYTES = 8

# Of the process alone: `ru_maxrss` of a child begins with that of its parent.
CODE = """
import sys
from triptych import prep
config = prep.PrepConfig(
    input=(sys.argv[1],), output=sys.argv[2], profile=sys.argv[3], threads=1
)
prep.run(config)
status = open("/proc/self/status").read()
print(int(status.split("VmHWM:")[1].split()[0]) * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS)
def test_a_document_of_millions_of_words_is_judged_in_bounded_memory(
    unit: str, tmp_path: Path
) -> None:
    size = MEGABYTES << 20
    text = unit * (size // len(unit.encode()))
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    for profile in PROFILES:
        command = [sys.executable, "-c", CODE, path, tmp_path / profile, profile]
        found = subprocess.run(command, capture_output=True, text=True, check=True)
        assert int(found.stdout) < 250e6, profile  # 8 MiB of `<` were 959 MB


PAGES = {
    "paragraphs": "<p>x",
    "divisions without end": "<div>",
    "rows of a table": "<tr><td>a",
}


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("unit", PAGES.values(), ids=PAGES)
def test_a_page_of_millions_of_elements_is_taken_apart_in_bounded_memory(
    unit: str, tmp_path: Path
) -> None:
    path = tmp_path / "one.html"
    path.write_text("<html><body><table>" + unit * ((31 << 20) // len(unit)))
    command = [sys.executable, "-c", CODE, path, tmp_path / "out", "clean"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(found.stdout) < 364e6  # 800 MB of paragraphs


def seconds_to_explain(path: Path, addresses: int) -> float:
    text = "a@b.co 555-123-4567 " * addresses
    path.write_text(json.dumps({"text": text}) + "\n")
    code = (
        "import sys, time\n"
        "from triptych import _core\n"
        "start = time.process_time()\n"
        "assert _core.main(['triptych-prep', *sys.argv[1:]]) == 0\n"
        "print(time.process_time() - start, file=sys.stderr)"
    )
    options = ["explain", f"{path}:1", "--profile", "seed", "--json"]
    command = [sys.executable, "-c", code, *options]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(found.stderr)


def test_a_document_of_nothing_but_addresses_is_explained_in_linear_time(
    tmp_path: Path,
) -> None:
    few, many = (
        min(seconds_to_explain(tmp_path / "one.jsonl", count) for _ in range(2))
        for count in (20_000, 80_000)
    )
    assert many < 7 * few  # each place was sought from the first: 9.6 times


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_numbers_of_a_document_take_little_memory_to_look_at() -> None:
    code = (
        "from triptych import TextPreprocessor\n"
        "def peak():\n"
        "    status = open('/proc/self/status').read()\n"
        "    return int(status.split('VmHWM:')[1].split()[0]) * 1024\n"
        "text, clean = '8.8.8 ' * 2_000_000, TextPreprocessor().remove_pii\n"
        "clean('8')\n"
        "before = peak()\n"
        "clean(text)\n"
        "print((peak() - before) / len(text))"
    )
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    # Two are copies of the text; positions of the numbers took two more.
    assert float(found.stdout) < 3
