"""Drawing lots: who has drawn a low number is chosen. Numbers come from torch, in NumPy's arrays.

A batch is made on the CPU while the model is busy with the last one, so it has to be made quickly;
what is done here takes NumPy a third of torch's time.
"""

import math

import numpy as np
import torch


def draw_lots(*shape: int, generator: torch.Generator) -> np.ndarray:
    """Whole numbers from 0 to 2³² - 1, all equally likely: two from each of torch's draws."""
    count = math.prod(shape)
    pairs = torch.empty((count + 1) // 2, dtype=torch.int64)
    pairs.random_(-(2**63), None, generator=generator)
    return pairs.numpy().view(np.uint32)[:count].reshape(shape)


def is_below(lots: np.ndarray, probability: float) -> np.ndarray:
    """True for those lots that are among the lowest share of all: with this probability."""
    return lots < round(probability * 2**32)


def draw_sets(allowed: np.ndarray, counts: np.ndarray, *, generator: torch.Generator) -> np.ndarray:
    """In row i, `counts[i]` of the places that are allowed, all such sets equally likely.

    The lowest lots win: a partition finds the last winner of each row without sorting. Should two
    have drawn the same number there, all draw again. Counts lie between 1 and what is allowed.
    """
    while True:
        lots = draw_lots(*allowed.shape, generator=generator)
        lots[~allowed] = np.iinfo(lots.dtype).max
        in_order = np.partition(lots, np.unique(counts) - 1, axis=1)
        chosen = lots <= np.take_along_axis(in_order, counts[:, None] - 1, axis=1)
        if (np.count_nonzero(chosen, axis=1) == counts).all():
            return chosen
