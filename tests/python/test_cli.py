"""The command line as a person meets it: words, exit statuses, speed."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from triptych import cli
from triptych.commands.shell import Output
from triptych.errors import ConfigError


def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "triptych"]
    return subprocess.run(
        [*command, *arguments], input=stdin, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(("rank", "status"), [("0", 2), ("1", 0)])
@pytest.mark.parametrize(
    "arguments",
    [
        ["export", "nowhere", "--output", "here"],
        ["average", "nowhere", "--output", "here"],
        ["import", "nowhere", "--output", "here"],
        ["report", "nowhere"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_of_the_processes_of_torchrun_the_first_writes_what_is_written_once(
    monkeypatch, tmp_path, arguments, rank, status
):
    """Two would write one folder: the later one found the draft of the first."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)
    assert cli.main(arguments) == status


# (arguments, exit status, what standard error must say)
BAD_CALLS = [
    (["generate", "nowhere", "--prompt", "x"], 2, "no model at `nowhere`: expected"),
    (["chat", __file__], 2, "a run that holds one; found a file"),
    (["pretrain", "--config", "nowhere.toml"], 2, "no configuration at `nowhere.toml`"),
    (["pretrain", "--set", "stepz=3"], 2, "stepz: unknown key"),
    (["sft", "--set", "output=x"], 2, "model: required, found nothing"),
    (["verify", "nowhere"], 2, "no manifest under `nowhere`"),
    (["report", "nowhere"], 2, "no run at `nowhere`"),
    (["demo", "--seed", "-1", "--dry-run"], 2, "seed: expected from 0 to 2^32 - 1"),
    (["demo", "--minutes", "0"], 2, "minutes: expected in (0, 10000], found 0.0"),
    (["inspect", "order", "--run", "nowhere", "--step", "0"], 2, "no run at `nowhere`"),
    (["prep", "run", "--input", "nowhere", "--output", "x"], 2, "nowhere"),
    (
        ["eval", "x", "--shards", "a/web", "--shards", "b/web"],
        2,
        "found `web` for `a/web",
    ),
    (
        ["eval", "x", "--shards", "a", "--seq-len", "0"],
        2,
        "seq_len: expected at least 1",
    ),
    (
        ["eval", "x", "--shards", "all=a"],
        2,
        "--shards all=…: expected another name",
    ),
    (["eval", "x", "--shards", "=a"], 2, "--shards: expected NAME=FOLDER or a folder"),
    (["fly"], 2, "invalid choice: 'fly'"),
    (["pretain"], 2, "did you mean `pretrain`?"),
    (["pretrain", "--confg", "x"], 2, "--confg x; did you mean `--config`?"),
    (["eval", "x", "--shards", "a", "--seqlen=4"], 2, "did you mean `--seq-len`?"),
    (["generate", "x", "--device", "gpu"], 2, "invalid choice: 'gpu'"),
    (["average", "x", "--decay", "linea", "--output", "y"], 2, "mean `linear`?"),
]


@pytest.mark.parametrize(("arguments", "status", "message"), BAD_CALLS)
def test_a_wrong_call_gets_one_sentence_and_its_status(arguments, status, message):
    result = run(*arguments)
    assert result.returncode == status
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_orders_are_of_pretraining_and_runs_of_other_commands_are_named(tmp_path):
    (tmp_path / "run.json").write_text('{"model": "base", "conversations": []}')
    result = run("inspect", "order", "--run", str(tmp_path), "--step", "0")
    assert result.returncode == 2
    assert "expected a run of `triptych pretrain`, found keys" in result.stderr


def test_the_version_answers_within_300_ms():
    seconds = []
    for _ in range(5):  # the first warms the disk, and others may have the machine
        started = time.perf_counter()
        assert run("--version").stdout.startswith("triptych ")
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.3


