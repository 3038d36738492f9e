"""The engine's kernels for CPUs beside float64 and beside plain PyTorch."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from op_results import numbers, results
from triptych import _core, ops
from triptych.errors import ConfigError
from triptych.ops import choice
from triptych.ops.attention import attention_seed
from triptych_kernels import reference

DTYPES = [torch.float32, torch.bfloat16]
# Of the largest number: what rounding to the type does, and sums of some hundreds.
TOLERANCE = {torch.float32: 3e-6, torch.bfloat16: 8e-3}

pytestmark = pytest.mark.skipif(
    not _core.cpu_has_vectors(), reason="the processor has no vectors"
)


@pytest.fixture(autouse=True)
def _forced(monkeypatch):
    """What cannot be computed by the engine fails."""
    monkeypatch.setenv("TRIPTYCH_OPS", "rust")
    monkeypatch.setattr(choice, "NAMES", (*choice.NAMES, "rust"))


def plainly(monkeypatch):
    monkeypatch.setenv("TRIPTYCH_OPS", "cpu")


def assert_close(found, wanted, dtype, most=1.0):
    for one, other in zip(found, wanted, strict=True):
        error = (one.double() - other.double()).abs().max()
        assert error <= most * TOLERANCE[dtype] * other.abs().max().clamp(min=0.1)


def explicit(q, k, v, bounds, causal, window, scale):
    """Attention of float64, document by document, with a mask."""
    group = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(group, dim=1) for x in (k, v))
    pieces = []
    for start, end in itertools.pairwise(bounds):
        a, b, c = (x[start:end].transpose(0, 1) for x in (q, k, v))
        place = torch.arange(end - start)
        distance = place[:, None] - place
        hidden = torch.zeros_like(distance, dtype=torch.bool)
        if causal:
            hidden |= distance < 0
        if window is not None:
            hidden |= distance >= window
        scores = (a @ b.transpose(1, 2) * scale).masked_fill(hidden, -math.inf)
        pieces.append((scores.softmax(-1) @ c).transpose(0, 1))
    return torch.cat(pieces)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("lengths", "heads", "kv_heads", "head_dim", "causal", "window"),
    [
        ([1], 1, 1, 16, True, None),
        ([64, 64], 2, 2, 64, True, None),
        ([5, 0, 130, 1, 63], 4, 2, 32, True, None),
        ([200, 70], 6, 2, 80, True, 50),
        ([97], 3, 1, 128, False, None),
        ([65, 300], 2, 1, 256, True, 65),
        ([1, 16, 17, 15, 0, 2, 1], 2, 1, 48, True, None),
        ([600, 16], 1, 1, 32, False, None),
    ],
)
def test_attention_and_its_gradients_are_those_of_float64(
    dtype, lengths, heads, kv_heads, head_dim, causal, window
):
    bounds = [0, *itertools.accumulate(lengths)]
    tokens = bounds[-1]
    q = numbers(tokens, heads, head_dim, seed=1, dtype=dtype)
    k = numbers(tokens, kv_heads, head_dim, seed=2, dtype=dtype)
    v = numbers(tokens, kv_heads, head_dim, seed=3, dtype=dtype)
    cu_seqlens = torch.tensor(bounds, dtype=torch.int32)
    scale = head_dim**-0.5

    def ours(q, k, v):
        return ops.attention(
            q, k, v, cu_seqlens=cu_seqlens, causal=causal, window=window
        )

    def exact(q, k, v):
        return explicit(q, k, v, bounds, causal, window, scale)

    found = results(ours, q, k, v)
    assert all(x.dtype == dtype for x in found)
    wanted = results(exact, *(x.double() for x in (q, k, v)))
    assert_close(found, wanted, dtype, most=2.0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "rules",
    [
        {"softcap": 3.0},
        {"softcap": 50.0, "window": 70, "scale": 0.2},
        {"sinks": (0.5, -3.0, 4.0, 0.0)},
        {"pairs": [(0, 0), (5, 5), (40, 110), (136, 170)]},
        {
            "softcap": 4.0,
            "sinks": (1.0,) * 4,
            "pairs": [(0, 3), (5, 5), (5, 90), (140, 190)],
        },
    ],
)
def test_caps_sinks_and_pairs_and_their_gradients_are_those_of_float64(dtype, rules):
    bounds = torch.tensor([0, 5, 5, 135, 198], dtype=torch.int32)
    q = numbers(198, 4, 32, seed=1, dtype=dtype)
    k, v = (numbers(198, 2, 32, seed=seed, dtype=dtype) for seed in (2, 3))
    given = {name: x for name, x in rules.items() if name != "sinks"}
    if "pairs" in given:
        given["pairs"] = torch.tensor(given["pairs"], dtype=torch.int32)
    sinks = [torch.tensor(rules["sinks"])] if "sinks" in rules else []

    def computed(function):
        def call(q, k, v, *sinks):
            options = given | ({"sinks": sinks[0]} if sinks else {})
            return function(q, k, v, cu_seqlens=bounds, **options)

        return call

    found = results(computed(ops.attention), q, k, v, *sinks)
    exact = computed(reference.attention)
    wanted = results(exact, *(x.double() for x in (q, k, v, *sinks)))
    assert_close(found, wanted, dtype, most=3.0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tokens", [2, 5, 19, 70, 150])
def test_a_document_that_is_a_first_response_alone_has_gradients(dtype, tokens):
    q, k, v = (numbers(tokens, 1, 32, seed=seed, dtype=dtype) for seed in range(3))
    pairs = torch.tensor([[0, tokens]])
    found = results(lambda *x: ops.attention(*x, pairs=pairs), q, k, v)
    wanted = results(ops.attention, q, k, v)
    assert all(map(torch.equal, found, wanted))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_response_of_one_token_without_a_prompt_moves_neither_query_nor_key(dtype):
    q, k, v = (numbers(10, 1, 32, seed=seed, dtype=dtype) for seed in range(3))
    pairs = torch.tensor([[0, 9]])
    _, *gradients = results(lambda *x: ops.attention(*x, pairs=pairs), q, k, v)
    assert all(gradient[9].abs().max() < 1e-30 for gradient in gradients[:2])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_document_has_the_same_bits_wherever_it_is_and_on_any_threads(dtype):
    q, k, v = (numbers(170, 2, 32, seed=i, dtype=dtype) for i in range(3))
    before = torch.tensor([0, 70, 170], dtype=torch.int32)

    def packed(q, k, v):
        return ops.attention(q, k, v, cu_seqlens=before)

    with_others = results(packed, q, k, v)[0][70:]
    alone = ops.attention(q[70:], k[70:], v[70:])
    assert torch.equal(with_others, alone)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = results(packed, q, k, v)
        torch.set_num_threads(3)
        three = results(packed, q, k, v)
    finally:
        torch.set_num_threads(threads)
    assert all(map(torch.equal, one, three))


def test_attention_takes_what_is_not_contiguous_and_autocasts_as_torch_does():
    q, k, v = (numbers(2, 40, 48, seed=i).transpose(0, 1) for i in range(3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = ops.attention(q, k, v)
    assert mixed.dtype == torch.bfloat16
    narrow = [x.bfloat16() for x in (q, k, v)]
    assert torch.equal(mixed, ops.attention(*narrow))


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_not_a_number_shows_and_stays_in_its_document(dtype):
    q, k, v = (numbers(140, 2, 32, seed=i, dtype=dtype) for i in range(3))
    k[3, 0, 5] = math.nan
    bounds = torch.tensor([0, 70, 140], dtype=torch.int32)
    mixed = ops.attention(q, k, v, cu_seqlens=bounds)
    assert mixed[3:70, 0].isnan().all()
    assert mixed[:3].isfinite().all()
    assert mixed[70:].isfinite().all()
    hidden = numbers(20, 32, dtype=dtype)
    hidden[4, 4] = math.nan
    loss = ops.linear_cross_entropy(
        hidden, numbers(50, 32), torch.arange(20), reduction="sum"
    )
    assert loss.isnan()
    gate = torch.full((2, 16), math.nan, dtype=dtype)
    assert ops.swiglu(gate, torch.ones_like(gate)).isnan().all()


def test_attention_is_an_operator_that_torch_can_check():
    q, k, v = (numbers(20, 2, 16, seed=i).requires_grad_() for i in range(3))
    cu_seqlens = torch.tensor([0, 8, 20], dtype=torch.int32)
    operator = torch.ops.triptych.rust_attention.default
    sinks = numbers(2, seed=4).requires_grad_()
    pairs = torch.tensor([[3, 5], [8, 8]])
    seed = torch.tensor(7)
    for extras, dropout in (((None, None, None), 0.0), ((sinks, pairs, seed), 0.5)):
        rules = (cu_seqlens, *extras, True, None, 20.0, 0.25, dropout)
        torch.library.opcheck(operator, (q, k, v, *rules))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_gated_activation_and_its_gradients_are_those_of_float64(dtype):
    gate, up = (3 * numbers(37, 48, seed=i, dtype=dtype) for i in (1, 2))
    found = results(ops.swiglu, gate, up)
    wanted = results(lambda a, b: F.silu(a) * b, gate.double(), up.double())
    assert_close(found, wanted, dtype)


def test_a_gate_far_from_zero_is_open_or_shut():
    gate = torch.tensor([[-200.0] * 16, [200.0] * 16])
    gated, of_gate, of_up = results(ops.swiglu, gate, torch.ones(2, 16))
    # What is shut is 0 by AVX-512 and 1e-36 by AVX2.
    assert gated.flatten().tolist() == pytest.approx(
        [0.0] * 16 + [200.0] * 16, abs=1e-30
    )
    assert of_gate.isfinite().all()
    assert of_up.isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_rotation_and_its_gradient_are_those_of_float64(dtype):
    x = numbers(45, 3, 64, seed=1, dtype=dtype)
    cos, sin = ops.rotary_tables(torch.arange(45), 64, 10_000.0)

    def exact(x):
        a, b = x.chunk(2, dim=-1)
        wide = cos.double(), sin.double()
        return torch.cat((a * wide[0] - b * wide[1], b * wide[0] + a * wide[1]), -1)

    found = results(lambda x: ops.rotate(x, cos, sin), x)
    assert_close(found, results(exact, x.double()), dtype)


@pytest.mark.parametrize("casting", ["none", "gemma"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_norm_rounded_to_bf16_and_its_gradients_are_those_of_float64(dtype, casting):
    x, weight = numbers(67, 48, seed=1, dtype=dtype), numbers(48, seed=2)

    def ours(x, weight):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return ops.rms_norm(x, weight, 1e-5, casting=casting, narrow=True)

    def exact(x, weight):
        factor = weight + 1.0 if casting == "gemma" else weight
        return F.rms_norm(x, (48,), factor, 1e-5)

    found = results(ours, x, weight)
    assert [y.dtype for y in found] == [torch.bfloat16, dtype, torch.float32]
    wanted = results(exact, x.double(), weight.double())
    assert_close(found, wanted, torch.bfloat16)


def test_a_norm_stays_float32_where_something_else_reads_it(monkeypatch):
    monkeypatch.delenv("TRIPTYCH_OPS")
    x, weight = numbers(4, 32), torch.ones(32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ops.rms_norm(x, weight, 1e-5).dtype == torch.float32
    assert ops.rms_norm(x, weight, 1e-5, narrow=True).dtype == torch.float32


COSTS = [
    {},
    {"z_loss": 1e-2, "label_smoothing": 0.1},
    {"softcap": 3.0},
    {"reduction": "none", "softcap": 20.0, "label_smoothing": 0.2},
]


@pytest.mark.parametrize("costs", COSTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("vocab_size", [7, 64, 515])
def test_a_loss_and_its_gradients_are_those_of_plain_pytorch(
    monkeypatch, dtype, vocab_size, costs
):
    hidden = numbers(600, 32, seed=1)  # a chunk and a part of one
    weight = numbers(vocab_size, 32, seed=2)
    targets = torch.randint(vocab_size, (600,), generator=torch.manual_seed(0))
    targets[::9] = -100
    weights = numbers(600, seed=3).abs()

    def loss(hidden, weight):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            options = {"weights": weights, "reduction": "sum"} | costs
            return ops.linear_cross_entropy(hidden, weight, targets, **options)

    found = results(loss, hidden, weight)
    plainly(monkeypatch)
    assert_close(found, results(loss, hidden, weight), dtype)


@pytest.mark.parametrize(
    "shape", [{}, {"temperature": 0.7}, {"temperature": 2, "softcap": 3}]
)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("vocab_size", [1, 64, 515])
def test_statistics_of_tokens_and_their_gradients_are_those_of_plain_pytorch(
    monkeypatch, dtype, vocab_size, shape
):
    hidden = numbers(600, 32, seed=1)
    weight = numbers(vocab_size, 32, seed=2)
    targets = torch.randint(vocab_size, (600,), generator=torch.manual_seed(0))
    targets[::9] = -100

    def statistics(hidden, weight):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            four = ops.linear_statistics(hidden, weight, targets, **shape)
            logps = ops.linear_logprobs(hidden, weight, targets, **shape)
        return torch.stack((*four, logps))

    found = results(statistics, hidden, weight)
    assert found[0].dtype == torch.float32
    plainly(monkeypatch)
    assert_close(found, results(statistics, hidden, weight), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"window": 5, "scale": -0.3},
        {"softcap": 2.0},
        {"window": 70, "softcap": 9.0, "sinks": torch.tensor([1.0, -9.0, 0.0, 5.0])},
    ],
)
def test_the_newest_token_sees_what_it_sees_in_plain_pytorch(monkeypatch, dtype, rules):
    cache = numbers(2, 3, 2, 150, 64, seed=1, dtype=dtype)  # as of `KVCache`
    keys, values = (x.transpose(1, 2)[:, :140] for x in cache)
    q, lengths = numbers(3, 4, 64, seed=2, dtype=dtype), torch.tensor([1, 140, 65])
    found = ops.decode_attention(q, keys, values, lengths, **rules)
    alone = ops.decode_attention(q[1:2], keys[1:2], values[1:2], lengths[1:2], **rules)
    assert torch.equal(found[1:2], alone)
    plainly(monkeypatch)
    wide = (x.double() for x in (q, keys, values))
    exact = ops.decode_attention(*wide, lengths, **rules)
    assert_close([found], [exact], dtype)


def test_the_newest_token_needs_slots_that_are_there_and_pages_that_are_none(
    monkeypatch,
):
    pages, q = numbers(1, 4, 1, 32), numbers(1, 1, 32)
    with pytest.raises(ValueError, match="lengths: expected from 0 to 4"):
        ops.decode_attention(q, pages, pages, torch.tensor([5]))
    table = torch.zeros(1, 1, dtype=torch.int32)
    with pytest.raises(ConfigError, match="it has no pages"):
        ops.decode_attention(q, pages, pages, torch.tensor([4]), page_table=table)
    monkeypatch.delenv("TRIPTYCH_OPS")
    nothing = ops.decode_attention(q, pages, pages, torch.tensor([0]))
    assert torch.equal(nothing, torch.zeros_like(q))


@pytest.mark.parametrize("dtype", DTYPES)
def test_products_of_few_rows_are_those_of_torch_and_of_each_row_alone(dtype):
    weight = numbers(77, 96, seed=1, dtype=dtype).requires_grad_()
    bias = numbers(77, seed=2, dtype=dtype)
    for num_rows in range(1, 10):
        x = numbers(num_rows, 96, seed=3, dtype=dtype)
        with ops.decoding():
            product = ops.linear(x, weight, bias)
            assert not product.requires_grad
            one_by_one = [ops.linear(row[None], weight, bias) for row in x]
        assert_close(
            [product], [F.linear(*(y.double() for y in (x, weight, bias)))], dtype
        )
        if num_rows <= 8:
            assert torch.equal(product, torch.cat(one_by_one))
    assert ops.linear(x, weight).requires_grad


def test_what_the_kernel_for_few_rows_cannot_take_is_multiplied_by_torch(monkeypatch):
    monkeypatch.delenv("TRIPTYCH_OPS")
    weight = numbers(8, 40, seed=1)  # no multiple of 32
    wide = numbers(8, 32, seed=2, dtype=torch.float64)
    with ops.decoding():
        assert torch.equal(ops.linear(weight[:2], weight), weight[:2] @ weight.T)
        assert torch.equal(ops.linear(wide[:2], wide), F.linear(wide[:2], wide))
        with torch.autocast("cpu", torch.bfloat16):
            product = ops.linear(wide[:2].float(), wide.float())
    assert product.dtype == torch.bfloat16


def test_what_does_not_fit_is_a_sentence():
    with pytest.raises(ConfigError, match=r"head dim of 20 is no multiple of 16"):
        ops.attention(*(numbers(4, 2, 20) for _ in range(3)))
    x = numbers(32).numpy()
    rules = {
        "bf16": False, "boundaries": [0, 2], "heads": 2, "kv_heads": 1,
        "head_dim": 16, "causal": True, "window": None, "softcap": None,
        "scale": 1.0, "sinks": [], "pairs": [], "dropout": 0.0,
        "seed": 0, "num_threads": 1,
    }  # fmt: skip
    with pytest.raises(_core.ConfigError, match="elements: expected"):
        _core.attention_forward([x, x, x], x.copy(), numbers(4).numpy(), rules)
    with pytest.raises(_core.ConfigError, match="dropout: expected a share in"):
        _core.attention_forward(
            [x, x, x], x.copy(), numbers(4).numpy(), rules | {"dropout": 1.0}
        )
    targets = torch.tensor([0, 9]).numpy()
    with pytest.raises(_core.ConfigError, match="a target of 9 in 8 logits"):
        _core.loss_and_slopes(
            x[:16].copy(), targets, x[:2], (0.0, 0.0), (8, None, 1.0), 1
        )


def test_training_by_the_engine_gives_the_losses_of_plain_pytorch(monkeypatch):
    from triptych.model import ModelConfig, Transformer

    sizes = {"hidden_size": 64, "intermediate_size": 96, "vocab_size": 90}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": 2}
    markers = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    config = ModelConfig.from_dict({"model_type": "qwen3", **sizes, **heads, **markers})
    ids = torch.randint(90, (150,), generator=torch.manual_seed(1))
    bounds = torch.tensor([0, 80, 150], dtype=torch.int32)

    def losses(setting):
        monkeypatch.setenv("TRIPTYCH_OPS", setting)
        torch.manual_seed(0)
        model = Transformer(config)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        found = []
        for _ in range(4):
            optimizer.zero_grad()
            places = torch.cat((torch.arange(80), torch.arange(70)))
            hidden = model.hidden(ids, places, bounds)
            loss = ops.linear_cross_entropy(hidden, model.output_weight, ids.roll(-1))
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return torch.tensor(found)

    monkeypatch.setattr(choice, "NAMES", choice.NAMES[:3])
    torch.testing.assert_close(losses(""), losses("cpu"), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sinks_gradient_is_right_where_most_of_its_sum_cancels(dtype):
    bounds = torch.tensor([0, 21, 64], dtype=torch.int32)
    most = 4e-3 if dtype == torch.bfloat16 else 2e-5
    for seed in range(8):  # one head each: no larger gradient hides a small one's error
        of = [numbers(64, 1, 32, seed=9 * seed + i, dtype=dtype) for i in range(4)]

        def gradient(function, q, k, v, upstream):
            sinks = q.new_tensor([0.5], dtype=torch.promote_types(q.dtype, torch.float))
            sinks.requires_grad_()
            options = {"cu_seqlens": bounds, "causal": False, "sinks": sinks}
            function(q, k, v, **options).backward(upstream)
            return sinks.grad.double()

        wanted = gradient(reference.attention, *(x.double() for x in of))
        found = gradient(ops.attention, *(x.requires_grad_() for x in of[:3]), of[3])
        assert float((found - wanted).abs() / wanted.abs()) <= most


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "rules", [{}, {"causal": False}, {"window": 30, "softcap": 2.0}], ids=str
)
def test_dropout_drops_the_weights_that_the_triton_kernel_drops(dtype, rules):
    bounds = torch.tensor([0, 70, 70, 171], dtype=torch.int32)
    q = numbers(171, 4, 32, seed=1, dtype=dtype)
    k, v = (numbers(171, 2, 32, seed=s, dtype=dtype) for s in (2, 3))
    torch.manual_seed(5)
    seed = attention_seed(q)

    def ours(q, k, v):
        torch.manual_seed(5)
        return ops.attention(q, k, v, cu_seqlens=bounds, dropout=0.3, **rules)

    def twin(q, k, v):
        return reference.attention(
            q, k, v, cu_seqlens=bounds, dropout=0.3, seed=seed, **rules
        )

    wanted = results(twin, *(x.double() for x in (q, k, v)))
    assert_close(results(ours, q, k, v), wanted, dtype, most=2.0)


def test_dropout_is_the_same_wherever_a_document_is_packed():
    q, k, v = (numbers(100, 2, 32, seed=s) for s in (1, 2, 3))
    pairs = [torch.cat((numbers(30, 2, 32, seed=7), x)) for x in (q, k, v)]
    torch.manual_seed(1)
    alone = ops.attention(q, k, v, dropout=0.5)
    torch.manual_seed(1)
    bounds = torch.tensor([0, 30, 130], dtype=torch.int32)
    packed = ops.attention(*pairs, cu_seqlens=bounds, dropout=0.5)
    assert torch.equal(packed[30:], alone)
    assert not torch.equal(ops.attention(q, k, v, dropout=0.5), alone)  # chance goes on
