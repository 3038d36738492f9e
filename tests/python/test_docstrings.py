"""What Python's `help` says of the engine's classes is what the stub says of them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from triptych import _core

STUB = Path(__file__).parents[2] / "python" / "triptych" / "_core.pyi"
PUBLIC = ["Order", "TextPreprocessor", "Tokenizer"]


def described(name):
    """(attribute, first line of its docstring) of a class in the stub, itself first."""
    (node,) = [
        node
        for node in ast.parse(STUB.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and node.name == name
    ]
    members = [x for x in node.body if isinstance(x, ast.FunctionDef)]
    texts = [(x.name, ast.get_docstring(x)) for x in members]
    texts.insert(0, (None, ast.get_docstring(node)))
    return [(member, text.split("\n")[0]) for member, text in texts if text]


@pytest.mark.parametrize("name", PUBLIC)
def test_help_of_a_class_begins_as_its_stub(name):
    kind = getattr(_core, name)
    for member, line in described(name):
        found = kind if member is None else getattr(kind, member)
        assert (found.__doc__ or "").strip().split("\n")[0] == line, member
