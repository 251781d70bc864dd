"""Adam with its moments in 8 bits (Dettmers et al., 2022): 2 bytes a parameter in the place of 8.

Each block of 2,048 numbers is divided by its largest one, so that an outlier spoils its own block
alone. What is left, between -1 and 1, is rounded to the nearest of 256 values that lie close
together near zero: seven decades, each with twice as many values as the one below.
"""

from functools import cache
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.optim.optimizer import ParamsT

from lib.memory.sizes import check_sizes
from lib.training.adam import AdamW

BLOCK_SIZE = 2048
"""Numbers that share a largest one."""


@cache
def dynamic_code(*, signed: bool) -> Float[Tensor, "256"]:
    """The 256 values, in order: 0, 1, and the middles of equal cells in every decade.

    Decade i, from 10^(i-7) to 10^(i-6), has 2^i cells for each sign, or 2^(i+1) without signs.
    """
    values = [0.0, 1.0]
    for i in range(7):
        cells = 2**i if signed else 2 ** (i + 1)
        middles = [0.1 + 0.9 * (cell + 0.5) / cells for cell in range(cells)]
        values += [10.0 ** (i - 6) * middle for middle in middles]
        values += [-(10.0 ** (i - 6)) * middle for middle in middles if signed]
    return torch.tensor(sorted(values))


def quantise_blocks(
    x: Float[Tensor, "*shape"], *, signed: bool, block_size: int = BLOCK_SIZE
) -> tuple[UInt8[Tensor, "*shape"], Float[Tensor, " blocks"]]:
    """The nearest value for each number, as its place in `dynamic_code`; the largest of each block.

    Without signs, a number above zero never becomes zero: Adam divides by its root (Li et al.,
    2023). The last block may be shorter.
    """
    check_sizes(block_size=block_size)
    flat = x.flatten()
    blocks = torch.nn.functional.pad(flat, (0, -len(flat) % block_size)).view(-1, block_size)
    largest = blocks.abs().amax(dim=1)
    code = dynamic_code(signed=signed).to(x)
    relative = blocks / largest.where(largest > 0, 1.0)[:, None]
    places = torch.bucketize(relative, (code[:-1] + code[1:]) / 2)
    if not signed:
        places = places.clamp(min=1).where(blocks > 0, places)
    return places.to(torch.uint8).flatten()[: len(flat)].view(x.shape), largest


def dequantise_blocks(
    places: UInt8[Tensor, "*shape"],
    largest: Float[Tensor, " blocks"],
    *,
    signed: bool,
    block_size: int = BLOCK_SIZE,
) -> Float[Tensor, "*shape"]:
    """The numbers that `quantise_blocks` rounded to."""
    values = dynamic_code(signed=signed).to(largest)[places.flatten().int()]
    return (values * largest.repeat_interleave(block_size)[: len(values)]).view(places.shape)


class Adam8bit(AdamW):
    """AdamW that keeps both moments in 8 bits between its steps.

    Small parameters, of fewer than `smallest` numbers, keep theirs in float32: norms and biases
    save nothing. A step computes in float32.
    """

    def __init__(
        self,
        parameters: ParamsT,
        lr: float = 1e-3,
        *,
        smallest: int = 4096,
        block_size: int = BLOCK_SIZE,
        **options: Any,
    ) -> None:
        check_sizes(smallest=smallest, block_size=block_size)
        super().__init__(parameters, lr, **options)
        self.smallest, self.block_size = smallest, block_size

    def read_moments(self, state: dict[str, Any], like: Tensor) -> tuple[Tensor, Tensor]:
        """The two moments, widened; zeros at first."""
        if "mean places" not in state:
            return super().read_moments(state, like)
        mean, square = (
            dequantise_blocks(
                state[f"{name} places"],
                state[f"{name} largest"],
                signed=name == "mean",
                block_size=self.block_size,
            )
            for name in ("mean", "square")
        )
        return mean, square

    def write_moments(self, state: dict[str, Any], mean: Tensor, square: Tensor) -> None:
        """Keep them, narrowed if they are large enough to matter."""
        if mean.numel() < self.smallest:
            super().write_moments(state, mean, square)
            return
        for name, moment in (("mean", mean), ("square", square)):
            state[f"{name} places"], state[f"{name} largest"] = quantise_blocks(
                moment, signed=name == "mean", block_size=self.block_size
            )
