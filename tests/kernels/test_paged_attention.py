"""Attention over a paged cache against its twin, and in its bits."""

import pytest
import torch

from test_attention import torch_own
from tolerances import assert_close
from triptych_kernels import (
    attention,
    configs,
    decode_attention,
    paged_attention,
    reference,
)

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
# None, one, inside a tile, whole tiles, whole splits, several splits and a rest.
LENGTHS = (0, 1, 5, 8, 16, 37, 42)
OPTIONS = {
    "plain": {},
    "window": {"window": 9},
    "window past a split": {"window": 21},
    "softcap": {"softcap": 1.5},
    "sinks": {"sinks": (0.5, -1.0, 2.0, 0.0)},
    "all": {"window": 20, "softcap": 2.0, "scale": 0.3, "sinks": (0.5, -1.0, 2.0, 0.0)},
}


def make_inputs(lengths=LENGTHS, heads=4, kv_heads=2, head_dim=16, page_size=6):
    """q, keys, values, lengths and a table of scattered pages; spare pages are NaN."""
    batch, most = len(lengths), -(-max(lengths) // page_size)
    q = torch.randn(batch, heads, head_dim)
    keys, values = torch.randn(2, batch * most + 3, page_size, kv_heads, head_dim)
    order = torch.randperm(batch * most + 3)
    table = order[: batch * most].view(batch, most).int()
    keys[order[-3:]] = values[order[-3:]] = float("nan")
    return q, keys, values, torch.tensor(lengths), table


def cast(inputs, dtype):
    return [x.to(dtype) if x.is_floating_point() else x for x in inputs]


def decode(function, q, keys, values, lengths, table, *, sinks=None, **options):
    if sinks is not None:
        options["sinks"] = torch.tensor(sinks, dtype=q.dtype)
    return function(q, keys, values, lengths, page_table=table, **options)


def own(q, keys, values, lengths, *, page_table, **options):
    """The same as one writes it in torch, sequence by sequence."""
    out = torch.zeros_like(q)
    for b, length in enumerate(lengths.tolist()):
        if length:
            k, v = (x[page_table[b]].flatten(0, 1)[:length] for x in (keys, values))
            whole = q[b].expand(length, -1, -1)
            out[b] = torch_own(whole, k, v, cu_seqlens=None, **options)[-1]
    return out


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_results_match_float64(dtype, options):
    inputs = cast(make_inputs(), dtype)
    found = decode(decode_attention, *inputs, **options)
    wide = decode(reference.decode_attention, *cast(inputs, torch.float64), **options)
    torchs = decode(own, *inputs, **options)
    assert found.dtype == dtype
    assert_close(found, wide, torchs, dtype)


@pytest.mark.parametrize("head_dim", [5, 64, 128, 256])
@pytest.mark.parametrize(("heads", "kv_heads"), [(3, 3), (20, 1), (71, 1)])
def test_every_head_dim_and_group_matches_float64(head_dim, heads, kv_heads):
    inputs = make_inputs((19, 3), heads, kv_heads, head_dim)
    found = decode(decode_attention, *inputs)
    wide = decode(reference.decode_attention, *cast(inputs, torch.float64))
    assert_close(found, wide, decode(own, *inputs), torch.float32)


def test_a_program_takes_no_more_heads_than_the_table_was_compiled_for(monkeypatch):
    taken = {}

    class Launched:
        def __getitem__(self, grid):
            return lambda *_, **constants: taken.update(constants, programs=grid[0])

    monkeypatch.setattr(paged_attention.kernels, "split_kernel", Launched())
    decode(decode_attention, *make_inputs((19, 3), 71, 1, 16))
    assert taken["BLOCK_G"] == configs.DECODE_INTERPRETER.rows == 16
    assert taken["programs"] == 2 * 5


def test_the_newest_token_gets_what_attention_over_the_whole_sequence_gives_it():
    q = torch.randn(1, 4, 16)
    k, v = torch.randn(2, 33, 2, 16)
    whole = torch.cat((torch.randn(32, 4, 16), q))
    expected = attention(whole, k, v)[-1:]
    found = decode_attention(q, k[None], v[None], torch.tensor([33]))
    torch.testing.assert_close(found, expected)


def test_a_cache_with_heads_first_is_read_in_place():
    cache = torch.randn(2, 3, 2, 40, 16)  # keys and values, B, K, capacity, D
    q, lengths = torch.randn(3, 4, 16), torch.tensor([40, 7, 20])
    keys, values = cache.transpose(2, 3)
    found = decode_attention(q, keys, values, lengths)
    expected = decode_attention(q, keys.contiguous(), values.contiguous(), lengths)
    assert torch.equal(found, expected)
    apart = decode_attention(q, keys, values.contiguous(), lengths)
    assert torch.equal(found, apart)


def test_a_sequence_without_tokens_gives_zeros():
    out = decode(decode_attention, *make_inputs())
    assert torch.equal(out[0], torch.zeros(4, 16))
    sunk = decode(decode_attention, *make_inputs(), sinks=(0.0, 1.0, 2.0, 3.0))
    assert torch.equal(sunk[0], torch.zeros(4, 16))
    none = decode_attention(
        q=torch.zeros(0, 4, 16), keys=torch.zeros(2, 4, 2, 16),
        values=torch.zeros(2, 4, 2, 16), lengths=torch.zeros(0).long(),
    )  # fmt: skip
    assert none.shape == (0, 4, 16)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_bits_depend_neither_on_the_batch_nor_on_the_pages(options):
    q, keys, values, lengths, table = cast(make_inputs(), torch.bfloat16)
    whole = decode(decode_attention, q, keys, values, lengths, table, **options)
    again = decode(decode_attention, q, keys, values, lengths, table, **options)
    assert torch.equal(whole, again)
    b, length, slots = 5, LENGTHS[5], table.shape[1] * keys.shape[1]
    # Alone, and its tokens in pages of another size, more of them than it fills.
    rows = [x[table[b]].reshape(1, slots, 2, 16) for x in (keys, values)]
    more = [torch.cat((x, x, x), 1).view(9, -1, 2, 16) for x in rows]
    alone = decode(
        decode_attention, q[b : b + 1], *more, torch.tensor([length]),
        torch.arange(9)[None], **options,
    )  # fmt: skip
    assert torch.equal(alone[0], whole[b])


def test_the_result_asks_for_no_gradient_that_there_is_not():
    q, cache, lengths = torch.randn(1, 2, 8), torch.randn(1, 4, 1, 8), torch.tensor([3])
    leaves = [x.requires_grad_() for x in (q, cache)]
    assert not decode_attention(*leaves, cache, lengths).requires_grad


def test_the_operator_passes_opcheck():
    q, keys, values, lengths, table = make_inputs((3, 9))
    operator = torch.ops.triptych.decode_attention.default
    rest = (4, 2.0, 0.25, torch.zeros(4))
    torch.library.opcheck(operator, (q, keys, values, lengths, table, *rest))


def test_torch_compile_makes_one_graph():
    inputs = make_inputs((3, 9))
    compiled = torch.compile(decode_attention, fullgraph=True, backend="aot_eager")
    assert torch.equal(decode(compiled, *inputs), decode(decode_attention, *inputs))


WRONG = {
    "q must be": lambda q, k, v, n, t: ((q[0], k, v, n), {}),
    "keys and values must be": lambda q, k, v, n, t: ((q, k, v[..., :8], n), {}),
    "must have q's dtype": lambda q, k, v, n, t: ((q, k, v.half(), n), {}),
    r"heads \(3\) must be a multiple": lambda q, k, v, n, t: ((q[:, :3], k, v, n), {}),
    r"lengths must have shape \(2,\)": lambda q, k, v, n, t: ((q, k, v, n[:1]), {}),
    r"page_table must have shape \(2, max": lambda q, k, v, n, t: (
        (q, k, v, n), {"page_table": t[:1]}),
    "2 sequences needs a page, found 1": lambda q, k, v, n, t: ((q, k[:1], v[:1], n), {}),
    "sinks must have": lambda q, k, v, n, t: ((q, k, v, n), {"sinks": n.float()}),
    "window must be": lambda q, k, v, n, t: ((q, k, v, n), {"window": 0}),
    "softcap must be": lambda q, k, v, n, t: ((q, k, v, n), {"softcap": 0.0}),
}  # fmt: skip


@pytest.mark.parametrize(("message", "spoil"), WRONG.items(), ids=WRONG)
def test_wrong_inputs_are_named_with_what_was_expected_and_found(message, spoil):
    inputs, options = spoil(*make_inputs((3, 9)))
    with pytest.raises(ValueError, match=message):
        decode_attention(*inputs, **options)


@pytest.mark.cpu_only  # on a GPU it would wait for the device to ask
def test_a_length_past_the_pages_is_named_on_a_cpu():
    q, keys, values, _, table = make_inputs((3, 9))
    with pytest.raises(ValueError, match=r"in \[0, 12\], .* found 3 to 13"):
        decode_attention(q, keys, values, torch.tensor([3, 13]), page_table=table)
