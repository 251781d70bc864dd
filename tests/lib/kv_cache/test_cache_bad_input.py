"""What caches refuse, and that the refusal says what was given and what fits."""

import re

import pytest
import torch

SIZES = {"batch_size": 2, "num_key_value_heads": 3, "head_dim": 4}
NOT_SIZES = [0, -1, 2.0, "4", None, True]


@pytest.fixture(scope="module")
def kv_cache(import_unchecked):
    return import_unchecked("lib.kv_cache")


@pytest.fixture(scope="module")
def make(kv_cache):
    """Each kind of cache, with room for 5 tokens where it has a limit."""

    def paged(batch_size, **sizes):
        pool = kv_cache.BlockPool(num_blocks=4, block_size=3, **sizes)
        return kv_cache.PagedCache(pool=pool, batch_size=batch_size)

    return {
        "growing": kv_cache.GrowingCache,
        "preallocated": lambda **sizes: kv_cache.PreallocatedCache(capacity=5, **sizes),
        "ragged": lambda **sizes: kv_cache.RaggedCache(capacity=5, **sizes),
        "window": lambda **sizes: kv_cache.SlidingWindowCache(window=4, **sizes),
        "int8": lambda **sizes: kv_cache.Int8Cache(capacity=5, **sizes),
        "cross": kv_cache.CrossAttentionCache,
        "paged": paged,
    }


KINDS = ["growing", "preallocated", "ragged", "window", "int8", "cross", "paged"]
every = pytest.mark.parametrize("kind", KINDS)


def refused(*parts):
    return pytest.raises(ValueError, match="(?s)" + ".*".join(map(re.escape, map(str, parts))))


def block(*shape, width=4, dtype=torch.float32):
    return torch.zeros(*(shape or (2, 3, 1)), width, dtype=dtype)


@every
@pytest.mark.parametrize("size", NOT_SIZES)
@pytest.mark.parametrize("name", SIZES)
def test_sizes(make, kind, name, size):
    if (name, size) == ("num_key_value_heads", None) and kind != "paged":
        assert make[kind](**{**SIZES, name: size}).heads == ()
        return
    with refused(name, "positive whole number", repr(size)):
        make[kind](**{**SIZES, name: size})


@pytest.mark.parametrize("size", NOT_SIZES)
def test_capacities_windows_and_blocks(kv_cache, size):
    for policy in (kv_cache.PreallocatedCache, kv_cache.RaggedCache, kv_cache.Int8Cache):
        with refused("capacity must be a positive whole number", repr(size)):
            policy(capacity=size, **SIZES)
    with refused("window must be a positive whole number", repr(size)):
        kv_cache.SlidingWindowCache(window=size, **SIZES)
    for name in ("num_blocks", "block_size"):
        pool = {"num_blocks": 1, "block_size": 1, "num_key_value_heads": 1, "head_dim": 1}
        with refused(f"{name} must be a positive whole number", repr(size)):
            kv_cache.BlockPool(**{**pool, name: size})
    if size is not None:
        with refused("value_dim must be", repr(size)):
            kv_cache.GrowingCache(**SIZES, value_dim=size)
    if size != 0:
        with refused("num_sinks must be a whole number, 0 or more", repr(size)):
            kv_cache.SlidingWindowCache(window=1, num_sinks=size, **SIZES)


@every
@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("batch", (1, 3, 1)),
        ("heads", (2, 2, 1)),
        ("no heads", (2, 1)),
        ("another axis", (1, 2, 3, 1)),
    ],
)
def test_blocks_of_another_shape(make, kind, name, wrong):
    cache = make[kind](**SIZES)
    expected = "keys must be", (2, 3, 1, 4), "torch.float32 on cpu, got", (*wrong, 4)
    with refused(*expected):
        cache.append(block(*wrong), block())
    with refused("values must be", (2, 3, 1, 4), "got", (*wrong, 4)):
        cache.append(block(), block(*wrong))
    assert cache.length == 0


@every
def test_blocks_of_another_width_length_or_type(make, kind):
    cache = make[kind](**SIZES)
    with refused("keys must be", (2, 3, 1, 4), "got", (2, 3, 1, 5)):
        cache.append(block(width=5), block())
    with refused("values must be", (2, 3, 2, 4), "got", (2, 3, 1, 4)):
        cache.append(block(2, 3, 2), block())
    with refused("keys must be", "torch.float32", "got", "torch.float64"):
        cache.append(block(dtype=torch.float64), block())
    with refused("values must be", "on cpu", "got", "on meta"):
        cache.append(block(), block().to("meta"))
    for nothing in (block(2, 3, 0), torch.zeros(4)):
        with refused("at least one token", tuple(nothing.shape)):
            cache.append(nothing, nothing)
    assert cache.length == 0


