"""8-bit keys and values: how far off they are, and what that does to attention."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from lib.kv_cache import Int8Cache, dequantise_int8, quantise_int8
from tests.lib.kv_cache.decoding import SIZES, projections

# The numbers of one vector may differ by many orders of magnitude, and so may vectors.
finite = st.floats(-1e4, 1e4, width=32)
vectors = st.lists(finite, min_size=1, max_size=12).map(torch.tensor)


@settings(max_examples=300)
@given(vectors, st.sampled_from([torch.float64, torch.float32]))
def test_off_by_half_a_scale_at_most(vector, dtype):
    vector = vector.to(dtype)
    numbers, scale = quantise_int8(vector, dtype)
    error = (vector.double() - dequantise_int8(numbers, scale, dtype).double()).abs()
    # 127 roundings of the dtype, for the division and the product.
    rounding = 127 * torch.finfo(dtype).eps * scale + torch.finfo(dtype).tiny
    assert (error <= scale / 2 + rounding).all()


@settings(max_examples=100)
@given(vectors, st.sampled_from([torch.bfloat16, torch.float16]))
def test_narrow_numbers_are_off_by_one_rounding_more(vector, dtype):
    """The scale is float32; only the result is rounded to the narrow type."""
    vector = vector.to(dtype)
    numbers, scale = quantise_int8(vector)
    found = dequantise_int8(numbers, scale, dtype)
    rounding = torch.finfo(dtype).eps * vector.double().abs().max() + torch.finfo(dtype).tiny
    assert ((vector.double() - found.double()).abs() <= scale / 2 + rounding).all()


@given(st.integers(1, 8), st.integers(0, 2**16))
def test_the_largest_entry_is_kept(width, seed):
    generator = torch.Generator().manual_seed(seed)
    vector = torch.randn(3, width, generator=generator, dtype=torch.float64)
    numbers, scale = quantise_int8(vector, torch.float64)
    assert (numbers.abs().amax(dim=-1) == 127).all()
    largest = vector.abs().argmax(dim=-1, keepdim=True)
    found = dequantise_int8(numbers, scale, torch.float64)
    assert_close(found.gather(-1, largest), vector.gather(-1, largest))


def test_zeros_stay_zeros():
    numbers, scale = quantise_int8(torch.zeros(2, 4))
    assert torch.equal(dequantise_int8(numbers, scale, torch.float32), torch.zeros(2, 4))


def test_each_token_and_head_has_its_own_scale():
    """A large one beside it does not round a small one away."""
    _, k, v = projections(3)
    k[:, 0], k[:, :, 1] = 1e6 * k[:, 0], 1e-6 * k[:, :, 1]
    keys, values = Int8Cache(capacity=3, **SIZES).append(k, v)
    largest = k.abs().amax(dim=-1, keepdim=True)
    assert ((keys - k).abs() <= largest / 253).all()
    assert (values != v).any()


def test_old_tokens_are_not_rounded_again():
    _, k, v = projections(6)
    cache = Int8Cache(capacity=6, **SIZES)
    first, _ = cache.append(k[..., :2, :], v[..., :2, :])
    for token in range(2, 6):
        keys, _ = cache.append(k[..., token : token + 1, :], v[..., token : token + 1, :])
    assert torch.equal(keys[..., :2, :], first)
    assert cache.numbers.keys.dtype == torch.int8 and keys.dtype == torch.float64
