"""Dropout (Srivastava et al., 2014): in training each number is left out with some probability.

Those that stay grow by 1 / (1 - dropout), so that the expectation is what it was. What costs time
on a CPU is chance: torch draws once for every number, which takes as long as a whole pass of GELU
forward and back. A draw of 64 bits is enough for four numbers, 16 bits each, and sets the
probability to 1/65,536.
"""

from math import prod

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

STEPS = 2**16


class Dropout(nn.Dropout):
    """`torch.nn.Dropout`, with `drop` in place of its kernel for CPUs."""

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """`x` with some numbers left out in training, `x` itself in evaluation."""
        return drop(x, self.p) if self.training else x


def drop(
    x: Float[Tensor, "*shape"], dropout: float, generator: torch.Generator | None = None
) -> Float[Tensor, "*shape"]:
    """Each number zero with probability `dropout`, else divided by 1 - `dropout`.

    Without a `generator` torch's global one draws; on a GPU, by torch's fused kernel. Raises
    `ValueError` for a dropout outside [0, 1).
    """
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be at least 0 and below 1, got {dropout!r}")
    if dropout == 0:
        return x
    if generator is None and x.device.type != "cpu":
        return functional.dropout(x, dropout)
    left_out = min(round(dropout * STEPS), STEPS - 1)
    kept = _at_least(left_out, x.shape, x.device, generator)
    return x * kept.to(x.dtype).div_(1 - left_out / STEPS)


def _at_least(
    bound: int, shape: torch.Size, device: torch.device, generator: torch.Generator | None
) -> Bool[Tensor, "..."]:
    """True where a whole number drawn from [0, STEPS) is at least `bound`."""
    count = prod(shape)
    draws = torch.empty(-(-count // 4), dtype=torch.int64, device=device)
    draws.random_(-(2**63), None, generator=generator)
    signed = draws.view(torch.int16)[:count].view(shape)  # from -STEPS / 2 on
    return signed >= bound - STEPS // 2
