"""Bytes kept for the backward pass, on operators whose needs are known by heart."""

import pytest
import torch

from lib.memory.saved import saved_bytes


def ones(*shape):
    return torch.ones(*shape, requires_grad=True)


def test_a_product_keeps_both_operands():
    x, y = ones(3, 5) + 0, ones(3, 5) + 0
    assert saved_bytes(lambda: x * y)[0] == x.nbytes + y.nbytes


def test_a_sum_keeps_nothing():
    x = ones(3, 5)
    assert saved_bytes(lambda: x + x)[0] == 0


def test_a_tensor_that_two_need_counts_once():
    x = ones(3, 5)
    assert saved_bytes(lambda: x.square() + x * x)[0] == x.nbytes


def test_parameters_do_not_count():
    linear, x = torch.nn.Linear(5, 7), torch.ones(3, 5)
    assert saved_bytes(lambda: linear(x), linear.parameters())[0] == x.nbytes
    assert saved_bytes(lambda: linear(x) * ones(3, 7), linear.parameters())[0] > x.nbytes


def test_views_count_what_they_hold_on_to():
    x = ones(100, 5)
    assert saved_bytes(lambda: x[:1].exp().square())[0] == 5 * 4
    assert saved_bytes(lambda: x[:1].square())[0] == x.nbytes


def test_the_result_can_be_differentiated():
    x = ones(4)
    _, result = saved_bytes(lambda: x.square().sum())
    result.backward()
    assert torch.equal(x.grad, torch.full((4,), 2.0))


def test_without_gradients_nothing_could_be_counted():
    with pytest.raises(ValueError, match="needs no gradient"):
        saved_bytes(lambda: torch.ones(3) * 2)
