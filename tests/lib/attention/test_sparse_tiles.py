"""Sparse patterns in tiles: equal to dense attention with their mask, in much less memory."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sparse_cases import assert_equals_dense, gradients, operands, seeds
from test_flash import peak_bytes

from lib import masks
from lib.attention import sparse_tiles
from lib.attention.local import local_attention
from lib.attention.sparse import longformer_attention, sparse_attention

some = settings(max_examples=40)
lengths = st.integers(1, 24)


def same_pattern(name, seq_len, **sizes):
    """The tiles of a pattern and its mask, from the functions of that name."""
    return getattr(sparse_tiles, f"{name}_tiles")(seq_len, **sizes), getattr(masks, name)(
        seq_len, **sizes
    )


def two_sided(seq_len, window, dilation):
    return (
        sparse_tiles.dilated_tiles(seq_len, window=window, dilation=dilation, is_causal=False),
        masks.dilated(seq_len, window=window, dilation=dilation, causal=False),
    )


# Windows, strides and blocks also longer than the sequence.
PATTERNS = {
    "dilated": lambda n, a, b: same_pattern("dilated", n, window=a, dilation=b),
    "dilated, both sides": two_sided,
    "strided": lambda n, a, b: same_pattern("sparse_transformer_strided", n, stride=a * b),
    "fixed": lambda n, a, b: same_pattern(
        "sparse_transformer_fixed", n, block_size=a + b, summary=b
    ),
    "longformer": lambda n, a, b: same_pattern(
        "longformer", n, window=a, dilation=b, positions=sorted({0, (a * b) % n, n - 1})
    ),
    "longformer without global tokens": lambda n, a, b: same_pattern(
        "longformer", n, window=a, dilation=b
    ),
}


@pytest.mark.parametrize("name", PATTERNS)
@some
@given(seeds, lengths, st.integers(1, 9) | st.just(30), st.integers(1, 4) | st.just(26))
def test_each_pattern_is_dense_attention_with_its_mask(name, seed, seq_len, first, second):
    pattern, mask = PATTERNS[name](seq_len, first, second)
    seen = torch.zeros(seq_len, seq_len, dtype=torch.int64)
    for tiles in pattern:
        pairs = tiles.queries[:, :, None] * seq_len + tiles.keys[:, None, :]
        seen.view(-1).scatter_add_(0, pairs.flatten(), tiles.seen.long().flatten())
    assert torch.equal(seen, mask.long()), "each pair is seen once, and no other"
    inputs = operands(seed, seq_len)
    output = sparse_attention(*inputs, pattern, scale=0.6)
    assert_equals_dense(output, inputs, mask, scale=0.6)


def test_a_query_that_sees_nothing_gets_zeros_and_zero_gradients():
    """Scores far out, of which softmax without its maximum would make infinities."""
    inputs = operands(0, 6)
    with torch.no_grad():
        inputs[0].mul_(1e4)
    queries, keys = torch.tensor([[0, 1, 2]]), torch.tensor([[3, 4]])
    seen = torch.tensor([[[True, True], [False, True], [False, False]]])
    pattern = [sparse_tiles.Tiles(6, queries, keys, seen)]
    mask = torch.zeros(6, 6, dtype=torch.bool)
    mask[:3, 3:5] = seen[0]
    output = sparse_attention(*inputs, pattern)
    assert_equals_dense(output, inputs, mask)
    assert (output[..., 2:, :] == 0).all()


@pytest.mark.parametrize("seq_len", [70, 200])
@pytest.mark.parametrize("window", [1, 40, 64, 150])
@pytest.mark.parametrize("is_causal", [True, False])
def test_local_attention_over_several_blocks(seq_len, window, is_causal):
    """Longer than a block, which is 64 unless one says otherwise."""
    inputs = operands(3, seq_len)
    padding = masks.padding(torch.tensor([seq_len, seq_len // 3]), seq_len)
    mask = masks.sliding_window(seq_len, window=window, causal=is_causal)
    options = {"window": window, "is_causal": is_causal}
    assert_equals_dense(local_attention(*inputs, **options), inputs, mask)
    for block_size in (None, 32, 99):
        output = local_attention(*inputs, **options, padding=padding, block_size=block_size)
        assert_equals_dense(output, inputs, mask & padding)


LONG = 2048
FRUGAL = {
    "local": lambda *qkv: local_attention(*qkv, window=32),
    "local, both sides": lambda *qkv: local_attention(*qkv, window=32, is_causal=False),
    "dilated": lambda *qkv: sparse_attention(
        *qkv, sparse_tiles.dilated_tiles(LONG, window=16, dilation=3)
    ),
    "strided": lambda *qkv: sparse_attention(
        *qkv, sparse_tiles.sparse_transformer_strided_tiles(LONG, stride=45)
    ),
    "fixed": lambda *qkv: sparse_attention(
        *qkv, sparse_tiles.sparse_transformer_fixed_tiles(LONG, block_size=45)
    ),
    "longformer": lambda *qkv: longformer_attention(*qkv, window=16, positions=[0]),
}


@pytest.mark.parametrize("name", FRUGAL)
def test_all_that_lives_at_one_time_is_less_than_the_matrix_of_scores(name):
    """Forward and backward together, of one head in float32: a matrix would be 4 n² bytes."""
    inputs = operands(0, LONG, heads=1, batch=1, head_dim=8, dtype=torch.float32)
    peak = peak_bytes(lambda: gradients(FRUGAL[name](*inputs), inputs))
    assert peak < 4 * LONG**2 * 0.5


def test_a_window_longer_than_the_sequence_takes_no_more_memory_than_all_scores():
    inputs = operands(0, 100, heads=1, batch=1, dtype=torch.float32)
    peaks = [
        peak_bytes(lambda window=window: local_attention(*inputs, window=window))
        for window in (100, 10**6)
    ]
    assert peaks[0] == peaks[1]


def test_bad_patterns_are_named(import_unchecked):
    sparse = import_unchecked("lib.attention.sparse")
    local = import_unchecked("lib.attention.local")
    unchecked = import_unchecked("lib.attention.sparse_tiles")
    q, k, v = torch.randn(3, 1, 1, 10, 4)
    with pytest.raises(ValueError, match="a pattern for 9 tokens, but there are 10"):
        sparse.sparse_attention(q, k, v, unchecked.dilated_tiles(9, window=2))
    with pytest.raises(ValueError, match="no summary of 5"):
        unchecked.sparse_transformer_fixed_tiles(10, block_size=4, summary=5)
    for sizes in ({"window": 0}, {"window": 2, "dilation": -1}):
        with pytest.raises(ValueError, match="must be a positive whole number"):
            unchecked.dilated_tiles(10, **sizes)
    with pytest.raises(ValueError, match="stride must be a positive whole number"):
        unchecked.sparse_transformer_strided_tiles(10, stride=0)
    with pytest.raises(ValueError, match="block_size must be a positive whole number"):
        local.local_attention(q, k, v, window=3, block_size=0)
    with pytest.raises(ValueError, match="must be boolean"):
        local.local_attention(q, k, v, window=3, padding=torch.ones(1, 1, 1, 10))
