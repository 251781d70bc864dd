"""ALiBi against BLOOM's and MPT's biases in Hugging Face."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor

from lib.masks import causal
from lib.positions import alibi_bias, alibi_slopes

few = settings(max_examples=15)


def test_slopes_of_the_paper():
    assert alibi_slopes(8).tolist() == [2**-h for h in range(1, 9)]
    assert alibi_slopes(16).tolist() == pytest.approx([2 ** (-h / 2) for h in range(1, 17)])
    assert alibi_slopes(1).tolist() == [2**-8]
    assert alibi_slopes(3).tolist() == [2**-4, 2**-8, 2**-2]
    assert alibi_slopes(112)[:64].tolist() == alibi_slopes(64).tolist()


@pytest.mark.parametrize("heads", range(1, 41))
def test_slopes_and_the_last_query_are_those_of_bloom_and_mpt(heads):
    ours = alibi_bias(heads, 9, dtype=torch.float64)
    bloom = build_alibi_tensor(torch.ones(1, 9, dtype=torch.long), heads, torch.float64)
    torch.testing.assert_close(alibi_slopes(heads), bloom[:, 0, 1], rtol=1e-6, atol=0)
    mpt = build_mpt_alibi_tensor(heads, 9).double()
    torch.testing.assert_close(ours[:, -1:], mpt, rtol=1e-6, atol=0)
    # BLOOM counts from the first key; within a row that is a constant, which softmax ignores.
    difference = (bloom - ours).masked_fill(~causal(9), float("nan"))
    spread = difference.nan_to_num(-1e9).amax(-1) - difference.nan_to_num(1e9).amin(-1)
    assert spread.abs().max() < 1e-5


@few
@given(st.integers(1, 12), st.integers(1, 8), st.integers(0, 8))
def test_the_bias_is_slope_times_distance(heads, queries, past):
    keys = queries + past
    bias = alibi_bias(heads, queries, keys, dtype=torch.float64)
    slopes = alibi_slopes(heads)
    for i in range(queries):
        for j in range(keys):
            expected = -slopes * abs(past + i - j)
            torch.testing.assert_close(bias[:, i, j], expected)
    assert torch.equal(bias, alibi_bias(heads, keys, dtype=torch.float64)[:, past:])


def test_bad_input_is_refused(import_unchecked):
    unchecked = import_unchecked("lib.positions")
    for heads in (0, 2.5, "8"):
        with pytest.raises(ValueError, match="num_attention_heads must be a positive whole"):
            unchecked.alibi_slopes(heads)
    with pytest.raises(ValueError, match="3 queries cannot stand at the end of only 2 keys"):
        unchecked.alibi_bias(4, 3, 2)
