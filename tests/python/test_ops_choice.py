"""Who computes an operator: what is said of it, what forces it, what stands in the way."""

import inspect
import logging
import subprocess
import sys

import pytest
import torch

from triptych import ops
from triptych.errors import ConfigError
from triptych.ops import choice, libraries
from triptych.ops.libraries import Rules


@pytest.fixture(autouse=True)
def _unforced(monkeypatch):
    monkeypatch.delenv("TRIPTYCH_OPS", raising=False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    choice._choose.cache_clear()
    yield
    choice._choose.cache_clear()


def test_a_choice_is_logged_once(caplog):
    caplog.set_level(logging.INFO, "triptych.ops")
    for _ in range(3):
        ops.geglu(torch.ones(2, 4), torch.ones(2, 4))
    assert [record.getMessage().strip() for record in caplog.records] == [
        "geglu on cpu: `cpu`"
    ]


def test_a_slow_choice_is_a_warning_that_names_the_reason(caplog):
    obstacles = (("triton", "a width of 20000 is above 16384"),)
    assert ops.implementation("rms_norm", "cuda", obstacles) == "cpu"
    (warning,) = (r for r in caplog.records if r.levelname == "WARNING")
    assert "rms_norm on cuda: `cpu`, plain PyTorch, is slow here" in warning.message
    assert "no `triton`: a width of 20000 is above 16384" in warning.message


def test_attention_on_cuda_says_why_each_of_three_is_not_taken(caplog):
    obstacles = tuple((name, f"{name}'s why") for name in ("flash_attn", "triton"))
    chosen = ops.implementation("attention", "cuda", obstacles)
    assert chosen == "varlen"
    obstacles += (("varlen", "varlen's why"),)
    assert ops.implementation("attention", "cuda", obstacles) == "cpu"
    for name in ("flash_attn", "triton", "varlen"):
        assert f"{name}'s why" in caplog.records[-1].message


def test_a_compiler_makes_small_operators_itself_unless_told_not_to(monkeypatch):
    chosen = [
        ops.implementation(name, "cuda", compiling=True)
        for name in ("rms_norm", "rope", "swiglu", "attention")
    ]
    assert chosen[:3] == ["cpu"] * 3
    assert chosen[3] == ops.implementation("attention", "cuda")
    monkeypatch.setenv("TRIPTYCH_OPS", "rms_norm=triton")
    assert ops.implementation("rms_norm", "cuda", compiling=True) == "triton"


def test_only_a_sum_of_losses_is_taken_in_chunks():
    assert ops.implementation("linear_cross_entropy", "cuda") == "chunked"
    obstacles = (("chunked", "it keeps no token's loss"),)
    assert ops.implementation("linear_cross_entropy", "cuda", obstacles) == "triton"


@pytest.mark.parametrize(
    ("setting", "operator", "expected"),
    [
        ("cpu", "swiglu", "cpu"),
        ("reference", "swiglu", "reference"),
        ("reference,swiglu=cpu", "swiglu", "cpu"),
        ("swiglu=reference, cpu", "swiglu", "reference"),
        ("swiglu=reference", "geglu", "cpu"),
    ],
)
def test_the_variable_forces_all_operators_or_one(
    monkeypatch, setting, operator, expected
):
    monkeypatch.setenv("TRIPTYCH_OPS", setting)
    assert ops.implementation(operator, "cpu") == expected


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("fastest", "expected one of .*'triton'.* found `fastest`"),
        ("rmsnorm=cpu", "expected one of .*'rms_norm'.* found `rmsnorm`"),
        ("swiglu=varlen", "found `varlen`"),
        ("linear_logprobs=chunked", "found `chunked`"),
        ("attention=varlen", "varlen runs on CUDA only"),
        ("attention=triton", "TRITON_INTERPRET=1"),
    ],
)
def test_what_cannot_be_had_is_an_error(monkeypatch, setting, message):
    monkeypatch.setenv("TRIPTYCH_OPS", setting)
    with pytest.raises(ConfigError, match=message):
        ops.implementation("attention", "cpu")


def test_a_forced_choice_with_an_obstacle_is_an_error(monkeypatch):
    monkeypatch.setenv("TRIPTYCH_OPS", "attention=triton")
    q = torch.randn(4, 1, 300)
    with pytest.raises(ConfigError, match="`triton`: a head dim of 300 is above 256"):
        ops.attention(q, q, q)