@pytest.mark.parametrize("kind", ["preallocated", "ragged", "int8"])
def test_a_full_cache(make, kind):
    """It says how large it is, how much is in it, and what was to be added; and stays as it was."""
    cache = make[kind](**SIZES)
    cache.append(block(2, 3, 4), block(2, 3, 4))
    with refused("full: capacity 5, length 4, appended 2", "needs a capacity of 6"):
        cache.append(block(2, 3, 2), block(2, 3, 2))
    assert cache.length == 4
    cache.append(block(), block())
    with refused("full: capacity 5, length 5, appended 1", "needs a capacity of 6"):
        cache.append(block(), block())


def test_one_full_sequence_is_enough(make):
    cache = make["ragged"](**SIZES)
    cache.append(block(2, 3, 5), block(2, 3, 5))
    cache.truncate([2, 4])
    with refused("full: capacity 5, length 4, appended 2"):
        cache.append(block(2, 3, 2), block(2, 3, 2))
    assert cache.lengths.tolist() == [2, 4]


def test_a_full_pool(make):
    cache = make["paged"](**SIZES)
    cache.append(block(2, 3, 5), block(2, 3, 5))
    with refused("pool is full", "needed blocks: 2", "free: 0 of 4, of 3 tokens each"):
        cache.append(block(2, 3, 2), block(2, 3, 2))
    assert cache.lengths.tolist() == [5, 5]


NOT_CROSS = pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "cross"])


@NOT_CROSS
@pytest.mark.parametrize("length", [-1, 4, 1.0, "2", None])
def test_lengths_to_go_back_to(make, kind, length):
    cache = make[kind](**SIZES)
    cache.append(block(2, 3, 3), block(2, 3, 3))
    if kind in ("ragged", "paged") and type(length) is not int:
        with refused("lengths must be 2 whole numbers, 0 or more, at most [3, 3], got", length):
            cache.truncate(length)
    else:
        with refused("length must be a whole number from 0 to 3", repr(length)):
            cache.truncate(length)
    assert cache.length == 3


@every
@pytest.mark.parametrize(
    "rows", [[], [2], [-1], [0.5], [True, False], torch.zeros(1, 1, dtype=torch.int64)]
)
def test_rows_that_are_not_there(make, kind, rows):
    cache = make[kind](**SIZES)
    cache.append(block(2, 3, 2), block(2, 3, 2))
    with refused("rows must be whole numbers from 0 to 1"):
        cache.select(rows)
    with refused("reorder needs 2 rows, one a beam, got 3"):
        cache.reorder([0, 1, 1])
    assert len(cache.lengths) == 2


@NOT_CROSS
def test_numbers_of_queries(make, kind):
    cache = make[kind](**SIZES)
    cache.append(block(2, 3, 2), block(2, 3, 2))
    for wrong in (0, -1, 1.5):
        with refused("num_queries must be a positive whole number", repr(wrong)):
            cache.mask(wrong)
        with refused("num_tokens must be a positive whole number", repr(wrong)):
            cache.next_positions(wrong)
    if kind not in ("ragged", "paged"):
        with refused("3 queries, but only 2 tokens"):
            cache.mask(3)


FORMULAS = {
    "kv_cache_bytes": {"num_key_value_heads": 2, "head_dim": 4, "window": 3, "num_sinks": 1},
    "latent_cache_bytes": {"latent_dim": 4, "rope_dim": 2},
    "quantised_cache_bytes": {"num_key_value_heads": 2, "head_dim": 4},
    "paged_cache_bytes": {"num_key_value_heads": 2, "head_dim": 4, "block_size": 2},
}


@pytest.mark.parametrize("name", FORMULAS)
def test_sizes_in_the_formulas(import_unchecked, name):
    formula = getattr(import_unchecked("lib.memory"), name)
    sizes = {"batch_size": 1, "seq_len": 8, "num_layers": 2, **FORMULAS[name]}
    assert formula(**sizes) > 0
    for size in sizes:
        for wrong in (-1, 1.5, "2", True):
            with refused(size, "positive whole number", repr(wrong)):
                formula(**{**sizes, size: wrong})
    for wrong in (0, -2, "2"):
        with refused("bytes_per_element must be a number above zero", repr(wrong)):
            formula(**sizes, bytes_per_element=wrong)


def test_sinks_without_a_window_and_scales_of_no_bytes(import_unchecked):
    memory = import_unchecked("lib.memory")
    sizes = {"batch_size": 1, "seq_len": 8, "num_layers": 2, "num_key_value_heads": 2}
    with refused("num_sinks needs a window beside it, got 4"):
        memory.kv_cache_bytes(**sizes, head_dim=4, num_sinks=4)
    with refused("scale_bytes must be a number above zero, got 0"):
        memory.quantised_cache_bytes(**sizes, head_dim=4, scale_bytes=0)
