"""What the README shows is what happens."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def session() -> list[tuple[str, str]]:
    """(command, output) of the worked example."""
    block = re.search(r"```console\n(.*?)```", README, re.DOTALL)
    assert block, "the README has no ```console block"
    parts = re.split(r"^\$ (.*)\n", block[1], flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def test_the_worked_example_gives_the_output_that_is_shown(tmp_path):
    (_, raw), *commands = session()
    (tmp_path / "raw.jsonl").write_text(raw, encoding="utf-8")
    scripts = str(Path(sys.executable).parent)
    environment = os.environ | {"PATH": scripts + os.pathsep + os.environ["PATH"]}
    for command, expected in commands:
        result = subprocess.run(
            command,
            shell=True,
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        )
        assert result.stdout == expected


def test_the_python_lines_on_text_are_true():
    import triptych

    clean = triptych.TextPreprocessor(min_length=128, max_length=4096)
    (call, result) = re.search(r"clean\.(remove_pii\(.*?\)) +# (.*)", README).groups()
    assert repr(eval(f"clean.{call}", {"clean": clean})) == result


def configurations() -> list[str]:
    return re.findall(r"```toml\n(.*?)```", README, re.DOTALL)


def test_the_configuration_of_preparation_is_accepted(tmp_path):
    (tmp_path / "prep.toml").write_text(configurations()[0], encoding="utf-8")
    (tmp_path / "raw.jsonl").write_text('{"text": "a"}\n', encoding="utf-8")
    command = "run --config prep.toml --input raw.jsonl --output documents --dry-run"
    prep = Path(sys.executable).parent / "triptych-prep"
    result = subprocess.run(
        [prep, *command.split()], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


def test_the_configuration_of_training_is_accepted():
    pytest.importorskip("torch")
    from triptych import config
    from triptych.commands.pretrain import PretrainConfig

    settings = config.from_mapping(
        PretrainConfig, config.tomllib.loads(configurations()[1])
    )
    assert settings.stage[0].warmup_steps == 50


def test_no_placeholder_is_left():
    assert "@@" not in README
