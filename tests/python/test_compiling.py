"""Compiled layers: the same losses, the same bits after a kill, compiled once."""

import dataclasses
import json
import shutil

import pytest
import torch

from test_ranks import write_run
from test_recompute import BATCH, family_model, gradients
from test_trainer import Killed, kill_after
from tiny import TinyData, same_weights, tiny_model, tiny_train_config
from triptych.commands.pretrain import PretrainConfig, pretrain
from triptych.commands.replay import replay
from triptych.config import load
from triptych.errors import ConfigError
from triptych.model.compiled import compiled_layer, obstacle
from triptych.model.families import FAMILIES
from triptych.model.recompute import layer_call
from triptych.train import PretrainObjective, Trainer, compiling
from triptych.train.checkpoint import read_state, steps_in
from triptych.train.compiling import FILE_NAME, pays
from triptych.train.metrics import read_metrics

DENSE = sorted(name for name, family in FAMILIES.items() if not family.experts)
needs_compiler = pytest.mark.skipif(
    bool(obstacle(tiny_model())), reason=obstacle(tiny_model())
)


@pytest.fixture(scope="module", autouse=True)
def _one_thread(one_thread):
    """As in the fixture: compiled kernels have their number of threads written in."""


def trainer(output, *, model=None, hooks=None, data=None, **changes):
    data = data or TinyData()
    config = tiny_train_config(output, steps=data.num_steps, **changes)
    model = model or tiny_model()
    return Trainer(model, PretrainObjective(), data, config, **(hooks or {}))


def measure_always(monkeypatch):
    monkeypatch.setattr(compiling, "LEAST_STEPS", 0)
    monkeypatch.setattr(compiling, "COLD_COMPILE_SECONDS", 0.0)


def losses(folder):
    return [line["loss"] for line in read_metrics(folder)]


@pytest.mark.parametrize("name", DENSE)
def test_the_pieces_of_a_layer_are_the_layer(name):
    model = family_model(name)
    expected = gradients(model, "none")

    def in_pieces(layer, x, tables, cu_seqlens):
        mixed = layer.self_attn.attend(*layer.enter(x, tables), cu_seqlens)
        return layer.leave(x, mixed)

    model.call_layer = in_pieces
    model.zero_grad()
    PretrainObjective().loss(model, BATCH).loss_sum.backward()
    for found, wanted in zip(model.parameters(), expected, strict=True):
        assert torch.equal(found.grad, wanted)


@needs_compiler
def test_compiled_losses_are_those_of_eager_layers(tmp_path):
    trainer(tmp_path / "eager", compile=False).run()
    trainer(tmp_path / "compiled", compile=True).run()
    expected = losses(tmp_path / "eager")
    assert losses(tmp_path / "compiled") == pytest.approx(expected, abs=1e-5)


@needs_compiler
@pytest.mark.parametrize("recompute", ["none", "full"])
def test_a_compiled_run_that_was_killed_ends_with_the_same_weights(tmp_path, recompute):
    options = {"compile": True, "recompute": recompute}
    straight = trainer(tmp_path / "straight", **options)
    straight.run()
    hooks = {"on_step": kill_after(5)}
    with pytest.raises(Killed):
        trainer(tmp_path / "killed", hooks=hooks, **options).run()
    torch.compiler.reset()  # as in a new process
    resumed = trainer(
        tmp_path / "killed", recompute=recompute
    )  # `auto` goes on as begun
    assert resumed.run().step == 10
    assert same_weights(straight.model, resumed.model)
    assert resumed.state.run["compiled"] is True


@needs_compiler
def test_a_compiled_run_is_replayed_to_the_same_bytes(tmp_path):
    path = write_run(tmp_path, "steps = 4")
    path.write_text("compile = true\n" + path.read_text())
    settings = load(PretrainConfig, path)
    pretrain(settings)
    torch.compiler.reset()
    again = replay(settings.output, 2)
    assert again == {"from_step": 2, "to_step": 4, "differing": []}
    state = read_state(tmp_path / "run/checkpoints/step-00000004")
    assert state.run["compiled"] is True


@needs_compiler
def test_nothing_is_compiled_anew_for_rows_of_other_lengths(tmp_path):
    compiled = trainer(tmp_path, compile=True)
    torch.compiler.reset()
    compiled._compile()
    with torch._dynamo.config.patch(error_on_recompile=True):
        for step in range(10):  # every one with other lengths and other borders
            compiled._step(step)
        wide = dataclasses.replace(compiled.config, micro_batch_rows=1)
        compiled.config = wide
        compiled._step(0)


@needs_compiler
def test_all_layers_share_two_compiled_pieces():
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    model = tiny_model(num_hidden_layers=5)
    model.call_layer = layer_call("none", compiled_layer())
    PretrainObjective().loss(model, BATCH).loss_sum.backward()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2


@needs_compiler
def test_an_evaluation_compiles_nothing(tmp_path):
    model = tiny_model()
    model.call_layer = layer_call("none", compiled_layer())
    torch._dynamo.utils.counters.clear()
    with torch.no_grad():
        model.logits(BATCH.input_ids, BATCH.position_ids, BATCH.cu_seqlens)
    assert not torch._dynamo.utils.counters["stats"]


