import pytest
import torch
from hypothesis import given

from lib.attention.attend import attend
from lib.attention.hard import hard_attend, sampled_attend
from tests.lib.attention.head_cases import Draw, batches, lengths, seeds


@given(seeds, batches, lengths, lengths)
def test_hard_attention_is_soft_attention_to_the_best_key_alone(seed, batch, queries, keys):
    draw = Draw(seed)
    scores, values = draw.numbers(batch, queries, keys), draw.numbers(batch, keys, 3)
    mask = draw.mask(queries, keys)
    output, weights = hard_attend(scores, values, mask)
    best = scores == scores.masked_fill(~mask, float("-inf")).amax(dim=-1, keepdim=True)
    soft, soft_weights = attend(scores, values, mask & best)
    torch.testing.assert_close(output, soft)
    torch.testing.assert_close(weights, soft_weights)


def test_it_is_the_limit_of_soft_attention_to_ever_larger_scores():
    draw = Draw()
    scores, values = draw.numbers(4, 6), draw.numbers(6, 3)
    torch.testing.assert_close(hard_attend(scores, values)[0], attend(scores * 1e4, values)[0])


def test_of_equal_scores_the_first_wins():
    _, weights = hard_attend(torch.zeros(2, 3), torch.ones(3, 1), torch.tensor([False, True, True]))
    assert weights.tolist() == [[0, 1, 0], [0, 1, 0]]


def test_the_expectation_of_sampled_attention_is_soft_attention():
    draw = Draw()
    scores, values, mask = draw.numbers(4, 6), draw.numbers(6, 3), draw.mask(4, 6)
    mask[0] = False
    many = scores.expand(40_000, 4, 6)
    output, weights = sampled_attend(many, values, mask, generator=draw.generator)
    assert weights.unique().tolist() == [0, 1]
    assert (weights.sum(dim=-1) == mask.any(dim=-1)).all()
    assert (weights[:, ~mask] == 0).all()
    soft, soft_weights = attend(scores, values, mask)
    torch.testing.assert_close(weights.mean(dim=0), soft_weights, atol=0.01, rtol=0)
    torch.testing.assert_close(output.mean(dim=0), soft, atol=0.03, rtol=0)


def test_the_generator_decides():
    draw = Draw()
    scores, values = draw.numbers(50, 6), draw.numbers(6, 3)
    first, again, other = (
        sampled_attend(scores, values, generator=Draw(seed).generator)[0] for seed in (3, 3, 4)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_fully_masked_row_is_zero_and_gradients_reach_the_values_only(dtype):
    draw = Draw()
    mask = draw.mask(3, 5)
    mask[1] = False
    for attend_to, options in ((hard_attend, {}), (sampled_attend, {"generator": draw.generator})):
        scores, values = (draw.numbers(*s, dtype=dtype, grad=True) for s in ((3, 5), (5, 2)))
        output, weights = attend_to(scores, values, mask, **options)
        assert (output[1] == 0).all() and (weights[1] == 0).all() and weights.dtype == dtype
        output.sum().backward()
        assert scores.grad is None
        torch.testing.assert_close(values.grad, weights.sum(dim=0)[:, None].expand(5, 2))


def test_a_mask_that_does_not_fit(import_unchecked):
    hard = import_unchecked("lib.attention.hard")
    scores, values = torch.ones(3, 4), torch.ones(4, 2)
    with pytest.raises(ValueError, match=r"mask of shape \(3, 5\) does not fit"):
        hard.hard_attend(scores, values, torch.ones(3, 5) > 0)
    with pytest.raises(ValueError, match="a mask must be boolean"):
        hard.sampled_attend(scores, values, torch.ones(3, 4), generator=torch.Generator())
