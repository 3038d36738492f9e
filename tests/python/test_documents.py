"""Lines of text files, as conversations and prepared documents are read."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych import documents


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
