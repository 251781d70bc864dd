"""x Wᵀ for a single row x: a sum of columns of W, each scaled by one number of x.

That is what `torch.embedding_bag` computes, made for looking up many rows of a table at once: it
keeps the sums in the registers of the processor, asks memory ahead for the rows to come, and reads
each of them once. A product of matrices, made to use every number again and again, reads a matrix
that it uses once at half of memory's speed or less.

Only as many sums as there are registers stay there. So Wᵀ is cut into panels of that many columns,
one below the other; each is a bag, and bags are shared out among the threads.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

PANEL = 384 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 96
"""Sums that vector registers hold: most of 32 registers of 16 floats, or of 16 registers of 8."""
LINE = 16
"""Floats in a cache line. A panel's width is a multiple of it, filled up with zeros."""

Rows = Float[Tensor, "rows _"]


def is_float32_on_cpu(x: Tensor) -> bool:
    """What the kernels for few rows are written for."""
    return x.is_cpu and x.dtype == torch.float32


class PanelMap:
    """x Wᵀ + bias for rows x, made for one row at a time."""

    def __init__(
        self, weight: Float[Tensor, "d_out d_in"], bias: Float[Tensor, " d_out"] | None = None
    ) -> None:
        (self.d_out, self.d_in), self.dtype = weight.shape, weight.dtype
        # As many for each thread as for the others.
        threads = torch.get_num_threads()
        count = threads * -(-self.d_out // (threads * PANEL))
        self.width = LINE * -(-self.d_out // (LINE * count))
        self.count = -(-self.d_out // self.width)
        filled = functional.pad(weight, (0, 0, 0, self.count * self.width - self.d_out))
        panels = filled.view(self.count, self.width, self.d_in).transpose(1, 2)
        self.table = self.store(panels.reshape(-1, self.width).contiguous())
        places = {"dtype": torch.int32, "device": weight.device}
        self.all_rows = torch.arange(len(self.table), **places)
        self.bag_starts = torch.arange(0, len(self.table), self.d_in, **places)
        self.bias = bias

    def __call__(self, x: Rows) -> Rows:
        """(rows, d_in) to (rows, d_out)."""
        if len(x) == 1 and self.has_kernel(x):
            once_a_panel = x if self.count == 1 else x.expand(self.count, -1)
            y = self.sum_bags(once_a_panel.flatten()).view(1, -1)
        else:
            panels = self.floats(x.dtype).view(self.count, self.d_in, self.width)
            y = torch.bmm(x.expand(self.count, -1, -1), panels).transpose(0, 1).flatten(1)
        if y.shape[1] > self.d_out:
            y = y[:, : self.d_out]
        return y if self.bias is None else y + self.bias

    def rows(self, ids: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch d_in"]:
        """These rows of W, which are columns of the panels."""
        panels = self.table.view(self.count, self.d_in, -1)
        return panels[ids // self.width, :, ids % self.width]

    @property
    def nbytes(self) -> int:
        """Bytes that one step reads."""
        parts = (self.table, self.all_rows, self.bag_starts, self.bias)
        return sum(part.nbytes for part in parts if part is not None)

    def store(self, panels: Float[Tensor, "table_rows width"]) -> Tensor:
        """The panels as they are kept."""
        return panels

    def floats(self, dtype: torch.dtype) -> Float[Tensor, "table_rows width"]:
        """The panels again."""
        return self.table.to(dtype)

    def has_kernel(self, x: Rows) -> bool:
        """Whether one row goes through `sum_bags`. Other devices have better ways."""
        return x.is_cpu

    def sum_bags(self, scales: Float[Tensor, " table_rows"]) -> Float[Tensor, "panels width"]:
        """For each panel the sum of its rows, each times its own number of `scales`."""
        # As `functional.embedding_bag`, whose checks cost as much as a small product.
        out, *_ = torch.embedding_bag(
            self.table, self.all_rows, self.bag_starts, False, 0, False, scales
        )
        return out
