"""Muon: its orthogonal updates, its groups, its state."""

import pytest
import torch

from tiny import VOCAB_SIZE, tiny_model
from triptych.errors import ConfigError
from triptych.ops import orthogonalize
from triptych.train.muon import Muon
from triptych.train.optimizer import OptimizerConfig, create_optimizer, set_lr
from triptych.train.schedule import StageSchedule
from triptych_kernels import reference


def settings(**changes):
    return OptimizerConfig(name="muon", **changes)


def train(model, optimizer, steps):
    torch.manual_seed(1)
    ids = torch.randint(0, VOCAB_SIZE, (4, 17))
    for _ in range(steps):
        logits = model.logits(ids[:, :-1]).flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits, ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


@pytest.mark.parametrize("shape", [(16, 16), (8, 40), (40, 8), (3, 12, 24)])
def test_an_orthogonalised_matrix_keeps_singular_vectors_and_evens_the_values(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    result = orthogonalize(matrix, dtype=torch.float32)
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    inner = u.mT @ result @ vh.mT
    values = inner.diagonal(dim1=-2, dim2=-1)
    off_diagonal = inner - torch.diag_embed(values)
    assert off_diagonal.abs().max() < 1e-4
    assert values.max() < 1.3
    assert values.median() > 0.6


@pytest.mark.parametrize("method", ["newton-schulz", "polar-express"])
@pytest.mark.parametrize("shape", [(16, 16), (3, 12, 24), (2, 2, 24, 12)])
def test_the_fast_products_make_what_the_plain_twin_makes(shape, method):
    torch.manual_seed(0)
    matrices = torch.randn(shape)
    ours = orthogonalize(matrices, method=method, dtype=torch.float32)
    twin = reference.orthogonalize(matrices, method=method, dtype=torch.float32)
    torch.testing.assert_close(ours, twin, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("convention", "theirs"), [("spectral", "original"), ("rms", "match_rms_adamw")]
)
def test_the_updates_are_those_of_torch_up_to_the_rounding_of_bf16(convention, theirs):
    torch.manual_seed(0)
    start = torch.randn(24, 8)
    ours, exact, other = (torch.nn.Parameter(start.clone()) for _ in range(3))
    optimizers = [
        Muon([{"params": [ours], "muon": True}], lr=0.02, convention=convention),
        Muon(
            [{"params": [exact], "muon": True}],
            lr=0.02,
            convention=convention,
            dtype=torch.float32,
        ),
        torch.optim.Muon([other], lr=0.02, adjust_lr_fn=theirs),
    ]
    for _ in range(5):
        gradient = torch.randn(24, 8)
        for parameter, optimizer in zip((ours, exact, other), optimizers, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
    rounding = (ours - exact).norm()
    assert (ours - other).norm() < 2 * rounding
    assert rounding < 0.05 * (exact - start).norm()


def test_the_rest_is_updated_as_by_adamw_of_torch():
    torch.manual_seed(0)
    ours = torch.nn.Parameter(torch.randn(9))
    other = torch.nn.Parameter(ours.detach().clone())
    one = Muon([{"params": [ours]}], lr=0.01)
    two = torch.optim.AdamW([other], lr=0.01, betas=(0.9, 0.95), weight_decay=0.1)
    for _ in range(5):
        ours.grad = torch.randn(9)
        other.grad = ours.grad.clone()
        one.step()
        two.step()
    torch.testing.assert_close(ours, other)


@pytest.mark.parametrize("tied", [True, False])
def test_every_parameter_is_in_one_group_and_only_inner_matrices_in_muons(tied):
    model = tiny_model(tie_word_embeddings=tied, qk_norm=True)
    optimizer = create_optimizer(model, settings(), 1e-2)
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())
    muon = {id(p) for g in optimizer.param_groups if g["muon"] for p in g["params"]}
    inner = {id(p) for n, p in model.named_parameters() if "proj" in n}
    assert muon == inner


def test_muon_fits_a_batch():
    model = tiny_model()
    optimizer = create_optimizer(model, settings(), 1e-2)
    assert train(model, optimizer, 1) > 4.0  # log(97) = 4.6
    assert train(model, optimizer, 30) < 1.0


def test_the_state_goes_on_bitwise():
    whole, halves = tiny_model(), tiny_model()
    train(whole, create_optimizer(whole, settings(), 1e-2), 3)
    first = create_optimizer(halves, settings(), 1e-2)
    train(halves, first, 2)
    second = create_optimizer(halves, settings(), 1e-2)
    second.load_state_dict(first.state_dict())
    train(halves, second, 1)
    pairs = zip(whole.parameters(), halves.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_the_rate_of_the_rest_keeps_its_proportion_to_muons():
    model = tiny_model()
    optimizer = create_optimizer(model, settings(other_lr_ratio=0.25), 1e-2)
    set_lr(optimizer, 2e-3)
    rates = {group["muon"]: group["lr"] for group in optimizer.param_groups}
    assert rates == {True: 2e-3, False: 5e-4}


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_embeddings_and_head_have_rates_of_their_own(name):
    model = tiny_model(tie_word_embeddings=False)
    config = OptimizerConfig(name=name, embedding_lr_ratio=3.0, head_lr_ratio=0.5)
    optimizer = create_optimizer(model, config, 1e-2)
    set_lr(optimizer, 2e-2)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rates = {
        names[id(p)]: group["lr"]
        for group in optimizer.param_groups
        for p in group["params"]
    }
    assert rates.pop("model.embed_tokens.weight") == pytest.approx(6e-2)
    assert rates.pop("lm_head.weight") == pytest.approx(1e-2)
    assert set(rates.values()) == {2e-2}


@pytest.mark.parametrize(
    ("message", "shape", "options"),
    [
        (r"matrices: .* found \(3,\)", (3,), {}),
        ("steps: expected at least 1, found 0", (3, 4), {"steps": 0}),
        (r"dtype: .* found torch\.float64", (3, 4), {"dtype": torch.float64}),
    ],
)
def test_what_cannot_be_made_orthogonal_is_refused(message, shape, options):
    with pytest.raises(ValueError, match=message):
        orthogonalize(torch.ones(shape), **options)
    assert orthogonalize(torch.ones(2, 0, 4)).shape == (2, 0, 4)


def test_a_vector_is_no_matrix_for_muon():
    with pytest.raises(ConfigError, match=r"matrices only, found.*\(4,\)"):
        Muon([{"params": [torch.nn.Parameter(torch.ones(4))], "muon": True}], lr=1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "sgd"}, "name: expected one of `adamw`, `muon`, found `sgd`"),
        ({"lr_convention": "x"}, "lr_convention: expected one of.*found `x`"),
        ({"momentum": 1.0}, r"momentum: expected in \[0, 1\), found 1.0"),
        ({"other_lr_ratio": 0.0}, "other_lr_ratio: expected above 0, found 0.0"),
        ({"head_lr_ratio": -1.0}, "head_lr_ratio: expected above 0, found -1.0"),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        OptimizerConfig(**changes)


def stage(schedule, **changes):
    values = {"steps": 100, "max_lr": 1.0, "min_lr_ratio": 0.0, "warmup_steps": 20}
    return StageSchedule(name="s", schedule=schedule, **{**values, **changes})


def test_wsd_sqrt_decays_by_one_minus_the_root():
    schedule = stage("wsd_sqrt", decay_ratio=0.5)  # decays from step 60 to 100
    assert schedule.lr(60) == 1.0
    assert schedule.lr(70) == pytest.approx(1.0 - 0.25**0.5)
    assert schedule.lr(100) == 0.0


def test_inverse_sqrt_halves_where_the_step_has_quadrupled():
    schedule = stage("inverse_sqrt")
    assert schedule.lr(20) == 1.0
    assert schedule.lr(80) == pytest.approx(0.5)


@pytest.mark.parametrize("warmup_steps", [0, 1])
def test_inverse_sqrt_without_warm_up_begins_at_its_peak(warmup_steps):
    schedule = stage("inverse_sqrt", warmup_steps=warmup_steps)
    rates = [schedule.lr(step) for step in (1, 4, 25, 100)]
    assert rates == pytest.approx([1.0, 0.5, 0.2, 0.1])
