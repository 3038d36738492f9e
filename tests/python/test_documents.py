"""Lines of text files, as conversations and prepared documents are read."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych import documents
from triptych.documents import read_documents, read_lines
from triptych.errors import InputError


@given(
    blocks=st.lists(st.binary(max_size=9).map(lambda x: x.replace(b"\xff", b"\n"))),
)
def test_lines_end_at_line_ends_wherever_the_blocks_of_a_file_do(blocks):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(documents, "_blocks", lambda path: blocks)
        found = list(documents._byte_lines("a.jsonl"))
    assert found == b"".join(blocks).split(b"\n")


def test_a_line_takes_time_by_its_length_and_not_by_its_square(monkeypatch):
    blocks = [b"x" * 1024] * 20_000  # joined again at each block: 200 GB are copied
    monkeypatch.setattr(documents, "_blocks", lambda path: blocks)
    start = time.process_time()
    (line,) = documents._byte_lines("a.jsonl")
    assert len(line) == 20_000 * 1024
    assert time.process_time() - start < 5.0


def test_a_line_that_never_ends_is_named_before_memory_does(monkeypatch):
    monkeypatch.setattr(documents, "MAX_LINE_BYTES", 5000)
    blocks = [b"{}\n" + b"x" * 1021, *[b"x" * 1024] * 20]
    monkeypatch.setattr(documents, "_blocks", lambda path: iter(blocks))
    with pytest.raises(
        InputError, match=r"a\.jsonl:2: expected a line of at most 5000"
    ):
        list(documents._byte_lines("a.jsonl"))
    blocks[:] = [b"x" * 1000 + b"\n"] * 20
    assert len(list(documents._byte_lines("a.jsonl"))) == 21


def test_a_byte_order_mark_is_no_text(tmp_path):
    marked = b"\xef\xbb\xbf" + json.dumps({"text": "a\ufeff"}).encode() + b"\n{}\n"
    (tmp_path / "0.jsonl").write_bytes(marked)
    assert list(read_documents(tmp_path)) == [{"text": "a\ufeff"}, {}]
    (tmp_path / "0.jsonl").write_bytes(b"\xef\xbb\xbf")
    assert list(read_lines(tmp_path / "0.jsonl")) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"caf\xe9", "expected UTF-8"),
        (b"[1]", "expected a JSON object, found list"),
        (b"9" * 5000, "expected a JSON object, found Exceeds the limit"),
        (b"[" * 100_000, "expected a JSON object, found maximum recursion"),
    ],
)
def test_a_bad_line_has_its_place(tmp_path, line, message):
    path = tmp_path / "0.jsonl"
    path.write_bytes(b"{}\n\n" + line)
    with pytest.raises(InputError, match=message) as raised:
        list(read_documents(tmp_path))
    assert str(raised.value).startswith(f"{path}:3: ")
    assert (raised.value.file, raised.value.line) == (str(path), 3)
