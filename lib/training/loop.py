"""The training loop: one step, and steps until it is enough."""

from collections.abc import Callable, Mapping
from math import inf, isfinite, nan
from pathlib import Path
from typing import Any

from lib.memory.sizes import check_sizes
from lib.training.accumulation import Count, Loss, accumulate_gradients, split_batch
from lib.training.checkpoint import TrainingRun, save_checkpoint, save_failure
from lib.training.clipping import clip_by_global_norm
from lib.training.loss_curve import StepRecord
from lib.training.optimizer import optimized_parameters
from lib.training.schedules import Schedule


class NonFiniteLoss(ArithmeticError):
    """A loss or a gradient that is infinite or not a number; `step` and `batch` say where.

    The weights are those of the step before. `path` is the file that keeps them and the batch, or
    None if the run had no checkpoint.
    """

    def __init__(self, what: str, step: int, batch: Any, path: Path | None) -> None:
        where = f"; the run before it and its batch are in {path}" if path else ""
        super().__init__(f"in step {step} {what}{where}")
        self.step, self.batch, self.path = step, batch, path


def train(
    run: TrainingRun,
    loss: Loss,
    *,
    steps: int,
    schedule: Schedule | None = None,
    max_norm: float | None = 1.0,
    accumulation: int = 1,
    count: Count | None = None,
    checkpoint: Path | None = None,
    checkpoint_every: int = 1000,
    progress: Callable[[StepRecord, int], object] | None = None,
) -> list[StepRecord]:
    """Train until `steps` updates are done in all, and return the record of every one of them.

    Each batch is taken in `accumulation` parts, whose gradients are added; `count` says how many
    terms the loss of a part is the mean of. Gradients are clipped at `max_norm`. Without a
    `schedule` the optimizer keeps its rate. The run is saved to `checkpoint` at the end and after
    every `checkpoint_every` updates; to go on from there, `load_checkpoint` and call this again.

    Raises `NonFiniteLoss` for a step whose loss or gradient is not finite, before it changes a
    weight, and `ValueError` for a batch that cannot be split or counts nothing.
    """
    check_sizes(steps=steps, checkpoint_every=checkpoint_every)
    options = {"schedule": schedule, "max_norm": max_norm, "accumulation": accumulation}
    run.model.train()
    while run.step < steps:
        place, batch = run.place(), next(run.batches)
        record = take_step(run, batch, loss, count=count, **options)
        if not isfinite(record.loss) or _diverged(run, record):
            raise _failure(run, record, batch, place, checkpoint)
        run.step = record.step
        run.curve.append(record)
        if progress is not None:
            progress(record, steps)
        if checkpoint is not None and (run.step % checkpoint_every == 0 or run.step == steps):
            save_checkpoint(run, checkpoint)
    return run.curve


def take_step(
    run: TrainingRun,
    batch: Any,
    loss: Loss,
    *,
    schedule: Schedule | None = None,
    max_norm: float | None = 1.0,
    accumulation: int = 1,
    count: Count | None = None,
) -> StepRecord:
    """One update: loss and gradients, clipping, the optimizer's step.

    If the loss or the gradients' norm is not finite, the weights stay as they are.
    """
    step = run.step + 1
    if schedule is not None:
        for group in run.optimizer.param_groups:
            group["lr"] = schedule(step)
    run.model.zero_grad()
    run.optimizer.zero_grad()
    parts = [batch] if accumulation == 1 else split_batch(batch, accumulation)
    value = accumulate_gradients(run.model, parts, loss, count, scale=run.precision.scale)
    norm = _update(run, max_norm) if isfinite(value) else nan
    return StepRecord(step, float(value), run.optimizer.param_groups[0]["lr"], norm)


def _update(run: TrainingRun, max_norm: float | None) -> float:
    """Update the weights if the gradients are finite; their norm before clipping."""
    if not run.precision.collect_gradients():
        return inf
    norm = float(clip_by_global_norm(optimized_parameters(run.optimizer), max_norm))
    if isfinite(norm):
        run.optimizer.step()
        run.precision.distribute_weights()
    return norm


def _diverged(run: TrainingRun, record: StepRecord) -> bool:
    return not (isfinite(record.gradient_norm) or run.precision.may_overflow)


def _failure(
    run: TrainingRun,
    record: StepRecord,
    batch: Any,
    place: Mapping[str, Any],
    checkpoint: Path | None,
) -> NonFiniteLoss:
    """Keep what it takes to look at the step and to repeat it; the error to be raised."""
    what = f"the loss is {record.loss}"
    if isfinite(record.loss):
        what = f"the gradients' norm is {record.gradient_norm}, the loss {record.loss:.4g}"
    if checkpoint is None:
        return NonFiniteLoss(what, record.step, batch, None)
    path = checkpoint.with_suffix(".failed.pt")
    try:
        save_failure(run, path, batch=batch, place=place)
    except OSError as error:
        failure = NonFiniteLoss(what, record.step, batch, None)
        failure.add_note(f"It could not be kept in a file: {error}")
        return failure
    return NonFiniteLoss(what, record.step, batch, path)
