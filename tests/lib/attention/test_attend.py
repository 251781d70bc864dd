import pytest
import torch
from hypothesis import given
from torch.nn import functional as F

from lib.attention.attend import attend, attend_loop, masked_softmax
from lib.attention.dot_product import (
    fused_dot_product_attention,
    intersect,
    scaled_dot_product_attention,
)
from tests.lib.attention.head_cases import Draw, batches, dtypes, head_counts, lengths, seeds


@given(seeds, batches, lengths, lengths, dtypes)
def test_attend_is_what_torch_computes(seed, batch, queries, keys, dtype):
    draw = Draw(seed)
    q = draw.numbers(batch, 2, queries, 4, dtype=dtype)
    k = draw.numbers(batch, 2, keys, 4, dtype=dtype)
    v = draw.numbers(batch, 2, keys, 3, dtype=dtype)
    mask, bias = draw.mask(batch, 1, queries, keys), draw.numbers(2, queries, keys, dtype=dtype)
    ours = scaled_dot_product_attention(q, k, v, mask, bias=bias)
    additive = bias.masked_fill(~mask, float("-inf"))
    oracle = F.scaled_dot_product_attention(q, k, v, attn_mask=additive)
    tolerance = {"rtol": 0.05, "atol": 0.05} if dtype == torch.bfloat16 else {}
    torch.testing.assert_close(ours, oracle, **tolerance)
    assert ours.dtype == dtype
    fused = fused_dot_product_attention(q, k, v, mask, bias=bias)
    torch.testing.assert_close(fused, ours, **tolerance)


@given(seeds, lengths, lengths)
def test_the_loop_is_the_matmul(seed, queries, keys):
    draw = Draw(seed)
    scores, values = draw.numbers(queries, keys), draw.numbers(keys, 3)
    torch.testing.assert_close(attend_loop(scores, values), attend(scores, values)[0])


@pytest.mark.parametrize("shift", [-1e5, 1e5])
def test_the_loop_survives_scores_whose_exponential_does_not(shift):
    draw = Draw()
    scores, values = draw.numbers(3, 5), draw.numbers(5, 2)
    torch.testing.assert_close(attend_loop(scores + shift, values), attend(scores, values)[0])


@given(seeds, batches, lengths, lengths, dtypes)
def test_weights_add_up_to_1_or_to_0(seed, batch, queries, keys, dtype):
    draw = Draw(seed)
    scores, mask = draw.numbers(batch, queries, keys, dtype=dtype), draw.mask(queries, keys)
    weights = masked_softmax(scores * 30, mask)
    assert (weights >= 0).all() and (weights[:, ~mask] == 0).all()
    total = mask.any(dim=-1).to(dtype).expand(batch, queries)
    tolerance = {"rtol": 0.02, "atol": 0.02} if dtype == torch.bfloat16 else {}
    torch.testing.assert_close(weights.sum(dim=-1), total, **tolerance)


@pytest.mark.parametrize("compute", [scaled_dot_product_attention, fused_dot_product_attention])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_a_fully_masked_row_is_zero_forward_and_backward(compute, biased, dtype):
    draw = Draw()
    q, k, v = (draw.numbers(2, 3, 4, 8, dtype=dtype, grad=True) for _ in range(3))
    bias = draw.numbers(3, 4, 4, dtype=dtype, grad=True) if biased else None
    mask = draw.mask(2, 1, 4, 4)
    mask[:, :, 1], mask[:, :, :, 2] = False, False
    output = compute(q, k, v, mask, bias=bias)
    assert (output[:, :, 1] == 0).all()
    output.sum().backward()
    for tensor in (q, k, v) if bias is None else (q, k, v, bias):
        assert tensor.grad.isfinite().all() and tensor.grad.any()
    assert (q.grad[:, :, 1] == 0).all()
    assert (k.grad[:, :, 2] == 0).all() and (v.grad[:, :, 2] == 0).all()


def test_gradients_are_those_of_finite_differences():
    draw = Draw()
    tensors = draw.numbers(2, 3, 4, grad=True), draw.numbers(2, 4, 3, grad=True)
    mask = draw.mask(2, 3, 4)
    mask[0, 1] = False
    assert torch.autograd.gradcheck(lambda scores, values: attend(scores, values, mask), tensors)


