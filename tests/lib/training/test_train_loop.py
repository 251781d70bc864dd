"""The loop: it learns, it is the same in parts, it stops where it should and loses nothing."""

from functools import partial
from typing import NamedTuple

import pytest
import torch

from lib.training import (
    SGD,
    BatchStream,
    NonFiniteLoss,
    load_checkpoint,
    read_checkpoint,
    smoothed_losses,
    train,
    warmup_linear,
)
from tests.lib.training.toy_run import count_targets, counting_loss, new_run, weights


def test_it_learns_to_count():
    run = new_run()
    schedule = partial(warmup_linear, peak=1e-2, warmup_steps=10, total_steps=80)
    curve = train(run, counting_loss, steps=80, schedule=schedule)
    losses = smoothed_losses(curve, 10)
    assert losses[9] > 2.5 and losses[-1] < 0.35
    assert [record.step for record in curve] == list(range(1, 81))
    assert [record.learning_rate for record in curve] == [schedule(s) for s in range(1, 81)]
    assert curve is run.curve and run.step == 80


def test_a_step_is_what_it_says():
    """Against the same step by hand, with torch's clipping."""
    run, by_hand = new_run(dropout=0.0), new_run(dropout=0.0)
    optimizer = torch.optim.AdamW(by_hand.model.parameters(), lr=2e-3, weight_decay=0.01)
    curve = train(run, counting_loss, steps=4, schedule=lambda step: 2e-3, max_norm=0.5)
    for record in curve:
        loss = counting_loss(by_hand.model, next(by_hand.batches))
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(by_hand.model.parameters(), 0.5)
        optimizer.step()
        assert record.loss == pytest.approx(loss.item())
        assert record.gradient_norm == pytest.approx(norm.item()) and norm > 0.5
    torch.testing.assert_close(weights(run), weights(by_hand))


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_accumulation_takes_the_same_steps(parts):
    whole, split = new_run(SGD, dropout=0.0), new_run(SGD, dropout=0.0)
    whole.model.double(), split.model.double()
    train(whole, counting_loss, steps=3)
    train(split, counting_loss, steps=3, accumulation=parts, count=count_targets)
    torch.testing.assert_close(weights(whole), weights(split), rtol=1e-9, atol=1e-12)
    for one, two in zip(whole.curve, split.curve, strict=True):
        assert one == pytest.approx(two)


class Masked(NamedTuple):
    ids: torch.Tensor
    targets: torch.Tensor


def tuple_loss(model, batch):
    return counting_loss(model, batch._asdict())


def poisoned(step, value, run):
    """The loss, but in this step not a number, or of a gradient that is none."""

    def loss(model, batch):
        right = tuple_loss(model, batch)
        if run.step + 1 != step:
            return right
        return right * value if value != "gradient" else right + (model.norm.bias[0] * 0).sqrt()

    return loss


def run_of_tuples():
    run = new_run()
    inner = run.batches.make_pass
    run.batches = BatchStream(
        lambda generator: (Masked(**batch) for batch in inner(generator)),
        torch.Generator().manual_seed(0),
    )
    torch.manual_seed(0)
    return run


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "gradient"])
def test_a_step_that_is_not_finite_stops_and_can_be_repeated(tmp_path, value):
    before, path = run_of_tuples(), tmp_path / "run.pt"
    train(before, tuple_loss, steps=4)
    run = run_of_tuples()
    said = "gradients' norm is nan" if value == "gradient" else f"loss is {value}"
    with pytest.raises(NonFiniteLoss, match=rf"in step 5 the {said}.*run\.failed\.pt") as stopped:
        train(run, poisoned(5, value, run), steps=9, checkpoint=path, checkpoint_every=2)
    assert stopped.value.step == 5 and stopped.value.path == tmp_path / "run.failed.pt"
    assert all(torch.equal(a, b) for a, b in zip(weights(run), weights(before), strict=True))
    assert run.step == 4 and run.curve == before.curve

    kept = read_checkpoint(stopped.value.path)
    assert torch.equal(kept["batch"]["ids"], stopped.value.batch.ids)
    assert read_checkpoint(path)["run"]["step"] == 4

    whole = run_of_tuples()
    train(whole, tuple_loss, steps=7)
    resumed = run_of_tuples()
    load_checkpoint(resumed, stopped.value.path)
    train(resumed, tuple_loss, steps=7)
    assert resumed.curve == whole.curve


def test_without_a_checkpoint_the_error_still_has_the_batch():
    run = run_of_tuples()
    with pytest.raises(NonFiniteLoss, match=r"^in step 1 the loss is nan$") as stopped:
        train(run, poisoned(1, float("nan"), run), steps=3)
    assert stopped.value.path is None and stopped.value.batch.ids.shape == (8, 8)


def test_a_full_disk_does_not_hide_what_happened(tmp_path):
    run = run_of_tuples()
    with pytest.raises(NonFiniteLoss, match="the loss is nan") as stopped:
        train(run, poisoned(1, float("nan"), run), steps=3, checkpoint=tmp_path / "no" / "run.pt")
    assert "could not be kept" in stopped.value.__notes__[-1]


def test_the_curve_is_smoothed_over_what_came_before():
    run = new_run()
    curve = train(run, counting_loss, steps=5)
    losses = [record.loss for record in curve]
    smooth = smoothed_losses(curve, 3)
    assert smooth[0] == losses[0] and smooth[1] == pytest.approx(sum(losses[:2]) / 2)
    assert smooth[4] == pytest.approx(sum(losses[2:]) / 3) and len(smooth) == 5
    with pytest.raises(ValueError, match="window must be a positive"):
        smoothed_losses(curve, 0)


def test_batches_that_do_not_fit_the_parts():
    with pytest.raises(ValueError, match="8 rows cannot be split into 9 parts"):
        train(new_run(), counting_loss, steps=1, accumulation=9, count=count_targets)
    with pytest.raises(ValueError, match="give count"):
        train(new_run(), counting_loss, steps=1, accumulation=2)
    with pytest.raises(ValueError, match="steps must be a positive whole number"):
        train(new_run(), counting_loss, steps=0)