def test_importing_the_package_loads_neither_torch_nor_the_engine():
    code = (
        "import sys, triptych; heavy = {'torch', 'triptych._core'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_every_public_name_can_be_imported():
    import triptych

    missing = [name for name in triptych.__all__ if not hasattr(triptych, name)]
    assert missing == []


def test_every_command_is_a_function_that_takes_its_public_settings():
    code = (
        "import inspect, pkgutil, importlib, triptych\n"
        "for module in pkgutil.iter_modules(triptych.__path__):\n"
        "    if module.name != '__main__': importlib.import_module('triptych.' + module.name)\n"
        "from triptych.cli import VERBS\n"
        "names = {'import': 'import_model'}\n"
        "for verb in sorted(set(VERBS) - {'prep'}):\n"
        "    function = getattr(triptych, names.get(verb, verb))\n"
        "    first = next(iter(inspect.signature(function).parameters.values()))\n"
        "    kind = first.annotation.removesuffix(' | None')\n"
        "    assert isinstance(getattr(triptych, kind), type), (verb, kind)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


def test_every_command_has_help():
    for verb in cli.VERBS:
        if verb != "prep":
            with pytest.raises(SystemExit) as caught:
                cli.main([verb, "--help"])
            assert caught.value.code == 0


def test_generate_prints_one_object_a_prompt_and_repeats_with_its_seed(model_folder):
    call = [
        "generate",
        str(model_folder),
        "--json",
        "--temperature",
        "1",
        "--seed",
        "3",
    ]
    first = run(*call, stdin="The house\none latte\n")
    lines = [json.loads(line) for line in first.stdout.splitlines()]
    assert [line["prompt"] for line in lines] == ["The house", "one latte"]
    assert run(*call, stdin="The house\none latte\n").stdout == first.stdout


def test_chat_answers_in_a_terminal_and_obeys_its_commands(model_folder):
    script = "one latte please\n/seed 4\n/reset\n/help\n/quit\nnever read\n"
    result = run("chat", str(model_folder), "--max-new-tokens", "4", stdin=script)
    assert result.returncode == 0
    assert "seed = 4" in result.stdout
    assert "forgotten" in result.stdout
    assert "never read" not in result.stdout


@pytest.mark.parametrize(
    ("verb", "status", "said"),
    [
        (["pretrain"], 75, "error[interrupted] stopped: run the same command again"),
        (["generate", "x"], -signal.SIGTERM, ""),  # which has nothing to go on with
    ],
)
def test_a_command_that_can_go_on_says_so_when_it_is_stopped_before_it_trains(
    verb, status, said
):
    code = f"""
import os, signal
from triptych import cli
cli._import = lambda module: os.kill(os.getpid(), signal.SIGTERM)
raise SystemExit(cli.main({verb!r}))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr[: len(said) or None]) == (status, said)


@pytest.mark.parametrize("nobody", ["/dev/full", None])
def test_a_stopped_command_has_its_status_where_nobody_hears_it(nobody):
    code = """
import os, signal
from triptych import cli
cli._import = lambda module: os.kill(os.getpid(), signal.SIGTERM)
raise SystemExit(cli.main(["pretrain"]))
"""
    reads, writes = os.pipe()
    os.close(reads)  # to a pipe that nobody reads any more
    end = writes if nobody is None else os.open(nobody, os.O_WRONLY)
    ended = subprocess.run([sys.executable, "-c", code], stderr=end, check=False)
    assert ended.returncode == 75


def test_verify_takes_a_folder_of_any_name(model_folder, tmp_path):
    """What `--resume-at` finds is told by the name `replay`."""
    shutil.copytree(model_folder, tmp_path / "replay")
    command = [sys.executable, "-m", "triptych", "verify", "replay"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "replay: good\n")


def test_verify_names_the_damaged_file(model_folder):
    assert run("verify", str(model_folder)).returncode == 0
    path = model_folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    result = run("verify", str(model_folder))
    assert result.returncode == 4
    assert "model.safetensors" in result.stdout
    assert "expected SHA-256" in result.stdout


def test_a_tokenizer_larger_than_the_model_is_refused(model_folder, tmp_path):
    from triptych import train_tokenizer

    larger = train_tokenizer([" ".join(f"word{i}" for i in range(2000))], 600)
    larger.save(str(model_folder / "tokenizer.json"))
    (model_folder / "manifest.json").unlink()
    result = run("generate", str(model_folder), "--prompt", "x")
    assert result.returncode == 2
    assert "384" in result.stderr
    assert str(larger.vocab_size) in result.stderr


def test_a_reader_that_leaves_early_is_no_error(model_folder):
    command = f"{sys.executable} -m triptych doctor | head -n 0"
    result = subprocess.run(
        command, shell=True, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("report nowhere 2>/dev/full", 2),
        ("report nowhere 2>&-", 2),
        ("report nowhere >&- 2>&- <&-", 2),
        ("doctor 2>/dev/full", 0),
        ("prep verify nowhere 2>/dev/full", 2),
        ("prep run --input {input} --output {output} 2>/dev/full", 0),
        ("prep train-tokenizer --input {input} --output {output} 2>/dev/full", 0),
        ("prep train-tokenizer --input {input} --output {output} >/dev/full", 1),
    ],
)
def test_the_status_of_a_command_that_nobody_hears_is_that_of_its_work(
    command, status, tmp_path
):
    (tmp_path / "in.txt").write_text("one latte, please " * 200)
    places = {"input": tmp_path / "in.txt", "output": tmp_path / "out"}
    command = f"{sys.executable} -m triptych {command.format(**places)}"
    assert subprocess.run(command, shell=True, check=False).returncode == status


def test_a_tokenizer_is_no_folder_in_the_place_of_a_file(tmp_path):
    taken = tmp_path / "words.txt"
    taken.write_text("one latte, please " * 200)
    for output in (taken, taken / "tokenizer.json"):
        told = run("prep", "train-tokenizer", "--input", str(taken), "--output", output)
        assert told.returncode == 2
        assert "ends in `.json`, or a folder, found the file `" in told.stderr
        assert str(taken) in told.stderr


@pytest.mark.parametrize("below", [".", "run", "runs/new"])
def test_a_file_where_the_folder_of_a_demo_or_a_run_is_to_be_is_named(tmp_path, below):
    from triptych.commands.training import require_run_folder

    taken = tmp_path / "words.txt"
    taken.touch()
    told = (
        f"output: expected a folder, or a place for a new one, found `{taken}`, a file"
    )
    with pytest.raises(ConfigError, match=re.escape(told)):
        require_run_folder(str(taken / below), "pretrain")
    demo = run("demo", "--output", str(taken / below))
    assert (demo.returncode, told in demo.stderr) == (2, True)


def test_a_name_that_no_file_can_have_is_a_fault_of_the_configuration(tmp_path):
    (tmp_path / "in.txt").write_text("one latte, please " * 200)
    settings = tmp_path / "prep.toml"
    settings.write_text(
        f'input = ["{tmp_path / "in.txt"}"]\noutput = "{tmp_path}/a\\u0000b"\n'
    )
    told = run("prep", "run", "--config", str(settings))
    assert (told.returncode, told.stderr[:14]) == (2, "error[config] ")


def test_steps_are_done_where_their_terminal_was_closed():
    script = """
from triptych import cli
from triptych.commands.shell import StepProgress
def work(options):
    with StepProgress("pretrain", total=2) as progress:
        input()  # until the terminal is closed
        for step in (1, 2):
            progress.last = 0.0
            progress.step({"step": step, "loss": 1.0})
    open(3, "w").write("both steps")
    return 0
cli._run = work
raise SystemExit(cli.main(["doctor"]))
"""
    terminal, end = pty.openpty()
    done, writes = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", f"import os; os.dup2({writes}, 3)\n{script}"],
        stdin=subprocess.PIPE,
        stderr=end,
        pass_fds=[writes],
    )
    os.close(end)
    os.close(writes)
    os.read(terminal, 1)
    os.close(terminal)
    process.communicate(b"\n")
    assert (process.returncode, os.read(done, 100)) == (0, b"both steps")


def test_a_disk_that_is_full_for_events_of_tensorboard_is_one_sentence(tmp_path):
    script = f"""
import pathlib, resource
from triptych import cli
from triptych.train.metrics import MetricsLog
def work(options):
    log = MetricsLog(pathlib.Path({str(tmp_path)!r}), 0, tensorboard=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, resource.RLIM_INFINITY))
    for step in range(10):
        log.write({{"step": step, **{{f"n{{i}}": 1.0 for i in range(20)}}}})
    log.close()
cli._run = work
raise SystemExit(cli.main(["doctor"]))
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True
    )
    told = (
        f"error[resource] `{tmp_path / 'tensorboard'}`: expected to write it, found: "
    )
    assert (ended.returncode, ended.stderr.count("\n")) == (5, 1)
    assert ended.stderr.startswith(told)


