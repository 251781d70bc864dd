"""Local and sparse attention: each equals dense attention with its mask, without an n² tensor."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sparse_cases import assert_equals_dense, operands, seeds

from lib import masks
from lib.attention import neighbours as lists
from lib.attention.local import local_attention
from lib.attention.sparse import block_sparse_attention, gathered_attention, longformer_attention

some = settings(max_examples=40)
lengths = st.integers(1, 24)


@settings(max_examples=80)
@given(seeds, lengths, st.integers(1, 30), st.booleans())
def test_a_window_in_blocks(seed, seq_len, window, is_causal):
    inputs = operands(seed, seq_len)
    mask = masks.sliding_window(seq_len, window=window, causal=is_causal)
    output = local_attention(*inputs, window=window, is_causal=is_causal)
    assert_equals_dense(output, inputs, mask)


@some
@given(seeds, lengths, st.integers(1, 9), st.booleans(), st.data())
def test_a_window_in_blocks_with_padding(seed, seq_len, window, is_causal, data):
    """Queries whose whole window is padding get zeros, as in dense attention."""
    inputs = operands(seed, seq_len)
    real = data.draw(st.lists(st.integers(0, seq_len), min_size=2, max_size=2))
    padding = masks.padding(torch.tensor(real), seq_len)
    mask = padding & masks.sliding_window(seq_len, window=window, causal=is_causal)
    output = local_attention(
        *inputs, window=window, is_causal=is_causal, padding=padding, scale=0.7
    )
    assert_equals_dense(output, inputs, mask, scale=0.7)


PATTERNS = {
    "dilated": lambda n, a, b, c: (
        lists.dilated_neighbours(n, window=a, dilation=b, is_causal=c),
        masks.dilated(n, window=a, dilation=b, causal=c),
    ),
    "strided": lambda n, a, b, c: (
        lists.strided_neighbours(n, stride=a),
        masks.strided(n, stride=a),
    ),
    "fixed": lambda n, a, b, c: (
        lists.fixed_neighbours(n, block_size=a + b, summary=b),
        masks.fixed(n, block_size=a + b, summary=b),
    ),
    "sparse transformer, strided": lambda n, a, b, c: (
        lists.sparse_transformer_strided_neighbours(n, stride=a),
        masks.sparse_transformer_strided(n, stride=a),
    ),
    "sparse transformer, fixed": lambda n, a, b, c: (
        lists.sparse_transformer_fixed_neighbours(n, block_size=a + b, summary=b),
        masks.sparse_transformer_fixed(n, block_size=a + b, summary=b),
    ),
}


@pytest.mark.parametrize("name", PATTERNS)
@some
@given(seeds, lengths, st.integers(1, 7), st.integers(1, 4), st.booleans(), st.integers(1, 9))
def test_lists_of_keys(name, seed, seq_len, first, second, flag, chunk):
    neighbours, mask = PATTERNS[name](seq_len, first, second, flag)
    inputs = operands(seed, seq_len)
    assert_equals_dense(gathered_attention(*inputs, neighbours, chunk=chunk), inputs, mask)
    named = torch.zeros(seq_len, seq_len, dtype=torch.int64)
    named.scatter_add_(1, neighbours.index, neighbours.seen.long())
    assert torch.equal(named, mask.long()), "each key is named once, and no other"


@some
@given(seeds, lengths, st.integers(1, 6), st.integers(1, 3), st.data())
def test_longformer(seed, seq_len, window, dilation, data):
    inputs = operands(seed, seq_len)
    positions = data.draw(st.lists(st.integers(0, seq_len - 1), max_size=3))
    pattern = {"window": window, "dilation": dilation, "positions": positions}
    mask = masks.longformer(seq_len, **pattern)
    assert_equals_dense(longformer_attention(*inputs, **pattern), inputs, mask)


@some
@given(seeds, lengths, st.data())
def test_random_keys_are_as_many_as_asked_for_and_different(seed, seq_len, data):
    count = data.draw(st.integers(1, seq_len))
    generator = torch.Generator().manual_seed(seed)
    neighbours = lists.random_neighbours(seq_len, count=count, generator=generator)
    mask = torch.zeros(seq_len, seq_len, dtype=torch.bool).scatter(1, neighbours.index, True)
    assert (mask.sum(dim=1) == count).all()
    inputs = operands(seed, seq_len)
    assert_equals_dense(gathered_attention(*inputs, neighbours), inputs, mask)


@some
@given(seeds, st.integers(1, 6), st.integers(1, 5), st.sampled_from([0.0, 0.3, 1.0]))
def test_blocks_by_a_layout(seed, count, block_size, share):
    layout = torch.rand(count, count, generator=torch.Generator().manual_seed(seed)) < share
    layout[0, 0] = True
    inputs = operands(seed, count * block_size)
    output = block_sparse_attention(*inputs, layout)
    assert_equals_dense(output, inputs, masks.block_sparse(layout, block_size))


@pytest.mark.parametrize("seed", range(5))
def test_bigbird(seed):
    pattern = {"window": 2, "random_blocks": 2}
    seeded = torch.Generator().manual_seed
    layout = masks.bigbird_layout(8, generator=seeded(seed), **pattern)
    mask = masks.bigbird(24, block_size=3, generator=seeded(seed), **pattern)
    inputs = operands(seed, 24)
    assert_equals_dense(block_sparse_attention(*inputs, layout), inputs, mask)


def test_the_future_changes_nothing_where_the_pattern_is_causal():
    q, k, v = operands(0, 20)
    changed = [torch.cat([x[..., :12, :], x[..., 12:, :] + 9], dim=-2) for x in (q, k, v)]
    causal_ones = {
        "local": lambda *qkv: local_attention(*qkv, window=5),
        "dilated": lambda *qkv: gathered_attention(
            *qkv, lists.dilated_neighbours(20, window=3, dilation=2)
        ),
        "strided": lambda *qkv: gathered_attention(
            *qkv, lists.sparse_transformer_strided_neighbours(20, stride=4)
        ),
        "fixed": lambda *qkv: gathered_attention(
            *qkv, lists.sparse_transformer_fixed_neighbours(20, block_size=4)
        ),
    }
    for attention in causal_ones.values():
        before, after = attention(q, k, v), attention(*changed)
        assert torch.equal(before[..., :12, :], after[..., :12, :])
        assert not torch.allclose(before[..., 12:, :], after[..., 12:, :])


class LargestTensor(torch.utils._python_dispatch.TorchDispatchMode):
    """The most elements of a tensor that is made inside."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.untyped_storage().nbytes() // 4)
        return result