@pytest.mark.parametrize("least_steps", [100, 0])
def test_where_few_steps_are_left_nothing_is_compiled(
    tmp_path, monkeypatch, least_steps
):
    monkeypatch.setattr(compiling, "LEAST_STEPS", least_steps)
    monkeypatch.setattr(compiling, "compiled_layer", None)  # to call it is an error
    short = trainer(tmp_path)
    short.run()
    assert short.state.run["compiled"] is False
    assert not (tmp_path / FILE_NAME).exists()


@pytest.mark.parametrize(
    ("passes", "eager_s", "compiled_s", "compile_s", "expected"),
    [
        (1000, 1.0, 0.9, 50.0, True),
        (400, 1.0, 0.9, 50.0, False),
        (10**9, 1.0, 0.99, 50.0, False),  # noise
        (10**9, 1.0, 1.2, 0.0, False),
    ],
)
def test_compiling_pays_if_the_passes_left_save_more_than_it_took(
    passes, eager_s, compiled_s, compile_s, expected
):
    assert pays(passes, eager_s, compiled_s, compile_s) is expected


@needs_compiler
@pytest.mark.parametrize("verdict", [True, False])
def test_auto_measures_once_and_keeps_to_it(tmp_path, monkeypatch, verdict):
    measure_always(monkeypatch)
    monkeypatch.setattr(compiling, "pays", lambda *_: verdict)
    with pytest.raises(Killed):
        trainer(tmp_path, hooks={"on_step": kill_after(2)}).run()
    found = json.loads((tmp_path / FILE_NAME).read_text())
    assert found["compiled"] is verdict
    assert found["eager_seconds"] > 0.0 < found["compiled_seconds"]
    assert not steps_in(tmp_path / "checkpoints")
    monkeypatch.setattr(compiling, "pays", lambda *_: not verdict)  # nobody asks again
    trainer(tmp_path).run()
    states = [read_state(folder) for folder in steps_in(tmp_path / "checkpoints")]
    assert {state.run["compiled"] for state in states} == {verdict}


@needs_compiler
def test_what_was_measured_of_another_model_does_not_decide(tmp_path, monkeypatch):
    measure_always(monkeypatch)
    monkeypatch.setattr(compiling, "pays", lambda *_: True)
    with pytest.raises(Killed):
        trainer(tmp_path, hooks={"on_step": kill_after(2)}).run()
    monkeypatch.setattr(compiling, "pays", lambda *_: False)
    other = trainer(tmp_path, recompute="full")
    other._compile()
    assert other.state.run["compiled"] is False


@needs_compiler
def test_measuring_leaves_the_run_as_it_was(tmp_path, monkeypatch):
    measure_always(monkeypatch)
    monkeypatch.setattr(compiling, "pays", lambda *_: False)
    state = torch.get_rng_state()
    measured = trainer(tmp_path / "measured")
    measured._compile()
    assert all(p.grad is None for p in measured.model.parameters())
    torch.set_rng_state(state)
    plain = trainer(tmp_path / "plain", compile=False)
    measured.run()
    plain.run()
    assert same_weights(measured.model, plain.model)


@needs_compiler
@pytest.mark.parametrize("begun", [True, False])
def test_another_choice_than_the_run_began_with_is_refused(tmp_path, begun):
    trainer(tmp_path, compile=begun).run()
    expected = rf"compile: expected `auto` or `{str(begun).lower()}`, as the run in"
    with pytest.raises(ConfigError, match=expected):
        trainer(tmp_path, compile=not begun).run()


def without_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    return "there is no C\\+\\+ compiler \\(`no-such-compiler`\\)"


def test_what_cannot_be_compiled_is_said_in_a_sentence(tmp_path, monkeypatch, caplog):
    measure_always(monkeypatch)
    caplog.set_level("INFO")
    sparse = family_model("mixtral")
    trainer(tmp_path / "sparse", model=sparse).run()
    assert "compile: `false`: the tokens that an expert gets are data" in caplog.text
    sentence = without_compiler(monkeypatch)
    with pytest.raises(ConfigError, match=f"found `true`, but {sentence}"):
        trainer(tmp_path / "asked", compile=True).run()
    trainer(tmp_path / "auto").run()
    assert "`no-such-compiler`" in caplog.text


@needs_compiler
def test_a_compiler_that_fails_is_a_sentence_and_the_run_is_eager(
    tmp_path, monkeypatch, caplog
):
    def broken():
        raise RuntimeError("\nno space left\nTraceback: …")

    measure_always(monkeypatch)
    monkeypatch.setattr(compiling, "compiled_layer", broken)
    caplog.set_level("INFO")
    assert trainer(tmp_path).run().step == 10
    assert "compile: `false`: compiling failed: no space left" in caplog.text
    assert "Traceback" not in caplog.text


@needs_compiler
def test_a_compiled_run_goes_on_where_nothing_compiles_and_says_so(
    tmp_path, monkeypatch, caplog
):
    with pytest.raises(Killed):
        trainer(tmp_path / "a", hooks={"on_step": kill_after(5)}, compile=True).run()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    without_compiler(monkeypatch)
    resumed = trainer(tmp_path / "b")
    assert resumed.run().step == 10
    assert resumed.state.run["compiled"] is False
    assert any(
        r.levelname == "WARNING" and "compile" in r.message for r in caplog.records
    )


@needs_compiler
def test_compiled_layers_train_in_bf16(tmp_path):
    trainer(tmp_path / "eager", compile=False, precision="bf16").run()
    trainer(tmp_path / "compiled", compile=True, precision="bf16").run()
    expected = losses(tmp_path / "eager")
    assert losses(tmp_path / "compiled") == pytest.approx(expected, rel=1e-2)
