"""The bytes that each cache holds are those of its formula in `lib.memory.storage`."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.kv_cache import (
    BlockPool,
    CrossAttentionCache,
    GrowingCache,
    Int8Cache,
    LatentCache,
    PagedCache,
    PreallocatedCache,
    RaggedCache,
    SlidingWindowCache,
)
from lib.memory import (
    kv_cache_bytes,
    latent_cache_bytes,
    paged_cache_bytes,
    quantised_cache_bytes,
)
from tests.lib.kv_cache.decoding import storages

dtypes = st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16])
small = st.integers(1, 6)


def held(cache):
    """What lies in memory: the storage of every tensor that the cache has, or its parts have."""
    parts = [cache, *(part for part in vars(cache).values() if hasattr(part, "keys"))]
    tensors = [vars(part).get(name) for part in parts for name in ("keys", "values")]
    return sum(storage.nbytes() for storage in storages(tensors).values() if storage.nbytes())


@st.composite
def shapes(draw):
    sizes = {name: draw(small) for name in ("batch_size", "num_key_value_heads", "head_dim")}
    return {**sizes, "dtype": draw(dtypes)}


def filled(cache, tokens):
    lead = (cache.batch_size, *cache.heads, tokens)
    widths = cache.key_dim, cache.value_dim
    cache.append(*(torch.ones(*lead, width, dtype=cache.dtype) for width in widths))
    return cache


def formula(shape):
    sizes = {name: size for name, size in shape.items() if name != "dtype"}
    return {**sizes, "num_layers": 1, "bytes_per_element": shape["dtype"].itemsize}


each_shape = given(shape=shapes(), tokens=st.integers(1, 12), room=st.integers(0, 5))


@settings(max_examples=60)
@each_shape
def test_whole_caches(shape, tokens, room):
    """Those that grow hold their tokens; those that do not, their capacity from the start."""
    for cache in (GrowingCache(**shape), CrossAttentionCache(**shape)):
        assert cache.nbytes == 0
        filled(cache, tokens)
        assert cache.nbytes == held(cache) == kv_cache_bytes(seq_len=tokens, **formula(shape))
    capacity = tokens + room
    expected = kv_cache_bytes(seq_len=capacity, **formula(shape))
    for policy in (PreallocatedCache, RaggedCache):
        cache = policy(capacity=capacity, **shape)
        assert cache.nbytes == expected
        assert filled(cache, tokens).nbytes == held(cache) == expected


@settings(max_examples=60)
@given(shape=shapes(), window=small, num_sinks=st.integers(0, 4), more=st.integers(0, 20))
def test_a_window_with_sinks(shape, window, num_sinks, more):
    """From as many tokens on as it can hold, and for ever after."""
    cache = SlidingWindowCache(window=window, num_sinks=num_sinks, **shape)
    filled(cache, window + num_sinks + more)
    options = {"window": window, "num_sinks": num_sinks, **formula(shape)}
    assert cache.nbytes == held(cache) == kv_cache_bytes(seq_len=cache.length, **options)


@given(st.integers(1, 12), st.integers(1, 6), st.integers(0, 4))
def test_a_window_that_is_not_full_yet_needs_its_tokens(seq_len, window, num_sinks):
    shape = {"batch_size": 2, "num_key_value_heads": 1, "head_dim": 4, "dtype": torch.float32}
    tokens = min(seq_len, window + num_sinks)
    found = kv_cache_bytes(seq_len=seq_len, window=window, num_sinks=num_sinks, **formula(shape))
    assert found == filled(GrowingCache(**shape), tokens).nbytes


@settings(max_examples=60)
@given(shape=shapes(), latent=small, rope=small, tokens=st.integers(1, 12))
def test_latents(shape, latent, rope, tokens):
    sizes = {"batch_size": shape["batch_size"], "latent_dim": latent, "rope_dim": rope}
    cache = LatentCache(capacity=tokens, dtype=shape["dtype"], **sizes)
    each = shape["dtype"].itemsize
    expected = latent_cache_bytes(seq_len=tokens, num_layers=1, bytes_per_element=each, **sizes)
    assert filled(cache, tokens).nbytes == held(cache) == expected


@settings(max_examples=60)
@given(shape=shapes(), tokens=st.integers(1, 12), scale_dtype=dtypes)
def test_8_bit_numbers_and_their_scales(shape, tokens, scale_dtype):
    sizes = {**formula(shape), "bytes_per_element": 1, "scale_bytes": scale_dtype.itemsize}
    expected = quantised_cache_bytes(seq_len=tokens, **sizes)
    for policy, options in ((PreallocatedCache, {"capacity": tokens}), (GrowingCache, {})):
        cache = Int8Cache(policy=policy, scale_dtype=scale_dtype, **options, **shape)
        assert filled(cache, tokens).nbytes == held(cache) == expected


@settings(max_examples=60)
@given(shape=shapes(), size=small, lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4))
def test_pages(shape, size, lengths):
    """Whole blocks for each sequence; all of the pool, when all of its blocks are held."""
    sizes = {**formula(shape), "block_size": size, "batch_size": 1}
    expected = sum(paged_cache_bytes(seq_len=length, **sizes) for length in lengths)
    shape.pop("batch_size")
    num_blocks = sum(-(-length // size) for length in lengths)
    # The longest prompt comes first, as padding takes a place in it.
    pool = BlockPool(num_blocks=num_blocks, block_size=size, **shape)
    cache = PagedCache(pool=pool, batch_size=len(lengths))
    cache.skip([max(lengths) - length for length in lengths])
    assert filled(cache, max(lengths)).nbytes == expected == held(cache)


def test_the_sizes_of_a_known_model():
    """DeepSeek-V2: 576 numbers a token and layer, in place of 128 heads' keys and values."""
    sizes = {"batch_size": 1, "seq_len": 1, "num_layers": 1}
    latent = latent_cache_bytes(latent_dim=512, rope_dim=64, **sizes)
    heads = kv_cache_bytes(num_key_value_heads=128, head_dim=128, **sizes)
    assert (latent, heads) == (2 * 576, 2 * 32_768)


@pytest.mark.parametrize(("each", "share"), [(1, 4 / 128), (0.5, 4 / 64)], ids=["8 bits", "4 bits"])
def test_what_scales_add(each, share):
    sizes = {"batch_size": 1, "seq_len": 9, "num_layers": 2, "num_key_value_heads": 8}
    with_scales = quantised_cache_bytes(head_dim=128, bytes_per_element=each, **sizes)
    without = kv_cache_bytes(head_dim=128, bytes_per_element=each, **sizes)
    assert with_scales == without * (1 + share)
