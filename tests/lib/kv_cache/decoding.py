"""A tiny attention to decode with, all caches in one size, and ways to cut a sequence in blocks."""

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lib.kv_cache import (
    BlockPool,
    GrowingCache,
    Int8Cache,
    PagedCache,
    PreallocatedCache,
    RaggedCache,
    SlidingWindowCache,
)

# batch, attention heads, key-value heads, head_dim, value_dim
BATCH, HEADS, GROUPS, HEAD, VALUE = 2, 4, 2, 4, 6
SIZES = {
    "batch_size": BATCH,
    "num_key_value_heads": GROUPS,
    "head_dim": HEAD,
    "value_dim": VALUE,
    "dtype": torch.float64,
}


def paged(*, batch_size, capacity, block_size=3, spare=0, **sizes):
    """A paged cache whose pool has room for `capacity` tokens of every sequence."""
    num_blocks = batch_size * -(-capacity // block_size) + spare
    pool = BlockPool(num_blocks=num_blocks, block_size=block_size, **sizes)
    return PagedCache(pool=pool, batch_size=batch_size)


# Caches of which nothing may be missing: they all give what attention over all tokens gives.
WHOLE = {
    "growing": lambda capacity, **sizes: GrowingCache(**sizes),
    "preallocated": PreallocatedCache,
    "window": lambda capacity, **sizes: SlidingWindowCache(window=capacity, **sizes),
    "sinks": lambda capacity, **sizes: SlidingWindowCache(window=1, num_sinks=capacity, **sizes),
    "ragged": RaggedCache,
    "paged": paged,
    "int8": lambda **sizes: Int8Cache(scale_dtype=torch.float64, **sizes),
}


def projections(length, *, seed=0, batch=BATCH, heads=HEADS, groups=GROUPS):
    """Queries, keys and values of random hidden states, through random projections."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    hidden = draw(batch, length, 8)
    sides = (heads, HEAD), (groups, HEAD), (groups, VALUE)
    return [torch.einsum("btd,hde->bhte", hidden, draw(count, 8, width)) for count, width in sides]


def attention(q, k, v, mask=None):
    """The oracle: PyTorch's attention, grouped where there are fewer keys than queries."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)


def causal_attention(q, k, v):
    """All tokens at once, without a cache."""
    length = q.shape[-2]
    return attention(q, k, v, torch.ones(length, length, dtype=torch.bool).tril())


def decode(cache, q, k, v, blocks):
    """The same tokens in blocks of these sizes, each against the cache."""
    outputs, start = [], 0
    for size in blocks:
        now = slice(start, start + size)
        keys, values = cache.append(k[..., now, :], v[..., now, :])
        outputs.append(attention(q[..., now, :], keys, values, cache.mask(size)))
        start += size
    return torch.cat(outputs, dim=-2)


@st.composite
def block_sizes(draw, most=14):
    """How a sequence comes: token by token, all at once, or anything between."""
    length = draw(st.integers(1, most))
    kind = draw(st.sampled_from(["tokens", "whole", "prompt and tokens", "any"]))
    if kind == "tokens":
        return [1] * length
    if kind == "whole":
        return [length]
    if kind == "prompt and tokens":
        prompt = draw(st.integers(1, length))
        return [prompt] + [1] * (length - prompt)
    sizes = []
    while sum(sizes) < length:
        sizes.append(draw(st.integers(1, length - sum(sizes))))
    return sizes


class Allocations(TorchDispatchMode):
    """The bytes of every storage that an operator makes anew; views and writes make none."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def __torch_dispatch__(self, operator, types, arguments=(), options=None):
        given = storages((arguments, options))
        result = operator(*arguments, **(options or {}))
        self.sizes += [s.nbytes() for key, s in storages(result).items() if key not in given]
        return result


def storages(values):
    """The storages behind tensors, by their addresses."""
    tensors = [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]
    return {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in tensors}