def test_no_tensor_is_as_large_as_all_the_scores():
    n = 1024
    q, k, v = (x.detach().float() for x in operands(0, n, heads=1, batch=1))
    layout = torch.eye(32, dtype=torch.bool)
    sparse = {
        "local": lambda: local_attention(q, k, v, window=16),
        "both sides": lambda: local_attention(q, k, v, window=16, is_causal=False),
        "dilated": lambda: gathered_attention(
            q, k, v, lists.dilated_neighbours(n, window=16, dilation=3)
        ),
        "strided": lambda: gathered_attention(
            q, k, v, lists.sparse_transformer_strided_neighbours(n, stride=32)
        ),
        "fixed": lambda: gathered_attention(
            q, k, v, lists.sparse_transformer_fixed_neighbours(n, block_size=32)
        ),
        "longformer": lambda: longformer_attention(q, k, v, window=16, positions=[0]),
        "blocks": lambda: block_sparse_attention(q, k, v, layout),
    }
    for name, attention in sparse.items():
        with LargestTensor() as mode:
            attention()
        assert mode.elements < n * n / 2, name


def test_bad_input_is_named(import_unchecked):
    local = import_unchecked("lib.attention.local")
    sparse = import_unchecked("lib.attention.sparse")
    unchecked = import_unchecked("lib.attention.neighbours")
    q, k, v = torch.randn(3, 1, 1, 10, 4)
    with pytest.raises(ValueError, match="window must be a positive whole number"):
        local.local_attention(q, k, v, window=0)
    with pytest.raises(ValueError, match="neighbours of 9 queries for 10"):
        neighbours = unchecked.dilated_neighbours(9, window=2)
        sparse.gathered_attention(q, k, v, neighbours)
    with pytest.raises(ValueError, match=r"layout \(3, 3\) does not cut 10 tokens"):
        sparse.block_sparse_attention(q, k, v, torch.ones(3, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="no summary of 5"):
        unchecked.fixed_neighbours(10, block_size=4, summary=5)
    with pytest.raises(ValueError, match="11 different keys cannot be drawn from 10"):
        unchecked.random_neighbours(10, count=11, generator=torch.Generator())
