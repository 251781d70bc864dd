"""Decoding with a cache gives what attention over all tokens at once gives, however they come."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from lib.kv_cache import LatentCache, dequantise_int8, quantise_int8
from tests.lib.kv_cache.decoding import (
    HEADS,
    SIZES,
    WHOLE,
    block_sizes,
    causal_attention,
    decode,
    projections,
)

whole = pytest.mark.parametrize("kind", WHOLE)


def stored(kind, vectors):
    """What a cache of this kind can give back of them."""
    if kind != "int8":
        return vectors
    return dequantise_int8(*quantise_int8(vectors, torch.float64), torch.float64)


@whole
@settings(max_examples=40)
@given(blocks=block_sizes(), seed=st.integers(0, 2**16))
def test_blocks_of_any_size(kind, blocks, seed):
    q, k, v = projections(sum(blocks), seed=seed)
    cache = WHOLE[kind](capacity=sum(blocks), **SIZES)
    expected = causal_attention(q, stored(kind, k), stored(kind, v))
    assert_close(decode(cache, q, k, v, blocks), expected)
    assert cache.length == sum(blocks)
    assert cache.lengths.tolist() == [sum(blocks)] * 2


@whole
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_grouped_heads_are_the_same_classes(kind, groups):
    """Multi-query, grouped-query and multi-head attention: only the number of heads differs."""
    q, k, v = projections(9, groups=groups)
    sizes = {**SIZES, "num_key_value_heads": groups}
    k, v = stored(kind, k), stored(kind, v)
    repeated = [x.repeat_interleave(HEADS // groups, dim=1) for x in (k, v)]
    expected = F.scaled_dot_product_attention(q, *repeated, is_causal=True)
    cache = WHOLE[kind](capacity=9, **sizes)
    assert_close(decode(cache, q, k, v, [4, 1, 1, 3]), expected)
    one = WHOLE[kind](capacity=9, **{**sizes, "num_key_value_heads": 1})
    decode(one, q, k[:, :1], v[:, :1], [9])
    assert cache.nbytes == groups * one.nbytes


@settings(max_examples=40)
@given(blocks=block_sizes(), seed=st.integers(0, 2**16))
def test_latents_in_place_of_keys_and_values(blocks, seed):
    """The tensors have no heads: each head makes its keys and values of what the cache returns."""
    generator = torch.Generator().manual_seed(seed)
    length, latent, rope, heads = sum(blocks), 5, 2, 3

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    latents, rope_keys = draw(2, length, latent), draw(2, length, rope)
    q, up_key, up_value = draw(2, heads, length, 6), draw(heads, latent, 4), draw(heads, latent, 4)

    def keys_and_values(latents, rope_keys):
        k = torch.einsum("btl,hle->bhte", latents, up_key)
        shared = rope_keys[:, None].expand(-1, heads, -1, -1)
        return torch.cat([k, shared], dim=-1), torch.einsum("btl,hle->bhte", latents, up_value)

    cache = LatentCache(
        batch_size=2, latent_dim=latent, rope_dim=rope, capacity=length, dtype=torch.float64
    )
    outputs, start = [], 0
    for size in blocks:
        now = slice(start, start + size)
        k, v = keys_and_values(*cache.append(latents[:, now], rope_keys[:, now]))
        mask = cache.mask(size)
        outputs.append(F.scaled_dot_product_attention(q[:, :, now], k, v, attn_mask=mask))
        start += size
    expected = causal_attention(q, *keys_and_values(latents, rope_keys))
    assert_close(torch.cat(outputs, dim=-2), expected)


@whole
def test_one_new_token_needs_no_mask(kind):
    """All that it is given it may see; aligned to the start, a mask would show it one key."""
    _, k, v = projections(5)
    cache = WHOLE[kind](capacity=5, **SIZES)
    cache.append(k[..., :4, :], v[..., :4, :])
    assert cache.mask(4).sum() == 10 * (2 if cache.mask(4).ndim == 4 else 1)
    cache.append(k[..., 4:, :], v[..., 4:, :])
    assert cache.mask(1) is None


@whole
def test_positions_of_the_next_tokens(kind):
    _, k, v = projections(5)
    cache = WHOLE[kind](capacity=9, **SIZES)
    assert cache.next_positions(3).expand(2, 3).tolist() == [[0, 1, 2]] * 2
    cache.append(k, v)
    assert cache.next_positions(2).expand(2, 2).tolist() == [[5, 6]] * 2


@whole
@settings(max_examples=20)
@given(blocks=block_sizes(8), data=st.data())
def test_drafted_tokens_are_verified_and_some_taken_back(kind, blocks, data):
    """Speculative decoding: the rejected drafts leave no trace."""
    length = sum(blocks)
    q, k, v = projections(length + 3)
    drafts, accepted = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 1))
    cache = WHOLE[kind](capacity=length + 8, **SIZES)
    decode(cache, *(x[..., :length, :] for x in (q, k, v)), blocks)

    _, wrong_k, wrong_v = projections(drafts, seed=1)
    new_k = torch.cat([k[..., length : length + accepted, :], 1e3 * wrong_k], dim=-2)
    new_v = torch.cat([v[..., length : length + accepted, :], 1e3 * wrong_v], dim=-2)
    cache.append(new_k, new_v)
    cache.truncate(length + accepted)
    assert cache.length == length + accepted

    rest = [x[..., length + accepted :, :] for x in (q, k, v)]
    found = decode(cache, *rest, [1, 2 - accepted])
    expected = causal_attention(q, stored(kind, k), stored(kind, v))
    assert_close(found, expected[..., length + accepted :, :])


@whole
def test_reset_makes_it_as_good_as_new(kind):
    q, k, v = projections(7)
    cache = WHOLE[kind](capacity=7, **SIZES)
    decode(cache, *projections(7, seed=1), [7])
    cache.reset()
    assert cache.length == 0
    expected = causal_attention(q, stored(kind, k), stored(kind, v))
    assert_close(decode(cache, q, k, v, [3, 1, 3]), expected)


@whole
@settings(max_examples=20)
@given(data=st.data())
def test_sequences_are_dropped_and_put_in_order(kind, data):
    """After `select` and `reorder` each row goes on as the sequence that it was taken from."""
    rows = st.lists(st.integers(0, 2), min_size=1, max_size=3)
    chosen = data.draw(rows)
    again = data.draw(
        st.lists(st.integers(0, len(chosen) - 1), min_size=len(chosen), max_size=len(chosen))
    )
    q, k, v = projections(9, batch=3)
    cache = WHOLE[kind](capacity=9, **{**SIZES, "batch_size": 3})
    decode(cache, *(x[..., :4, :] for x in (q, k, v)), [3, 1])
    expected = causal_attention(q, stored(kind, k), stored(kind, v))

    cache.select(chosen)
    assert cache.batch_size == len(chosen) and len(cache.lengths) == len(chosen)
    found = decode(cache, *(x[chosen, :, 4:7] for x in (q, k, v)), [2, 1])
    assert_close(found, expected[chosen, :, 4:7])

    cache.reorder(torch.tensor(again))
    beams = [chosen[row] for row in again]
    found = decode(cache, *(x[beams, :, 7:] for x in (q, k, v)), [1, 1])
    assert_close(found, expected[beams, :, 7:])
