"""What a step of decoding copies and allocates: everything, or nothing of the cache's size."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.kv_cache import (
    GrowingCache,
    Int8Cache,
    LatentCache,
    PreallocatedCache,
    RaggedCache,
    SlidingWindowCache,
)
from tests.lib.kv_cache.decoding import Allocations, paged, storages

SIZES = {"batch_size": 2, "num_key_value_heads": 2, "head_dim": 8}

IN_PLACE = {
    "preallocated": PreallocatedCache,
    "ragged": RaggedCache,
    "window": lambda capacity, **sizes: SlidingWindowCache(window=capacity, **sizes),
    "sinks": lambda capacity, **sizes: SlidingWindowCache(
        window=capacity - 4, num_sinks=4, **sizes
    ),
    "latent": lambda capacity, **sizes: LatentCache(
        batch_size=2, latent_dim=16, rope_dim=4, capacity=capacity
    ),
}


def block(cache, tokens):
    shape = cache.batch_size, *cache.heads, tokens
    return torch.ones(*shape, cache.key_dim), torch.ones(*shape, cache.value_dim)


def allocated(cache, tokens=1):
    new = block(cache, tokens)
    with Allocations() as allocations:
        cache.append(*new)
        cache.mask(tokens)
    return allocations.sizes


@pytest.mark.parametrize("kind", IN_PLACE)
def test_what_is_returned_is_the_cache_itself(kind):
    """From the first token to the last the memory is the same, and what comes back lies in it."""
    cache = IN_PLACE[kind](capacity=40, **SIZES)
    start = cache.keys.data_ptr(), cache.values.data_ptr()
    for _ in range(40):
        keys, values = cache.append(*block(cache, 1))
        assert (keys.data_ptr(), values.data_ptr()) == start
        assert storages((keys, values)).keys() == storages((cache.keys, cache.values)).keys()
    assert (cache.keys.data_ptr(), cache.values.data_ptr()) == start


@pytest.mark.parametrize("kind", IN_PLACE)
def test_a_step_allocates_the_same_beside_a_large_cache(kind):
    small, large = (IN_PLACE[kind](capacity=size, **SIZES) for size in (64, 1024))
    for cache, length in ((small, 60), (large, 1000)):
        cache.append(*block(cache, length))
    assert sum(allocated(small)) == sum(allocated(large)) < 1024
    assert large.nbytes == 16 * small.nbytes > 60_000


def test_a_preallocated_step_allocates_nothing():
    cache = PreallocatedCache(capacity=64, **SIZES)
    assert [sum(allocated(cache)) for _ in range(8)] == [0] * 8


def test_a_preallocated_prompt_is_written_not_concatenated():
    cache = PreallocatedCache(capacity=64, **SIZES)
    with Allocations() as allocations:
        cache.append(torch.ones(2, 2, 32, 8), torch.ones(2, 2, 32, 8))
    made = 2 * 2 * 2 * 32 * 8 * 4
    assert sum(allocations.sizes) == made


@pytest.mark.parametrize(
    "make",
    [GrowingCache, lambda **sizes: Int8Cache(capacity=64, **sizes)],
    ids=["growing", "int8"],
)
def test_others_do_allocate_it_so_the_recorder_can_see_it(make):
    cache = make(**SIZES)
    cache.append(*block(cache, 60))
    whole = sum(x.nbytes for x in block(cache, 61))
    assert sum(allocated(cache)) >= whole


def test_a_paged_step_gathers_its_blocks():
    cache = paged(capacity=64, block_size=16, **SIZES)
    cache.append(*block(cache, 60))
    assert sum(allocated(cache)) >= sum(x.nbytes for x in block(cache, 61))


@given(prompt=st.integers(1, 20), steps=st.integers(0, 20))
def test_what_a_growing_cache_copies(prompt, steps):
    """The sum over all steps of what was there before: quadratic in the length."""
    cache = GrowingCache(**SIZES)
    cache.append(*block(cache, prompt))
    for _ in range(steps):
        cache.append(*block(cache, 1))
    token = sum(x.nbytes for x in block(cache, 1))
    last = prompt + steps - 1
    before = last * (last + 1) // 2 - prompt * (prompt - 1) // 2
    assert cache.bytes_copied == token * before


@pytest.mark.parametrize("start", ["truncate", "reset"])
def test_a_growing_cache_frees_what_it_forgets(start):
    cache = GrowingCache(**SIZES)
    cache.append(*block(cache, 9))
    held = cache.nbytes
    cache.truncate(3) if start == "truncate" else cache.reset()
    assert cache.nbytes == (held // 3 if start == "truncate" else 0)
