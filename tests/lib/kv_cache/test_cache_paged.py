"""Blocks from a shared pool: who holds which, what is shared, what is lost to fragmentation."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.kv_cache import BlockPool, PagedCache
from lib.memory import paged_cache_bytes

SIZES = {"num_key_value_heads": 2, "head_dim": 3}


def block(batch, tokens, value=1.0):
    return [torch.full((batch, 2, tokens, 3), value)] * 2


def held(*caches):
    """How many sequences hold each block, counted from the block tables."""
    return Counter(b for cache in caches for table in cache.block_tables for b in table)


def consistent(pool, *caches):
    """Every block is free, or held as often as the tables say."""
    count = held(*caches)
    assert pool.holders == [count[b] for b in range(len(pool.holders))]
    assert sorted(pool.free) == [b for b in range(len(pool.holders)) if not count[b]]


@settings(max_examples=100)
@given(size=st.integers(1, 5), data=st.data())
def test_less_than_one_block_a_sequence_is_unused(size, data):
    """Whatever happens: no block is lost, none held twice by mistake, none reserved."""
    pool = BlockPool(num_blocks=40, block_size=size, **SIZES)
    cache = PagedCache(pool=pool, batch_size=2)
    lengths = [0, 0]
    for _ in range(data.draw(st.integers(1, 6))):
        rows = range(len(lengths))
        match data.draw(st.sampled_from(["append", "truncate", "select", "reset"])):
            case "append":
                tokens = data.draw(st.integers(1, 3))
                cache.append(*block(len(lengths), tokens))
                lengths = [length + tokens for length in lengths]
            case "truncate":
                lengths = [data.draw(st.integers(0, length)) for length in lengths]
                cache.truncate(lengths)
            case "select":
                chosen = data.draw(
                    st.lists(st.sampled_from(rows), min_size=1, max_size=2, unique=True)
                )
                cache.select(chosen)
                lengths = [lengths[row] for row in chosen]
            case "reset":
                cache.reset()
                lengths = [0] * len(lengths)
        consistent(pool, cache)
        expected = [-(-length // size) for length in lengths]
        assert [len(table) for table in cache.block_tables] == expected
        assert cache.nbytes == sum(
            paged_cache_bytes(
                batch_size=1, seq_len=n, block_size=size, num_layers=1, **SIZES, bytes_per_element=4
            )
            for n in lengths
            if n
        )


@settings(max_examples=60)
@given(size=st.integers(1, 4), prompt=st.integers(1, 9), samples=st.integers(2, 4))
def test_samples_of_one_prompt_share_it_until_they_differ(size, prompt, samples):
    pool = BlockPool(num_blocks=60, block_size=size, **SIZES)
    cache = PagedCache(pool=pool, batch_size=1)
    before, _ = cache.append(*block(1, prompt))
    alone = cache.nbytes
    cache.select([0] * samples)
    assert cache.nbytes == alone
    consistent(pool, cache)

    own = torch.arange(samples, dtype=torch.float32)[:, None, None, None] + 5
    keys, values = cache.append(*[own.expand(-1, 2, 1, 3)] * 2)
    consistent(pool, cache)
    assert torch.equal(keys[:, :, :-1], before.expand(samples, -1, -1, -1))
    assert torch.equal(keys[:, :, -1:], own.expand(-1, 2, 1, 3)) and torch.equal(keys, values)
    shared = prompt // size
    assert cache.nbytes == pool.block_nbytes * (shared + samples)


def test_caches_of_different_users_share_a_pool():
    pool = BlockPool(num_blocks=4, block_size=2, **SIZES)
    first, second = (PagedCache(pool=pool, batch_size=1) for _ in range(2))
    for value in range(3):
        first.append(*block(1, 1, float(value)))
        keys, _ = second.append(*block(1, 1, 10.0 + value))
    consistent(pool, first, second)
    assert keys[0, 0, :, 0].tolist() == [10, 11, 12]
    with pytest.raises(
        ValueError, match="pool is full: needed blocks: 1, free: 0 of 4, of 2 tokens each"
    ):
        first.append(*block(1, 2))
    second.reset()
    keys, _ = first.append(*block(1, 2, 3.0))
    assert keys[0, 0, :, 0].tolist() == [0, 1, 2, 3, 3]


@pytest.mark.parametrize(("spare", "fits"), [(0, False), (1, True)])
def test_the_last_block_is_counted_exactly(spare, fits):
    """Two sequences write into a block that they share: one copy of it is enough."""
    pool = BlockPool(num_blocks=1 + spare, block_size=4, **SIZES)
    cache = PagedCache(pool=pool, batch_size=1)
    cache.append(*block(1, 2))
    cache.select([0, 0])
    if fits:
        cache.append(*block(2, 1))
    else:
        with pytest.raises(ValueError, match="pool is full: needed blocks: 1, free: 0 of 1"):
            cache.append(*block(2, 1))
        assert cache.lengths.tolist() == [2, 2]
    consistent(pool, cache)
    assert len(pool.free) == 0


def test_a_block_another_cache_holds_is_not_written_into():
    pool = BlockPool(num_blocks=3, block_size=4, **SIZES)
    first = PagedCache(pool=pool, batch_size=2)
    first.append(*block(2, 2))
    first.select([0, 0])
    first.truncate([2, 1])
    keys, _ = first.append(*block(2, 1, 7.0))
    assert keys[:, 0, :2, 0].tolist() == [[1, 1], [1, 7]]
    consistent(pool, first)
