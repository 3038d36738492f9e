"""A vocabulary spread over two and three processes against the whole of it."""

import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from triptych import ops
from triptych.ops import parallel_loss

VOCAB_SIZE = 131
TOKENS = 40
OPTIONS = {"z_loss": 1e-2, "label_smoothing": 0.1, "softcap": 5.0}


def make_inputs():
    """Hidden states, the whole weight, targets and a factor of each result."""
    torch.manual_seed(0)
    targets = torch.randint(0, VOCAB_SIZE, (TOKENS,))
    targets[3:6] = -100
    weight = torch.randn(VOCAB_SIZE, 24) * 0.5
    return torch.randn(TOKENS, 24), weight, targets, torch.randn(5, TOKENS)


def results(statistics, losses, hidden, weight, targets, factors):
    """(5, tokens) statistics and losses, and gradients of hidden and weight."""
    hidden, weight = (x.clone().requires_grad_() for x in (hidden, weight))
    found = torch.stack(
        (
            *statistics(hidden, weight, targets, temperature=0.7, softcap=5.0),
            losses(hidden, weight, targets, **OPTIONS),
        )
    )
    (found * factors).sum().backward()
    return found.detach(), hidden.grad, weight.grad


def slice_of(rank, ranks):
    """First id of a rank's slice, and one past its last; slices differ in length."""
    first, last = (
        VOCAB_SIZE * r // ranks + 2 * (0 < r < ranks) for r in (rank, rank + 1)
    )
    return first, last


def on_a_rank(rank, ranks, folder, names):
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=ranks
    )
    torch.set_num_threads(1)
    hidden, weight, targets, factors = make_inputs()
    first, last = slice_of(rank, ranks)
    place = {"group": None, "first_id": first, "vocab_size": VOCAB_SIZE}
    for name in names:
        os.environ["TRIPTYCH_OPS"] = name
        found = results(
            lambda *x, **o: parallel_loss.parallel_statistics(*x, **o, **place),
            lambda *x, **o: parallel_loss.parallel_cross_entropy(*x, **o, **place),
            hidden, weight[first:last], targets, factors,
        )  # fmt: skip
        torch.save(found, f"{folder}/{name}{rank}.pt")
    dist.destroy_process_group()


def close(found, expected):
    return (found - expected).norm() <= 1e-6 * expected.norm()


@pytest.mark.cpu_only
@pytest.mark.parametrize(("ranks", "names"), [(2, ("cpu", "triton")), (3, ("cpu",))])
def test_slices_of_a_vocabulary_give_what_the_whole_gives(
    tmp_path, monkeypatch, ranks, names
):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    mp.spawn(on_a_rank, (ranks, str(tmp_path), names), nprocs=ranks)
    monkeypatch.setenv("TRIPTYCH_OPS", "cpu")
    expected, of_hidden, of_weight = results(
        ops.linear_statistics,
        lambda *x, **o: ops.linear_cross_entropy(*x, **o, reduction="none"),
        *make_inputs(),
    )
    assert slice_of(ranks - 1, ranks)[1] == VOCAB_SIZE
    for name in names:
        all_found = [
            torch.load(tmp_path / f"{name}{rank}.pt", weights_only=True)
            for rank in range(ranks)
        ]
        for rank, (found, grad_hidden, grad_weight) in enumerate(all_found):
            first, last = slice_of(rank, ranks)
            assert torch.equal(found, all_found[0][0])
            assert torch.equal(found[:, 3:6], torch.zeros(5, 3))
            assert close(grad_hidden, of_hidden)
            assert close(grad_weight, of_weight[first:last])
            for f, e in zip(found, expected, strict=True):
                assert close(f, e)


def test_a_slice_outside_the_vocabulary_is_named():
    hidden, weight, targets, _ = make_inputs()
    with pytest.raises(ValueError, match=r"inside \[0, 131\), found \[5, 136\)"):
        parallel_loss.parallel_statistics(
            hidden, weight, targets, group=None, first_id=5, vocab_size=131
        )


@pytest.fixture
def _one_rank(tmp_path):
    meet = f"file://{tmp_path}/meet"
    dist.init_process_group("gloo", init_method=meet, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.cpu_only
@pytest.mark.usefixtures("_one_rank")
@pytest.mark.parametrize("wrong", [-7, VOCAB_SIZE, 10**9])
def test_a_target_that_no_slice_has_is_refused_and_nan_on_a_device(monkeypatch, wrong):
    hidden, weight, targets, _ = make_inputs()
    targets[0] = wrong
    place = {"group": None, "first_id": 0, "vocab_size": VOCAB_SIZE}
    for function in ("parallel_statistics", "parallel_logprobs"):
        with pytest.raises(ValueError, match=rf"ids below 131, found {wrong}"):
            getattr(parallel_loss, function)(hidden, weight, targets, **place)
    # A GPU is not asked; only what is there of its path without one.
    monkeypatch.setattr(parallel_loss, "check_ids", lambda *_: None)
    losses = parallel_loss.parallel_cross_entropy(hidden, weight, targets, **place)
    assert losses.isnan().nonzero().tolist() == [[0]]


@pytest.mark.cpu_only
@pytest.mark.usefixtures("_one_rank")
def test_large_logits_lose_no_digits_of_a_probability():
    ids = torch.arange(20)
    weight = 30.0 / 4 * torch.randn(VOCAB_SIZE, 20)
    weight[ids, ids], weight[ids + 1, ids] = 30.0, 29.5  # they share it
    place = {"group": None, "first_id": 0, "vocab_size": VOCAB_SIZE}
    found = parallel_loss.parallel_logprobs(torch.eye(20), weight, ids, **place)
    exact = weight.double().log_softmax(0)[ids, ids]
    assert (found - exact).norm() <= 2e-7 * exact.norm()


def test_a_slice_that_has_most_of_the_probability_keeps_the_digits_of_the_rest():
    lses = torch.tensor([[31.1, 100.5], [27.3, 96.2], [26.1, -50.0]])
    logps = torch.tensor([[-1e-4, -2e-5], [-torch.inf] * 2, [-torch.inf] * 2])
    gathered = torch.stack((lses, torch.zeros(3, 2), logps, lses), dim=1)

    def gradient(gathered):
        leaf = gathered.clone().requires_grad_()
        found = parallel_loss._combined(leaf, torch.tensor([False] * 2), VOCAB_SIZE)
        (found.logps + found.entropy).sum().backward()
        return found.logps.detach(), found.entropy.detach(), leaf.grad[1:, 0]

    for f, e in zip(gradient(gathered), gradient(gathered.double()), strict=True):
        assert (f - e).norm() <= 2e-6 * e.norm()


@pytest.mark.parametrize(
    ("option", "message"),
    [({"z_loss": -1.0}, "z_loss"), ({"label_smoothing": 1.5}, "label_smoothing")],
)
def test_a_cost_that_the_whole_vocabulary_refuses_is_refused_of_a_slice(
    option, message
):
    hidden, weight, targets, _ = make_inputs()
    place = {"group": None, "first_id": 0, "vocab_size": VOCAB_SIZE}
    with pytest.raises(ValueError, match=message):
        parallel_loss.parallel_cross_entropy(hidden, weight, targets, **place, **option)
