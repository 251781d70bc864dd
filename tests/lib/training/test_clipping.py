"""Clipping against torch's."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lib.training import clip_by_global_norm, global_norm


def parameters(seed, size):
    generator = torch.Generator().manual_seed(seed)
    made = []
    for shape in [(3, 4), (5,), (2, 2, 2), ()]:
        parameter = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
        parameter.grad = size * torch.randn(shape, generator=generator, dtype=torch.float64)
        made.append(parameter)
    return [*made, nn.Parameter(torch.zeros(2))]


@given(st.integers(0, 99), st.sampled_from([0.0, 1e-3, 0.3, 1.0, 1e3]), st.floats(0.01, 10))
def test_the_same_as_torchs(seed, size, max_norm):
    ours, theirs = parameters(seed, size), parameters(seed, size)
    norm = clip_by_global_norm(iter(ours), max_norm)
    torch.testing.assert_close(norm, torch.nn.utils.clip_grad_norm_(theirs, max_norm))
    for one, two in zip(ours, theirs, strict=True):
        if one.grad is not None:
            torch.testing.assert_close(one.grad, two.grad, rtol=1e-12, atol=0)
    clipped = global_norm(each.grad for each in ours if each.grad is not None)
    assert clipped <= max_norm + 1e-9


def test_without_a_maximum_nothing_changes():
    ours, before = parameters(0, 10.0), parameters(0, 10.0)
    norm = clip_by_global_norm(ours, None)
    flat = torch.cat([each.grad.flatten() for each in ours[:-1]])
    torch.testing.assert_close(norm, flat.norm())
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(ours[:-1], before[:-1], strict=True))


def test_no_gradients_have_norm_zero():
    assert clip_by_global_norm([nn.Parameter(torch.ones(2))], 1.0) == 0


def test_a_maximum_must_be_above_zero():
    with pytest.raises(ValueError, match="max_norm must be a number above zero"):
        clip_by_global_norm(parameters(0, 1.0), 0.0)