class Gone:
    """What stands for a terminal whose other side has left, as of a shell in Python."""

    def write(self, text):
        raise OSError("the other side has left")

    def flush(self):
        self.write("")


class GoneWithoutNumber(Gone):
    def fileno(self):
        raise io.UnsupportedOperation("fileno")


@pytest.mark.parametrize("kind", [Gone, GoneWithoutNumber])
def test_an_error_that_an_object_does_not_take_is_told_by_the_status(kind, monkeypatch):
    monkeypatch.setattr("sys.stderr", kind())
    assert cli.main(["report", "nowhere"]) == 2


def test_a_terminal_without_the_letters_of_a_text_is_no_error(capsys, monkeypatch):
    poor = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", poor)
    monkeypatch.setattr("sys.stderr", poor)
    assert cli.main(["report", "caf\N{LATIN SMALL LETTER E WITH ACUTE}"]) == 2
    poor.flush()
    assert rb"no run at `caf\xe9`" in poor.buffer.getvalue()


def test_a_line_that_is_no_text_is_named_in_any_locale(
    model_folder, monkeypatch, capsys
):
    for verb in ("generate", "chat"):
        lines = io.TextIOWrapper(io.BytesIO(b"one latte\ncaf\xe9\n"), encoding="utf-8")
        monkeypatch.setattr("sys.stdin", lines)
        assert cli.main([verb, str(model_folder), "--max-new-tokens", "4"]) == 1
        assert (
            r"expected UTF-8, found `\udce9` at character 4" in capsys.readouterr().err
        )


def test_a_reader_that_leaves_a_table_early_is_no_error(monkeypatch):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        Output(file=Gone()).print("a table")
