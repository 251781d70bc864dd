"""Teacher forcing (Williams and Zipser, 1989): the decoder reads the truth, not its own guesses.

At every place it is given what it should have written before it. So all places can be trained at
once, and one early mistake does not spoil the rest; at generation time there is no teacher, and
the model reads what it wrote itself.
"""

import torch
from jaxtyping import Int
from torch import Tensor

from lib.objectives.ids import IGNORE_INDEX


def shift_right(
    targets: Int[Tensor, "batch target_len"], *, start: int, pad: int = 0
) -> Int[Tensor, "batch target_len"]:
    """What the decoder reads while it should write `targets`: `start`, then all but the last.

    T5 starts with its padding token. Where a target is `IGNORE_INDEX`, the decoder reads `pad`.
    Raises `ValueError` for targets without tokens.
    """
    if not targets.shape[1]:
        raise ValueError("a target needs at least one token, got none")
    first = torch.full_like(targets[:, :1], start)
    inputs = torch.cat([first, targets[:, :-1]], dim=1)
    return inputs.masked_fill(inputs == IGNORE_INDEX, pad)
