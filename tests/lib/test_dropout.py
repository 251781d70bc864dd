"""Dropout: the share it says, the expectation it keeps, neighbours that do not depend."""

import pytest
import torch
from torch import nn

from lib.dropout import Dropout, drop


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dropout", [0.1, 0.25, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_it_leaves_out_the_share_it_says(dropout, dtype):
    x = torch.full((500, 401), 0.5, dtype=dtype)
    dropped = drop(x, dropout, seeded())
    grown = 0.5 / (1 - dropout)
    left_out = dropped == 0
    # The probability is rounded to 2**-16, and so is 1 - dropout.
    rtol = max(2**-17 / (1 - dropout), torch.finfo(dtype).eps)
    assert dropped[~left_out].float().unique().tolist() == pytest.approx([grown], rel=rtol)
    # Five standard deviations of the share among 200,500.
    deviation = 5 * (dropout * (1 - dropout) / x.numel()) ** 0.5
    assert left_out.float().mean().item() == pytest.approx(dropout, abs=deviation)
    assert dropped.dtype == dtype


def test_the_four_numbers_of_one_draw_know_nothing_of_each_other():
    left_out = (drop(torch.ones(400_000, 4), 0.5, seeded()) == 0).double()
    correlations = left_out.T.corrcoef()
    torch.testing.assert_close(correlations, torch.eye(4).double(), atol=0.01, rtol=0)
    neighbours = torch.stack([left_out[:-1, 3], left_out[1:, 0]]).corrcoef()[0, 1]
    assert abs(neighbours) < 0.01


def test_the_expectation_is_exact_though_the_probability_is_rounded():
    """Half a step beside 1/2: what is left out and how much the rest grows are rounded together."""
    dropped = drop(torch.ones(4), 0.5 + 0.4 / 2**16, seeded())
    assert set(dropped.tolist()) <= {0.0, 2.0}


def test_the_gradient_passes_where_the_number_did():
    x = torch.linspace(-1, 1, 101, dtype=torch.float64, requires_grad=True)
    drop(x, 0.3, seeded()).sum().backward()
    same = drop(torch.ones(101, dtype=torch.float64), 0.3, seeded())
    assert torch.equal(x.grad, same)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (0, 5), (2, 3, 7)])
def test_every_shape(shape):
    assert drop(torch.ones(shape), 0.5, seeded()).shape == shape


def test_a_transposed_tensor_gets_what_its_copy_gets():
    x = torch.randn(5, 7, generator=seeded()).T
    assert torch.equal(drop(x, 0.5, seeded()), drop(x.contiguous(), 0.5, seeded()))


def test_the_generator_decides_and_without_one_the_global_seed():
    x = torch.ones(100)
    assert torch.equal(drop(x, 0.5, seeded()), drop(x, 0.5, seeded()))
    assert not torch.equal(drop(x, 0.5, seeded()), drop(x, 0.5, seeded(1)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        first = drop(x, 0.5)
        torch.manual_seed(3)
        assert torch.equal(first, drop(x, 0.5))


def test_nothing_happens_at_zero_and_in_evaluation():
    x = torch.ones(3)
    assert drop(x, 0.0) is x
    assert Dropout(0.5).eval()(x) is x
    assert isinstance(Dropout(0.5), nn.Dropout)
    assert set(Dropout(0.5)(torch.ones(1000)).tolist()) == {0.0, 2.0}


@pytest.mark.parametrize("dropout", [-0.1, 1.0, 2, float("nan")])
def test_a_dropout_that_is_no_share(import_unchecked, dropout):
    module = import_unchecked("lib.dropout")
    with pytest.raises(ValueError, match="dropout must be at least 0 and below 1, got"):
        module.drop(torch.ones(2), dropout)


def test_a_dropout_just_below_one_leaves_finite_numbers():
    assert drop(torch.ones(1000), 1 - 1e-9, seeded()).isfinite().all()
