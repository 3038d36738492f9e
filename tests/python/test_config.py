from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pytest

from triptych import config
from triptych.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.1
    kind: Literal["a", "b"] = "a"

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise ValueError(f"rate: expected >= 0, found {self.rate}")


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    steps: int = 1
    inner: Inner = field(default_factory=Inner)
    items: tuple[Inner, ...] = ()
    weights: dict[str, float] = field(default_factory=dict)
    limit: int | None = None


def test_a_complete_file_becomes_frozen_dataclasses(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(
        "name = 'x'\nsteps = 3\n[inner]\nrate = 1\n[[items]]\nkind = 'b'\n"
        "[weights]\na = 2\n"
    )
    loaded = config.load(Outer, path, ["inner.kind=b", "limit=7"])
    assert loaded == Outer(
        name="x",
        steps=3,
        inner=Inner(rate=1.0, kind="b"),
        items=(Inner(kind="b"),),
        weights={"a": 2.0},
        limit=7,
    )


def test_mapping_and_back_is_the_identity():
    value = Outer(name="x", items=(Inner(rate=0.5),), weights={"a": 1.0})
    assert config.from_mapping(Outer, config.to_mapping(value)) == value


@dataclass(frozen=True, kw_only=True)
class Calm:
    inner: Inner = field(default_factory=lambda: Inner(rate=0.5))


def test_a_table_that_says_some_of_its_keys_leaves_the_others_at_the_commands_defaults():
    loaded = config.from_mapping(Calm, {"inner": {"kind": "b"}})
    assert loaded == Calm(inner=Inner(rate=0.5, kind="b"))


# (text, what the message must say)
FAULTS = [
    ("name = 'x'\nstepz = 3\n", [":2: stepz: unknown key", "did you mean `steps`?"]),
    ("name = 'x'\nsteps = 'many'\n", [":2: steps: expected int, found str 'many'"]),
    ("name = 'x'\nsteps = true\n", ["steps: expected int, found bool True"]),
    ("steps = 1\n", ["name: required, found nothing"]),
    ("name = 'x'\n[inner]\nkind = 'c'\n", [":3: inner.kind: expected one of `a`, `b`"]),
    ("name = 'x'\n[inner]\nrate = -1\n", ["inner: rate: expected >= 0, found -1"]),
    ("name = 'x'\ninner = 3\n", ["inner: expected a table, found int 3"]),
    ("name = 'x'\n[weights]\na = 'b'\n", ["weights.a: expected float, found str"]),
    ("name = 'x\n", ["is not TOML"]),
    (f"name = {'[' * 9999}{']' * 9999}\n", ["is not TOML: found nesting"]),
]


# (file, overrides, places of the faults in order)
PLACES = [
    ("name = 'x'\n[[items]]\nrate = 1\n[[items]]\nrate = 'b'\n", [], [":5: items[1].rate"]),
    ("name = 'x'\n[[items]]\nrate = 1\n[[items]]\nrate = -1\n", [], [":5: items[1]: rate"]),
    ("name = 'x'\nitems = [{}, {rate = 'b'}]\n", [], [":2: items[1].rate"]),
    ("steps = 1\n[inner]\nname = 'x'\n", [], [":3: inner.name", ": name: required"]),
    ("name = 'x'\ninner.rate = -1\n", [], [":2: inner: rate"]),
    ("name = 'x'\n[inner]\nkind = 'a'\n", ["inner.kind=c"], ["--set: inner.kind"]),
    ("name = 'x'\nstep = 1\n", ["stepz=1"], [":2: step: unknown", "--set: stepz: unknown"]),
    ("name = 'x'\n\"a[b\" = 1\n", [], [": a[b: unknown key"]),
    ("name = 'x'\n", ["inner.rate=-1"], ["--set: inner: rate"]),
    ("name = 'x'\n", ["innr.rate=1"], ["--set: innr: unknown key"]),
    ("name = 'x'\n[[items]]\nrate = 1\n", ["items=[{rate=-1}]"], ["--set: items[0]: rate"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "overrides", "places"), PLACES)
def test_a_fault_is_placed_where_its_key_stands(tmp_path, text, overrides, places):
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load(Outer, path, overrides)
    lines = str(caught.value).split("\n")
    assert len(lines) == len(places)
    for line, place in zip(lines, places, strict=True):
        assert line.startswith(place if place[0] == "-" else f"{path}{place}")


@pytest.mark.parametrize(("text", "expected"), FAULTS)
def test_a_fault_names_its_key_what_was_expected_and_what_was_found(
    tmp_path, text, expected
):
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load(Outer, path)
    for part in expected:
        assert part in str(caught.value)


def test_all_faults_are_reported_at_once(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("stepz = 1\nsteps = 'x'\n[inner]\nkind = 3\n")
    with pytest.raises(ConfigError) as caught:
        config.load(Outer, path)
    assert len(str(caught.value).split("\n")) == 4


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("name = 'x'\nsteps = 7\n", encoding="utf-8-sig")
    assert config.load(Outer, path).steps == 7


def test_a_missing_file_is_named():
    with pytest.raises(ConfigError, match=r"no configuration at `nowhere\.toml`"):
        config.load(Outer, "nowhere.toml")


def test_a_folder_in_place_of_the_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"expected a TOML file, found a folder$"):
        config.load(Outer, tmp_path)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1" + "0" * 400])
def test_a_number_that_is_not_finite_is_refused_wherever_it_stands(tmp_path, value):
    path = tmp_path / "run.toml"
    path.write_text(
        f'name = "x"\nweights = {{ web = {value} }}\n[inner]\nrate = {value}\n'
    )
    with pytest.raises(ConfigError, match="expected a finite number") as refused:
        config.load(Outer, path)
    assert "run.toml:4: inner.rate: " in str(refused.value)
    assert "weights.web: " in str(refused.value)
