"""What triptych raises: of which class, with which place, and never a panic."""

from __future__ import annotations

import errno
import gzip
import pickle
from pathlib import Path

import pytest

import triptych
from triptych import _core, cli, config, errors, prep

KINDS = [
    getattr(errors, name) for name in errors.__all__ if name.endswith(("Error", "ted"))
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_exception_has_its_attributes_also_where_python_raises_it_and_pickled(
    kind,
):
    error = kind("a sentence")
    assert (error.file, error.line, error.byte, error.hint) == (None,) * 4
    error.file, error.line = "prep.toml", 3
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (str(again), again.file, again.line, again.byte) == (
        "a sentence",
        "prep.toml",
        3,
        None,
    )
    assert getattr(triptych, kind.__name__) is kind


def test_a_disk_without_room_is_an_exhausted_resource():
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        error = OSError(number, "a sentence")
        assert (errors.code(error), errors.exit_status(error)) == ("resource", 5)
    error = OSError(errno.EACCES, "a sentence")
    assert (errors.code(error), errors.exit_status(error)) == ("io", 1)


class OutOfMemoryError(RuntimeError):
    """Named as torch's of a GPU, which is known by its name."""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "memory ran out"),
        (MemoryError("Unable to allocate 7.11 PiB for an array"), "7.11 PiB more"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory ran out"),
        (
            OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 …"),
            "2.00 GiB more",
        ),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't "
                "allocate memory: you tried to allocate 4000000000 bytes. Error code 12"
            ),
            "3,815 MiB more",
        ),
    ],
)
def test_memory_that_ran_out_is_an_exhausted_resource_by_a_sentence(
    error, said, capsys
):
    def run_out() -> int:
        raise error

    assert (errors.code(error), cli._guarded(run_out, debug=False)) == ("resource", 5)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("error[resource] memory ran out")
    assert said in lines[0]
    assert "`micro_batch_rows`" in lines[1]


def test_torch_says_of_memory_what_is_known_here():
    torch = pytest.importorskip("torch")
    assert torch.OutOfMemoryError.__name__ == OutOfMemoryError.__name__
    with pytest.raises(RuntimeError) as raised:
        torch.empty(10**15)
    assert errors.exit_status(raised.value) == 5


def test_a_training_that_diverged_is_no_fault_of_the_program(capsys):
    def diverge() -> int:
        raise errors.TrainingDiverged("step 3: a sentence")

    assert cli._guarded(diverge, debug=False) == 1
    assert capsys.readouterr().err == "error[diverged] step 3: a sentence\n"


def bad_line(folder: Path) -> None:
    path = folder / "in.jsonl"
    path.write_text(
        '{"text": "one"}\n\n{"text": "a\u00e4"}\n{"text": 2}\n', encoding="utf-8"
    )
    triptych.train_tokenizer([str(path)], 300)


def cut_gzip(folder: Path) -> None:
    data = gzip.compress(b'{"text": "one"}\n' * 5000)
    (folder / "in.jsonl.gz").write_bytes(data[: len(data) // 2])
    triptych.train_tokenizer([str(folder / "in.jsonl.gz")], 300)


def bomb(folder: Path) -> None:
    (folder / "in.jsonl.gz").write_bytes(gzip.compress(b" " * (1 << 20)))
    settings = {"input": (str(folder),), "output": str(folder / "out")}
    prep.run(prep.PrepConfig(max_file_bytes=1000, **settings))


def no_input(folder: Path) -> None:
    settings = {"input": (str(folder / "none"),), "output": str(folder / "out")}
    prep.run(prep.PrepConfig(**settings))


def misspelt(folder: Path) -> None:
    (folder / "prep.toml").write_text("output = 'x'\n\nprofil = 'seed'\ninput = []\n")
    config.load(prep.PrepConfig, folder / "prep.toml")


def damaged(folder: Path) -> None:
    tokenizer = triptych.train_tokenizer(["a b c"] * 9, 270)
    documents = [("a", "s", [7, 8, 9], None)]
    _core.write_token_shards(documents, tokenizer, str(folder / "shards"), 1)
    path = folder / "shards" / "00000.bin"
    path.write_bytes(b"\x01" + path.read_bytes()[1:])
    _core.verify_token_shards(str(folder / "shards"))


CASES = [
    (bad_line, errors.InputError, ValueError, "in.jsonl", 4, 33, None),
    (cut_gzip, errors.InputError, ValueError, "in.jsonl.gz", ..., ..., None),
    (bomb, errors.ResourceError, OSError, "in.jsonl.gz", None, ..., None),
    (no_input, errors.ConfigError, ValueError, "none", None, None, None),
    (misspelt, errors.ConfigError, ValueError, "prep.toml", 3, None, None),
    (
        damaged,
        errors.IntegrityError,
        ValueError,
        "00000.bin",
        None,
        None,
        "make the file again",
    ),
]


@pytest.mark.parametrize(
    ("fault", "kind", "base", "file", "line", "byte", "hint"),
    CASES,
    ids=[case[0].__name__ for case in CASES],
)
def test_an_error_has_its_place_as_far_as_it_is_known(
    tmp_path, fault, kind, base, file, line, byte, hint
):
    with pytest.raises(kind) as raised:
        fault(tmp_path)
    error = raised.value
    assert isinstance(error, base)
    assert Path(error.file).name == file
    for found, expected in ((error.line, line), (error.byte, byte)):
        assert found > 1 if expected is ... else found == expected
    assert error.hint is None if hint is None else hint in error.hint


def test_a_panic_is_an_exception_that_says_what_to_report(capfd):
    with pytest.raises(
        errors.InternalError, match=r"a fault of triptych .* not of your data"
    ) as raised:
        _core.provoke_panic("the arena is upside down")
    message = str(raised.value)
    assert isinstance(raised.value, Exception)
    assert "the arena is upside down" in message
    assert "lib.rs" in message
    assert raised.value.hint in message
    assert errors.exit_status(raised.value) == 1
    assert capfd.readouterr() == ("", "")
    assert triptych.TextPreprocessor(1, 9).process(["aaa bbb"]) == []


def test_a_panic_of_the_command_line_is_a_line_with_a_hint_and_a_status(
    monkeypatch, capsys
):
    monkeypatch.setattr(_core, "main", lambda _: _core.provoke_panic("upside down"))
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert cli.main(["prep", "run"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error[internal] a fault of triptych")
    error, hint = said.splitlines()
    assert (
        hint
        == "hint: report this text and triptych's version, with the input if you may"
    )
    assert "hint" not in error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError("x"), "config"),
        (errors.InputError("x"), "input"),
        (errors.RuleError("x"), "input"),
        (errors.IntegrityError("x"), "integrity"),
        (errors.ResourceError("x"), "resource"),
        (FileNotFoundError("x"), "io"),
        (ValueError("x"), "value"),
        (KeyError("x"), "internal"),
    ],
)
def test_an_error_has_a_word_for_its_kind(error, code):
    assert errors.code(error) == code


def test_both_command_lines_say_an_error_in_one_form(tmp_path, capfd):
    missing = str(tmp_path / "missing")
    prep = ["prep", "run", "--input", missing, "--output", str(tmp_path / "out")]
    for arguments in (prep, ["pretrain", "--config", missing]):
        assert cli.main(arguments) == 2
        said = capfd.readouterr().err
        assert said.startswith("error[config] no ")
        assert said.count("\n") == 1
    assert cli.main([*prep, "--profile", "sede"]) == 2
    error, hint = capfd.readouterr().err.splitlines()
    assert error.startswith("error[config] unknown profile `sede`")
    assert hint == "hint: did you mean `seed`?"
