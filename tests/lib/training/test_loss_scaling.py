"""The scale against torch's GradScaler; what it saves; what an overflow does."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lib.training import (
    SGD,
    AdamW,
    BatchStream,
    DynamicLossScale,
    Float16,
    StaticLossScale,
    TrainingRun,
    load_checkpoint,
    train,
)
from tests.lib.training.toy_run import counting_loss, new_run, weights


@given(st.lists(st.booleans(), max_size=30), st.integers(1, 4), st.sampled_from([2.0, 1.5]))
@settings(max_examples=40)
def test_the_schedule_is_grad_scalers(steps, interval, growth):
    ours = DynamicLossScale(scale=2.0**10, growth=growth, interval=interval)
    theirs = torch.amp.GradScaler(
        "cpu", init_scale=2.0**10, growth_factor=growth, growth_interval=interval
    )
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.0)
    for finite in steps:
        parameter.grad = theirs.scale(torch.tensor([1.0 if finite else float("inf")]))
        theirs.step(optimizer)
        theirs.update()
        ours.update(finite=finite)
        assert ours.scale == pytest.approx(theirs.get_scale())


def test_the_scale_never_becomes_infinite():
    scale = DynamicLossScale(scale=2.0**127, interval=1)
    scale.update(finite=True)
    assert scale.scale == 2.0**127


def test_a_static_scale_is_static():
    scale = StaticLossScale(8.0)
    scale.update(finite=False)
    assert scale.scale == 8.0


class Small(nn.Module):
    """Two weights, whose gradients are the factors that a batch gives them."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, factors):
        return (self.weight * factors.half()).sum()


def after_one_step(factors, scale, lr):
    model = Small()
    precision = Float16(model, StaticLossScale(scale))
    run = TrainingRun(model, SGD(precision.masters, lr=lr), the_same(factors), precision)
    record = train(run, lambda model, batch: model(batch), steps=1, max_norm=None)[0]
    return precision.masters[0].detach() - 1, record


def the_same(factors):
    """Batches that are all the same."""
    return BatchStream(lambda generator: [torch.tensor(factors)], torch.Generator())


def test_the_scale_saves_small_gradients():
    """2^-26 is nothing in float16. As a gradient of the loss times 2^10 it is 2^-16."""

    def tiny(model, batch):
        return model(batch).float() * 2.0**-20

    for scale, expected in ((1.0, 0.0), (2.0**10, -(2.0**-26))):
        model = Small()
        precision = Float16(model, StaticLossScale(scale))
        run = TrainingRun(model, SGD(precision.masters, lr=1.0), the_same([2.0**-6] * 2), precision)
        record = train(run, tiny, steps=1, max_norm=None)[0]
        gradient = precision.masters[0].grad
        assert gradient.tolist() == [-expected] * 2
        assert record.loss == pytest.approx(2 * 2.0**-26)


def test_it_is_unscaled_in_float32():
    """Unscaled in float16, the same gradient would be lost again."""
    assert torch.tensor(2.0**-16, dtype=torch.float16) / 2.0**10 == 0
    model = Small().half()
    precision = Float16(model, StaticLossScale(2.0**10))
    model.weight.grad = torch.tensor([2.0**-16, 1.0], dtype=torch.float16)
    assert precision.collect_gradients() and model.weight.grad is None
    assert precision.masters[0].grad.tolist() == [2.0**-26, 2.0**-10]


def test_an_overflow_leaves_the_step_out():
    change, record = after_one_step([1.0, 2.0**8], 2.0**10, lr=1.0)
    assert change.tolist() == [0.0, 0.0]
    assert record.gradient_norm == float("inf") and record.loss == 257.0
    change, record = after_one_step([1.0, 2.0**8], 2.0**7, lr=2.0**-8)
    assert change.tolist() == [-(2.0**-8), -1.0]


def test_masters_gather_updates_too_small_for_float16():
    """An update of 2^-12 rounds away on a float16 weight of 1; four of them are one unit of it."""
    model = Small()
    precision = Float16(model, StaticLossScale(1.0))
    run = TrainingRun(model, SGD(precision.masters, lr=2.0**-13), the_same([-1.0, -1.0]), precision)
    seen = []
    for steps in range(1, 9):
        train(run, lambda model, batch: model(batch), steps=steps, max_norm=None)
        seen.append(model.weight[0].item())
    assert model.weight.dtype == torch.float16
    assert seen[:4] == [1.0] * 4 and seen[7] == 1 + 2.0**-10
    narrow = torch.ones(1, dtype=torch.float16)
    for _ in range(8):
        narrow += 2.0**-13
    assert narrow == 1


def float16_run(loss_scale=None):
    run = new_run()
    precision = Float16(run.model, loss_scale)
    torch.manual_seed(0)
    return TrainingRun(
        run.model, AdamW(precision.masters, lr=3e-3), run.batches, precision=precision
    )


def float_loss(model, batch):
    return counting_loss(lambda ids: model(ids).float(), batch)


def test_float16_learns_after_overflows():
    """A scale that is far too large comes down by itself, half by half."""
    run = float16_run(DynamicLossScale(scale=2.0**24, interval=1000))
    curve = train(run, float_loss, steps=40, schedule=lambda step: 1e-2)
    skipped = [record for record in curve if record.gradient_norm == float("inf")]
    assert 3 < len(skipped) < 15 and curve[0] in skipped and curve[-1] not in skipped
    assert run.precision.scale == 2.0 ** (24 - len(skipped))
    assert curve[-1].loss < 0.7 * curve[0].loss
    torch.testing.assert_close(
        [each.float() for each in weights(run)],
        [each.detach() for each in run.precision.masters],
        rtol=2**-11,
        atol=1e-6,
    )


def test_a_resumed_run_is_the_same_scale_included(tmp_path):
    scale = {"scale": 2.0**18, "interval": 2}
    whole = float16_run(DynamicLossScale(**scale))
    train(whole, float_loss, steps=8)
    train(float16_run(DynamicLossScale(**scale)), float_loss, steps=5, checkpoint=tmp_path / "run")
    resumed = float16_run()
    load_checkpoint(resumed, tmp_path / "run")
    train(resumed, float_loss, steps=8)
    assert resumed.curve == whole.curve and resumed.precision.scale == whole.precision.scale
    assert all(
        torch.equal(a, b)
        for a, b in zip(resumed.precision.masters, whole.precision.masters, strict=True)
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StaticLossScale(0.0), "scale must be a number above zero, got 0.0"),
        (lambda: DynamicLossScale(interval=0), "interval must be a positive whole number"),
        (lambda: DynamicLossScale(growth=0.5), "growth must be above 1 and backoff below"),
        (lambda: DynamicLossScale(backoff=1.0), "got 2.0 and 1.0"),
    ],
)
def test_impossible_scales(make, message):
    with pytest.raises(ValueError, match=message):
        make()