@pytest.mark.parametrize("shape", [(6,), (5, 6), (1, 6), (5, 1), (4, 1, 6), (2, 1, 1, 6)])
def test_every_mask_and_bias_that_broadcasts_is_taken(shape):
    draw = Draw()
    q, k = draw.numbers(2, 4, 5, 8), draw.numbers(2, 4, 6, 8)
    mask, bias = draw.mask(*shape), draw.numbers(*shape)
    whole = {"mask": mask.expand(2, 4, 5, 6), "bias": bias.expand(2, 4, 5, 6)}
    for given_ in ({"mask": mask}, {"bias": bias}, {"mask": mask, "bias": bias}):
        expected = scaled_dot_product_attention(q, k, k, **{key: whole[key] for key in given_})
        torch.testing.assert_close(fused_dot_product_attention(q, k, k, **given_), expected)
        torch.testing.assert_close(scaled_dot_product_attention(q, k, k, **given_), expected)


@given(seeds, head_counts, lengths, lengths)
def test_causal_is_aligned_to_the_last_key_also_where_the_kernel_is_not(seed, heads, first, more):
    """`is_causal` of torch's kernel would show one new query the first of the keys alone."""
    draw, keys = Draw(seed), first + more
    q, k = draw.numbers(2, heads[0], more, 4), draw.numbers(2, heads[1], keys, 4)
    seen = torch.arange(keys) <= torch.arange(first, keys)[:, None]
    ours = fused_dot_product_attention(q, k, k, is_causal=True)
    torch.testing.assert_close(ours, fused_dot_product_attention(q, k, k, seen))
    square = fused_dot_product_attention(q, k[:, :, :more], k[:, :, :more], is_causal=True)
    start = torch.ones(more, more, dtype=torch.bool).tril()
    expected = fused_dot_product_attention(q, k[:, :, :more], k[:, :, :more], start)
    torch.testing.assert_close(square, expected)


def test_dropout_leaves_the_average_what_it_was_in_expectation():
    draw, dropout = Draw(), 0.3
    scores, values = draw.numbers(4, 6), draw.numbers(6, 3)
    many = scores.expand(40_000, 4, 6)
    output, weights = attend(many, values, dropout=dropout, generator=draw.generator)
    expected, whole = attend(scores, values)
    assert torch.equal(weights, whole.expand_as(many))
    assert not torch.allclose(output[0], expected)
    torch.testing.assert_close(output.mean(dim=0), expected, atol=0.02, rtol=0)


def test_masks_intersect():
    draw = Draw()
    left, right = draw.mask(4, 5), draw.mask(2, 1, 1, 5)
    assert torch.equal(intersect(left, right), left & right)
    assert intersect(None, left) is left and intersect(left, None) is left
    assert intersect(None, None) is None


@pytest.mark.parametrize(
    "function", ["scaled_dot_product_attention", "fused_dot_product_attention"]
)
@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"mask": torch.ones(3, 4)}, r"boolean \(True = may attend\), got torch.float32"),
        ({"mask": torch.ones(3, 5) > 0}, r"mask of shape \(3, 5\) does not fit .*\(1, 2, 3, 4\)"),
        ({"mask": torch.ones(2, 1, 3, 4) > 0}, r"mask of shape \(2, 1, 3, 4\) does not fit"),
        ({"bias": torch.ones(3, 5)}, r"bias of shape \(3, 5\) does not fit .*\(1, 2, 3, 4\)"),
        ({"bias": torch.ones(1, 1, 2, 3, 4)}, r"bias of shape \(1, 1, 2, 3, 4\) does not fit"),
        ({"bias": torch.ones(3, 4) > 0}, "a bias .* must have floats, got torch.bool"),
    ],
)
def test_masks_and_biases_that_do_not_fit(import_unchecked, function, given_, message):
    module = import_unchecked("lib.attention.dot_product")
    q, k = torch.ones(1, 2, 3, 4), torch.ones(1, 2, 4, 4)
    with pytest.raises(ValueError, match=message):
        getattr(module, function)(q, k, k, **given_)


@pytest.mark.parametrize("dropout", [-0.1, 1.0, 2, float("nan")])
def test_a_dropout_that_is_no_share(import_unchecked, dropout):
    module = import_unchecked("lib.attention.attend")
    with pytest.raises(ValueError, match=r"dropout must be at least 0 and below 1, got"):
        module.attend(torch.ones(2, 2), torch.ones(2, 2), dropout=dropout)


@pytest.mark.parametrize("mask", [torch.ones(3, 5) > 0, torch.ones(3, 4), torch.ones(3, 4).long()])
def test_a_mask_that_does_not_fit_causal_either(import_unchecked, mask):
    module = import_unchecked("lib.attention.dot_product")
    q, k = torch.ones(1, 2, 3, 4), torch.ones(1, 2, 4, 4)
    with pytest.raises(ValueError, match=r"must be boolean"):
        module.fused_dot_product_attention(q, k, k, mask, is_causal=True)