def test_the_libraries_say_what_they_lack():
    q = torch.zeros(4, 2, 64, dtype=torch.bfloat16)
    assert libraries.half_obstacle(q) == ""
    assert "torch.float32" in libraries.half_obstacle(q.float())
    assert "head dim of 60" in libraries.half_obstacle(q[..., :60])
    assert "head dim of 264" in libraries.half_obstacle(q.repeat(1, 1, 5)[..., :264])


def test_demanded_determinism_forbids_varlen():
    q = torch.zeros(4, 2, 64, dtype=torch.bfloat16)
    torch.use_deterministic_algorithms(True)
    try:
        assert "deterministic" in libraries.varlen_obstacle(q, q)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [((False, None), (-1, -1)), ((True, None), (-1, 0)), ((True, 5), (4, 0))],
)
def test_a_window_is_what_a_query_sees_beside_itself(rules, expected):
    assert libraries._window_size(Rules(*rules, None, None, 0.0)) == expected


def test_varlen_is_called_as_this_torch_declares_it(monkeypatch):
    varlen = pytest.importorskip("torch.nn.attention.varlen")
    signature = inspect.signature(varlen.varlen_attn)
    calls = []
    monkeypatch.setattr(
        varlen,
        "varlen_attn",
        lambda *args, **more: calls.append(signature.bind(*args, **more)),
    )
    monkeypatch.setattr(libraries, "_varlen_has", signature.parameters.__contains__)
    q, k = torch.zeros(7, 4, 64), torch.zeros(7, 2, 64)
    cu_seqlens = torch.tensor([0, 2, 7], dtype=torch.int32)
    libraries.varlen(q, k, k, cu_seqlens, Rules(True, 3, None, 0.5, 0.0))
    bound = calls[0].arguments
    assert bound["window_size"] == (2, 0)
    assert (bound["max_q"], bound["scale"], bound["enable_gqa"]) == (5, 0.5, True)


HALF, WHOLE = torch.bfloat16, torch.float32


@pytest.mark.parametrize("dtypes", [(HALF, HALF), (HALF, WHOLE), (WHOLE, HALF)])
@pytest.mark.parametrize("casting", ["none", "llama", "gemma"])
def test_the_plain_norm_equals_the_reference(casting, dtypes):
    reference = pytest.importorskip("triptych_kernels.reference")
    x, residual = (torch.randn(3, 8).to(dtype) for dtype in dtypes)
    weight = torch.randn(8)
    found = ops.add_rms_norm(x, residual, weight, 1e-6, casting=casting)
    expected = reference.rms_norm(x, weight, 1e-6, residual=residual, casting=casting)
    for f, e in zip(found, expected, strict=True):
        assert f.dtype == e.dtype
        torch.testing.assert_close(f, e)
    with pytest.raises(ValueError, match='found "half"'):
        ops.rms_norm(x, weight, 1e-6, casting="half")


def test_the_plain_activations_equal_the_reference():
    reference = pytest.importorskip("triptych_kernels.reference")
    gate, up = torch.randn(2, 3, 8)
    for name in ("swiglu", "geglu", "relu2"):
        found = getattr(ops, name)(gate, up)
        torch.testing.assert_close(found, getattr(reference, name)(gate, up))
    torch.testing.assert_close(ops.relu2(gate), reference.relu2(gate))


def test_both_turned_at_once_equal_each_turned_alone():
    q, k = torch.randn(5, 4, 8), torch.randn(5, 2, 8)
    tables = ops.rotary_tables(torch.arange(5), 8, 100.0)
    both = ops.rope(q, k, *tables)
    assert torch.equal(both[0], ops.rotate(q, *tables))
    assert torch.equal(both[1], ops.rotate(k, *tables))


def test_a_model_without_a_compiler_asked_for_does_not_load_one():
    program = "import sys, triptych.language_model; print(*sys.modules)"
    command = [sys.executable, "-c", program]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "torch._dynamo" not in loaded.split()


def test_one_choice_of_the_kernels_makes_all_of_them_known(monkeypatch):
    monkeypatch.setattr(choice, "_FUNCTIONS", {})
    choice._choose.cache_clear()
    monkeypatch.setenv("TRIPTYCH_OPS", "reference")
    assert choice.implementation("swiglu", "cpu") == "reference"
    known = {operator for operator, name in choice._FUNCTIONS if name == "reference"}
    assert known == set(choice.OPERATORS) - {"linear"}  # which is torch's
