"""The schedules against Hugging Face's, and the Transformer's formula."""

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from lib.training import warmup_constant, warmup_cosine, warmup_inverse_sqrt, warmup_linear


def theirs(name, **sizes):
    """The factors of Hugging Face's schedule: one for each step, from 0."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    make = getattr(transformers.optimization, f"get_{name}_schedule_with_warmup")
    return make(optimizer, **sizes).lr_lambdas[0]


sizes = st.integers(1, 40).flatmap(
    lambda total: st.tuples(st.just(total), st.integers(0, total), st.integers(1, total))
)


@given(sizes, st.floats(1e-5, 1))
def test_linear_and_cosine_are_hugging_faces_shifted_by_one_at_the_end(drawn, peak):
    total, warmup, step = drawn
    ours = {"warmup_steps": warmup, "total_steps": total}
    lengths = {"num_warmup_steps": warmup, "num_training_steps": total + 1}
    for schedule, name in ((warmup_linear, "linear"), (warmup_cosine, "cosine")):
        expected = peak * theirs(name, **lengths)(step)
        assert schedule(step, peak=peak, **ours) == pytest.approx(expected)


@given(st.integers(1, 5000), st.integers(1, 400), st.sampled_from([64, 512, 1024]))
def test_inverse_sqrt_is_the_transformers(step, warmup, width):
    formula = width**-0.5 * min(step**-0.5, step * warmup**-1.5)
    ours = warmup_inverse_sqrt(step, peak=(width * warmup) ** -0.5, warmup_steps=warmup)
    assert ours == pytest.approx(formula)


@pytest.mark.parametrize("schedule", [warmup_linear, warmup_cosine])
@pytest.mark.parametrize("warmup", [0, 1, 10, 50])
def test_no_update_is_wasted(schedule, warmup):
    rates = [schedule(step, peak=0.1, warmup_steps=warmup, total_steps=50) for step in range(1, 52)]
    assert all(0 < rate <= 0.1 for rate in rates[:50]) and rates[50] == 0
    if warmup:
        assert rates[warmup - 1] == max(rates) == 0.1
        assert rates[:warmup] == pytest.approx(
            [0.1 * step / warmup for step in range(1, warmup + 1)]
        )
    after = rates[max(warmup - 1, 0) :]
    assert after == sorted(after, reverse=True)


def test_constant_and_floor():
    rates = [warmup_constant(step, peak=2.0, warmup_steps=4) for step in range(1, 8)]
    assert rates == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0]
    assert warmup_constant(1, peak=2.0, warmup_steps=0) == 2.0
    options = {"peak": 1.0, "warmup_steps": 2, "total_steps": 9, "floor": 0.1}
    assert warmup_cosine(6, **options) == pytest.approx(0.55)
    assert warmup_cosine(10, **options) == warmup_cosine(99, **options) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: warmup_constant(0, peak=1.0, warmup_steps=3), "step must be a positive"),
        (lambda: warmup_constant(1, peak=1.0, warmup_steps=-3), "warmup_steps must be a number, 0"),
        (
            lambda: warmup_inverse_sqrt(1, peak=1.0, warmup_steps=0),
            "warmup_steps must be a positive",
        ),
        (
            lambda: warmup_linear(12, peak=1.0, warmup_steps=11, total_steps=10),
            "between 0 and total_steps = 10, got 11",
        ),
        (
            lambda: warmup_cosine(1, peak=1.0, warmup_steps=0, total_steps=5, floor=-1.0),
            "floor must be a number, 0 or more",
        ),
    ],
)
def test_impossible_schedules(call, message):
    with pytest.raises(ValueError, match=message):
        call()
