"""The sliding window with attention sinks against dense attention with the mask `sink | window`."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from lib.kv_cache import Int8Cache, SlidingWindowCache
from lib.masks import sliding_window
from tests.lib.kv_cache.decoding import SIZES, attention, block_sizes, decode, projections


def sinks_and_window(length, window, num_sinks):
    """The mask over all tokens: the first ones and the last ones, but none to come."""
    sink = torch.arange(length) < num_sinks
    past = torch.ones(length, length, dtype=torch.bool).tril()
    return past & (sink | sliding_window(length, window=window))


@settings(max_examples=150)
@given(
    blocks=block_sizes(20),
    window=st.integers(1, 8),
    num_sinks=st.integers(0, 4),
    seed=st.integers(0, 2**16),
)
def test_token_by_token_and_in_blocks(blocks, window, num_sinks, seed):
    length = sum(blocks)
    q, k, v = projections(length, seed=seed)
    cache = SlidingWindowCache(window=window, num_sinks=num_sinks, **SIZES)
    before = cache.nbytes
    expected = attention(q, k, v, sinks_and_window(length, window, num_sinks))
    assert_close(decode(cache, q, k, v, blocks), expected)
    assert (cache.length, cache.nbytes) == (length, before)


@settings(max_examples=60)
@given(blocks=block_sizes(20), window=st.integers(1, 8), num_sinks=st.integers(0, 4))
def test_positions_say_whose_the_keys_are(blocks, window, num_sinks):
    """Each key holds its own position, and is found under it."""
    length = sum(blocks)
    sizes = {"batch_size": 1, "num_key_value_heads": 1, "head_dim": 1}
    cache = SlidingWindowCache(window=window, num_sinks=num_sinks, **sizes)
    position, start = torch.arange(length).float().reshape(1, 1, -1, 1), 0
    for size in blocks:
        block = position[:, :, start : start + size]
        keys, values = cache.append(block, -block)
        start += size
        assert cache.positions(size).tolist() == keys.flatten().tolist()
        assert torch.equal(values, -keys)
    kept = {*range(min(num_sinks, length)), *range(max(0, length - window), length)}
    if blocks[-1] == 1:
        assert kept <= set(cache.positions().tolist())
        assert len(cache.positions()) == min(length, num_sinks + window)


def test_one_token_leaves_sinks_and_window_and_nothing_else():
    sizes = {"batch_size": 1, "num_key_value_heads": 1, "head_dim": 1}
    cache = SlidingWindowCache(window=3, num_sinks=2, **sizes)
    for position in range(12):
        keys, _ = cache.append(*[torch.full((1, 1, 1, 1), float(position))] * 2)
    assert keys.flatten().tolist() == [0, 1, 11, 9, 10]


def test_eight_bits_in_a_window():
    """Two policies in one: the errors of the 8-bit numbers, and the window's mask."""
    q, k, v = projections(12)
    options = {"window": 4, "num_sinks": 1, **SIZES}
    cache = Int8Cache(policy=SlidingWindowCache, **options)
    found = decode(cache, q, k, v, [5, 1, 1, 3, 1, 1])
    exact = attention(q, k, v, sinks_and_window(12, 4, 1))
    assert 0 < (found - exact).abs().max() < 0.2 * exact.abs().max()
    assert cache.length == 12 and cache.mask(1) is None


def test_what_was_replaced_cannot_be_brought_back():
    cache = SlidingWindowCache(window=3, num_sinks=1, **SIZES)
    _, k, v = projections(6)
    cache.append(k[..., :4, :], v[..., :4, :])
    cache.truncate(2)
    cache.append(k[..., 2:, :], v[..., 2:, :])
    cache.truncate(6)
    with pytest.raises(ValueError, match=r"from 6 tokens to 5.*are gone.*num_sinks 1, window 3"):
        cache.truncate(5)
