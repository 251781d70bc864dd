"""What a run keeps of every step, and the curve that it makes."""

from collections.abc import Sequence
from typing import NamedTuple

from lib.memory.sizes import check_sizes


class StepRecord(NamedTuple):
    """One update: its number, the loss before it, its learning rate, the gradients' norm.

    The norm is that before clipping, and infinite where an overflow made the update be left out.
    """

    step: int
    loss: float
    learning_rate: float
    gradient_norm: float


def smoothed_losses(curve: Sequence[StepRecord], window: int) -> list[float]:
    """The mean loss of each step and those before it, `window` of them at most."""
    check_sizes(window=window)
    losses = [record.loss for record in curve]
    return [
        sum(losses[max(0, end - window) : end]) / min(window, end)
        for end in range(1, len(losses) + 1)
    ]
