"""AdamW without torch's compiler: the same numbers, and nothing of it loaded."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from triptych.train.adamw import AdamW


@pytest.mark.parametrize("fused", [False, True])
def test_steps_and_state_are_those_of_torch_bit_for_bit(fused):
    weights = [torch.randn(3, 5, generator=torch.manual_seed(0)) for _ in range(2)]
    ours, theirs = (
        make(
            [w.clone().requires_grad_() for w in weights],
            lr=0.1,
            weight_decay=0.2,
            fused=fused,
        )
        for make in (AdamW, torch.optim.AdamW)
    )
    for step in range(3):
        for optimizer in (ours, theirs):
            optimizer.zero_grad()
            for index, weight in enumerate(optimizer.param_groups[0]["params"]):
                weight.grad = torch.full_like(weight, 0.1 * step + index)
            optimizer.step()
    pairs = zip(*(o.param_groups[0]["params"] for o in (ours, theirs)), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    fresh = AdamW([w.clone().requires_grad_() for w in weights], fused=fused)
    fresh.load_state_dict(theirs.state_dict())
    for one, other in zip(fresh.state.values(), theirs.state.values(), strict=True):
        assert all(torch.equal(one[key], other[key]) for key in other)


def test_hooks_of_a_step_are_called():
    optimizer = AdamW([torch.ones(2, requires_grad=True)])
    called = []
    optimizer.register_step_post_hook(lambda *_: called.append(1))
    optimizer.step()
    assert called == [1]


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_run_that_compiles_nothing_loads_no_compiler(tmp_path, name):
    code = f"""
import sys
from test_trainer import train
from triptych.train import OptimizerConfig
train({str(tmp_path)!r}, optimizer=OptimizerConfig(name={name!r}), precision="bf16")
print("torch._dynamo" in sys.modules, "sympy" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip().split("\n")[-1] == "False False", done.stderr[-500:]
