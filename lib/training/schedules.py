"""The learning rate of each update: a warm-up in a straight line, then one of four ways down.

Updates count from 1, as in the paper of the Transformer: the first has a rate above zero, the
`warmup_steps`-th the peak, and a decay reaches zero one update after the last, so that neither
end is wasted.
"""

from collections.abc import Callable
from math import cos, pi, sqrt

from lib.memory.sizes import check_not_negative, check_sizes

Schedule = Callable[[int], float]
"""The number of an update to its learning rate. `functools.partial` makes one of each below."""


def warmup_constant(step: int, *, peak: float, warmup_steps: int) -> float:
    """Up in a straight line, then constant."""
    return peak * _warmup(step, warmup_steps)


def warmup_linear(step: int, *, peak: float, warmup_steps: int, total_steps: int) -> float:
    """Up and down in two straight lines (BERT)."""
    if step <= warmup_steps:
        return peak * _warmup(step, warmup_steps)
    return peak * (1 - _progress(step, warmup_steps, total_steps))


def warmup_inverse_sqrt(step: int, *, peak: float, warmup_steps: int) -> float:
    """Up, then with 1/√step: no end has to be known (Vaswani et al., 2017; T5).

    The Transformer's d^-0.5 · min(step^-0.5, step · warmup^-1.5) has the peak (d · warmup)^-0.5.
    """
    check_sizes(warmup_steps=warmup_steps)
    return peak * min(_warmup(step, warmup_steps), sqrt(warmup_steps / step))


def warmup_cosine(
    step: int, *, peak: float, warmup_steps: int, total_steps: int, floor: float = 0.0
) -> float:
    """Up, then down along half a cosine to `floor` (Loshchilov and Hutter, 2017; GPT-3)."""
    check_not_negative(floor=floor)
    if step <= warmup_steps:
        return peak * _warmup(step, warmup_steps)
    share = (1 + cos(pi * _progress(step, warmup_steps, total_steps))) / 2
    return floor + (peak - floor) * share


def _warmup(step: int, warmup_steps: int) -> float:
    check_sizes(step=step)
    check_not_negative(warmup_steps=warmup_steps)
    return min(1.0, step / warmup_steps) if warmup_steps else 1.0


def _progress(step: int, warmup_steps: int, total_steps: int) -> float:
    """How much of the way down is done: 0 at the peak, 1 one update after the last."""
    check_sizes(step=step, total_steps=total_steps)
    if not 0 <= warmup_steps <= total_steps:
        raise ValueError(
            f"warmup_steps must lie between 0 and total_steps = {total_steps}, got {warmup_steps}"
        )
    return min(1.0, (step - warmup_steps) / (total_steps + 1 - warmup_steps))
