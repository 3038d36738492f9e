"""Who computes an operator: what is said of it, what forces it, what stands in the way."""

import functools
import inspect
import logging
import subprocess
import sys
import types

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


def test_no_library_breaks_a_graph_of_torch_compile(monkeypatch):
    q = torch.zeros(4, 2, 64, dtype=torch.bfloat16)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert "a graph of torch.compile breaks" in libraries.half_obstacle(q)


def test_demanded_determinism_forbids_varlen():
    q = torch.zeros(4, 2, 64, dtype=torch.bfloat16)
    torch.use_deterministic_algorithms(True)
    try:
        assert "deterministic" in libraries.varlen_obstacle(q, q)
    finally:
        torch.use_deterministic_algorithms(False)


def flash_4(
    q,
    k,
    v,
    qv=None,
    cu_seqlens_q=None,
    cu_seqlens_k=None,
    max_seqlen_q=None,
    max_seqlen_k=None,
    softmax_scale=None,
    causal=False,
    window_size=(None, None),
    softcap=0.0,
    deterministic=False,
):
    """The arguments of flash-attn 4 of August 2026 that are of interest."""


def flash_3(
    q,
    k,
    v,
    cu_seqlens_q,
    cu_seqlens_k,
    max_seqlen_q,
    max_seqlen_k,
    softmax_scale=None,
    causal=False,
    window_size=(-1, -1),
    softcap=0.0,
    deterministic=False,
):
    """Those of flash-attn 3."""


def flash_2(
    q,
    k,
    v,
    cu_seqlens_q,
    cu_seqlens_k,
    max_seqlen_q,
    max_seqlen_k,
    dropout_p=0.0,
    softmax_scale=None,
    causal=False,
    window_size=(-1, -1),
    softcap=0.0,
    deterministic=False,
):
    """Those of flash-attn 2.8."""


def old_flash_2(
    q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p=0.0
):
    """Those of flash-attn 2.0."""


FLASH = {"flash_attn_4": flash_4, "flash_attn_3": flash_3, "flash_attn": flash_2}


@pytest.fixture
def install(monkeypatch):
    """Makes a module importable that has a function, which notes what it is called with."""

    def installed(name, function=None):
        module = types.ModuleType(libraries.LIBRARIES[name].module)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        if module.__name__ == "flash_attn.cute":  # a namespace, as its wheel has it
            package = types.ModuleType("flash_attn")
            package.__path__ = []
            monkeypatch.setitem(sys.modules, "flash_attn", package)
        if function is None:
            return []
        signature, calls = inspect.signature(function), []

        @functools.wraps(function)
        def noting(*args, **more):
            calls.append(signature.bind(*args, **more).arguments)
            return (args[0], None) if name == "flash_attn_4" else args[0]

        module.flash_attn_varlen_func = noting
        return calls

    monkeypatch.delitem(sys.modules, "flash_attn", raising=False)
    return installed


@pytest.mark.parametrize("rules", [(True, None), (False, None), (True, 5)])
@pytest.mark.parametrize("name", FLASH)
def test_each_flash_attn_is_called_as_it_declares_itself(install, name, rules):
    calls = install(name, FLASH[name])
    q, k = torch.zeros(7, 4, 64), torch.zeros(7, 2, 64)
    cu_seqlens = torch.tensor([0, 2, 7])  # int64, which all of them refuse
    dropout = 0.1 if name == "flash_attn" else 0.0
    options = Rules(*rules, None, 0.5, dropout)
    found = libraries.flash_attn(name, q, k, k, cu_seqlens, options)
    (bound,) = calls
    assert found is q
    assert bound["cu_seqlens_q"].dtype == bound["cu_seqlens_k"].dtype == torch.int32
    assert (bound["max_seqlen_q"], bound["max_seqlen_k"]) == (5, 5)
    assert (bound["causal"], bound["softmax_scale"]) == (rules[0], 0.5)
    assert bound["deterministic"]
    assert bound.get("dropout_p", 0.0) == dropout
    every = None if name == "flash_attn_4" else -1
    left = every if rules[1] is None else 4
    assert bound["window_size"] == (left, 0 if rules[0] else every)


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        ((7, 5), "cpu"),
        ((8, 6), "flash_attn"),
        ((9, 0), "flash_attn_4"),
        ((10, 0), "flash_attn_4"),
        ((12, 0), "flash_attn"),
    ],
)
def test_the_newest_flash_attn_that_runs_on_a_gpu_is_taken(
    monkeypatch, install, capability, expected
):
    monkeypatch.setattr(libraries, "capability", lambda: capability)
    monkeypatch.setattr(choice, "capability", lambda: capability)
    for name, function in FLASH.items():
        install(name, function)
    assert ops.implementation("attention", "cuda") == expected


@pytest.mark.parametrize(
    ("head_dim", "dropout", "expected"),
    [
        (64, 0.0, "flash_attn_4"),
        (192, 0.0, "flash_attn_3"),
        (256, 0.0, "flash_attn"),
        (64, 0.1, "flash_attn"),
    ],
)
def test_a_flash_attn_gets_nothing_that_it_lacks(install, head_dim, dropout, expected):
    for name, function in FLASH.items():
        install(name, function)
    q = torch.zeros(4, 2, head_dim, dtype=torch.bfloat16)
    found = [(name, libraries.flash_obstacle(name, q, dropout)) for name in FLASH]
    obstacles = tuple((name, why) for name, why in found[:2] if why)
    assert ops.implementation("attention", "cuda", obstacles) == expected


def test_a_flash_attn_that_cannot_be_called_is_none(monkeypatch, install, caplog):
    caplog.set_level(logging.INFO, "triptych.ops")
    install("flash_attn_4")  # alone it makes `flash_attn` a package with nothing in it
    assert ops.implementation("attention", "cuda") == "triton"
    assert "no `flash_attn`: module 'flash_attn' has no attribute" in caplog.text
    choice._choose.cache_clear()
    install("flash_attn", old_flash_2)
    assert ops.implementation("attention", "cuda") == "triton"
    assert "no `flash_attn`: it is too old" in caplog.text


@pytest.mark.parametrize("operator", choice.MULTIPLYING)
def test_a_gpu_without_tensor_cores_for_triton_is_left_to_pytorch(
    monkeypatch, caplog, operator
):
    monkeypatch.setattr(libraries, "capability", lambda: (7, 5))
    monkeypatch.setattr(choice, "capability", lambda: (7, 5))
    obstacles = (("chunked", "it keeps no token's loss"),)
    assert ops.implementation(operator, "cuda", obstacles) == "cpu"
    assert "no `triton`: Triton has no tensor cores on compute" in caplog.text
    assert ops.implementation("swiglu", "cuda") == "triton"
    assert ops.implementation("linear_cross_entropy", "cuda") == "chunked"


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
