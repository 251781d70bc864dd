"""T5's buckets and biases, equal to Hugging Face's one by one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import T5Config
from transformers.models.t5.modeling_t5 import T5Attention

from lib.positions import T5RelativeBias, t5_bucket

DISTANCES = torch.arange(-2000, 2001)
few = settings(max_examples=15)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(
    ("num_buckets", "max_distance"), [(32, 128), (16, 20), (64, 256), (4, 9), (128, 1000), (32, 17)]
)
def test_every_bucket_is_hugging_faces(bidirectional, num_buckets, max_distance):
    options = {
        "bidirectional": bidirectional,
        "num_buckets": num_buckets,
        "max_distance": max_distance,
    }
    theirs = T5Attention._relative_position_bucket(DISTANCES, **options)
    assert torch.equal(t5_bucket(DISTANCES, **options), theirs)


def test_near_distances_have_a_bucket_each_and_far_ones_share_the_last():
    buckets = dict(zip(DISTANCES.tolist(), t5_bucket(DISTANCES).tolist(), strict=True))
    assert [buckets[-d] for d in range(8)] == list(range(8))
    assert [buckets[d] for d in range(1, 8)] == [16 + d for d in range(1, 8)]
    assert {buckets[-d] for d in range(128, 2001)} == {15}
    assert {buckets[d] for d in range(128, 2001)} == {31}
    assert set(buckets.values()) == set(range(32)) - {16}
    causal = t5_bucket(DISTANCES, bidirectional=False)
    assert (causal[DISTANCES >= 0] == 0).all()
    assert set(causal.tolist()) == set(range(32))
    assert (causal.diff() <= 0).all()


@few
@given(st.booleans(), st.integers(1, 9), st.integers(0, 40), st.integers(1, 4), st.integers(2, 12))
def test_the_bias_is_hugging_faces(bidirectional, queries, past, heads, half):
    config = T5Config(
        num_heads=heads,
        d_kv=4,
        d_model=8,
        is_decoder=not bidirectional,
        relative_attention_num_buckets=2 * half,
        relative_attention_max_distance=40,
    )
    theirs = T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
    ours = T5RelativeBias(heads, bidirectional=bidirectional, num_buckets=2 * half, max_distance=40)
    assert ours.weight.shape == theirs.relative_attention_bias.weight.shape
    with torch.no_grad():
        theirs.relative_attention_bias.weight.copy_(ours.weight)
    keys = queries + past
    expected = theirs.compute_bias(queries, keys, past_seen_tokens=past)[0]
    assert torch.equal(ours(queries, keys), expected)
    assert torch.equal(ours(keys)[:, past:], expected)


def test_each_bucket_learns_from_all_pairs_at_its_distance():
    bias = T5RelativeBias(2, num_buckets=8, max_distance=16)
    bias(5).sum().backward()
    pairs = [(j - i) for i in range(5) for j in range(5)]
    counts = t5_bucket(torch.tensor(pairs), num_buckets=8, max_distance=16).bincount(minlength=8)
    assert torch.equal(bias.weight.grad[:, 1], counts.float())


def test_the_generator_decides_the_numbers():
    one, other = (
        T5RelativeBias(3, generator=torch.Generator().manual_seed(5)).weight for _ in range(2)
    )
    assert torch.equal(one, other) and one.std() > 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_buckets": 7}, "even, with at least 2 per direction, got 7"),
        ({"num_buckets": 2}, "even, with at least 2 per direction, got 2"),
        ({"num_buckets": "32"}, "num_buckets must be a positive whole number.*got '32'"),
        ({"max_distance": 8}, "max_distance must be above 8.*got 8"),
        ({"max_distance": 16, "bidirectional": False}, "max_distance must be above 16.*got 16"),
    ],
)
def test_bad_input_is_refused(import_unchecked, options, message):
    unchecked = import_unchecked("lib.positions")
    with pytest.raises(ValueError, match=message):
        unchecked.t5_bucket(DISTANCES, **options)
    with pytest.raises(ValueError, match=message):
        unchecked.T5RelativeBias(4, **options)
    with pytest.raises(ValueError, match="num_attention_heads must be a positive whole number"):
        unchecked.T5RelativeBias(0)
