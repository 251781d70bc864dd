"""The library's own attention decodes with every cache as it reads the whole sequence at once."""

from functools import partial

import pytest
import torch

from lib import masks
from lib.attention.latent import LatentAttention
from lib.attention.multi_head import MultiHeadAttention
from lib.kv_cache import (
    BlockPool,
    GrowingCache,
    LatentCache,
    PagedCache,
    PreallocatedCache,
    RaggedCache,
    SlidingWindowCache,
)
from lib.positions.rope import apply_rotary, rotary_table

TOKENS, BLOCKS = 14, [5, 1, 1, 4, 1, 2]
SIZES = {"batch_size": 2, "dtype": torch.float64}
HEADS = {**SIZES, "num_key_value_heads": 2, "head_dim": 4}


def paged():
    pool = BlockPool(
        num_blocks=10, block_size=3, num_key_value_heads=2, head_dim=4, dtype=torch.float64
    )
    return PagedCache(pool=pool, batch_size=2)


CACHES = {
    "growing": lambda: GrowingCache(**HEADS),
    "preallocated": lambda: PreallocatedCache(capacity=TOKENS, **HEADS),
    "ragged": lambda: RaggedCache(capacity=TOKENS, **HEADS),
    "paged": paged,
    "window": lambda: SlidingWindowCache(window=4, num_sinks=1, **HEADS),
}


def turning(head_dim, first, last):
    cos, sin = rotary_table(torch.arange(first, last), head_dim, dtype=torch.float64)
    return partial(apply_rotary, cos=cos, sin=sin)


@torch.no_grad()
def decode(attention, hidden, cache, head_dim, **options):
    outputs, start = [], 0
    for length in BLOCKS:
        rotary = turning(head_dim, start, start + length)
        block = hidden[:, start : start + length]
        outputs.append(attention(block, rotary=rotary, cache=cache, **options))
        start += length
    return torch.cat(outputs, dim=1)


@pytest.mark.parametrize("name", CACHES)
def test_grouped_heads_decode_as_they_read(name):
    attention = MultiHeadAttention(16, 4, 2).double()
    hidden = torch.randn(2, TOKENS, 16, dtype=torch.float64)
    mask = masks.causal(TOKENS)
    if name == "window":
        sink = masks.global_tokens(TOKENS, positions=[0])
        mask = masks.sliding_window(TOKENS, window=4) | (sink & mask & (torch.arange(TOKENS) == 0))
    expected = attention(hidden, mask=mask, rotary=turning(4, 0, TOKENS))
    torch.testing.assert_close(decode(attention, hidden, CACHES[name](), 4), expected)


@pytest.mark.parametrize("absorbed", [False, True])
def test_latents_decode_as_they_read(absorbed):
    attention = LatentAttention(16, 4, head_dim=4, latent_dim=6, rope_dim=2).double()
    hidden = torch.randn(2, TOKENS, 16, dtype=torch.float64)
    expected = attention(hidden, is_causal=True, rotary=turning(2, 0, TOKENS))
    cache = LatentCache(latent_dim=6, rope_dim=2, capacity=TOKENS, **SIZES)
    output = decode(attention, hidden, cache, 2, absorbed=absorbed)
    torch.testing.assert_close(output, expected)
