"""Weights in 8 bits: a quarter of the bytes to read, where reading them is what takes the time.

Activations stay floating-point numbers; weights become ones on their way from memory. A few weights
share a scale, so that a large one does not round the small ones far away from it to zero (Dettmers
et al., 2022, scale rows and columns).

`generate(pack_model(model, Int8PanelMap), ...)` decodes one sequence with them, `Int8Map` several.
"""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from lib.kv_cache.quantised import dequantise_int8, quantise_int8
from lib.models.panels import PanelMap, Rows, is_float32_on_cpu

FEW_ROWS, INPUTS = 16, 16
"""Up to here the kernel for few rows is faster; beyond, the weight is written out in floats. With
AVX-512 it reads so many inputs at a time, past the end of a matrix that has others left over."""
SCALE_BYTES = 8
"""Behind each row of a panel stand its scale and its least weight, each in float32."""


class Int8PanelMap(PanelMap):
    """x Wᵀ + bias for rows x, made for one row at a time: panels of numbers from 0 to 255.

    Each row of a panel, up to 384 weights of one input, has a scale and a least weight of its own.
    No element of W is off by more than half that scale, which is the row's range / 255. Processor
    and threads decide how wide a panel is, and so which weights share a scale.
    Raises `ValueError` for a weight that is not a matrix of finite floats.
    """

    def __init__(
        self, weight: Float[Tensor, "d_out d_in"], bias: Float[Tensor, " d_out"] | None = None
    ) -> None:
        check_weight(weight)
        super().__init__(weight, bias)

    def store(self, panels: Float[Tensor, "table_rows width"]) -> UInt8[Tensor, "table_rows _"]:
        """The numbers, then the bytes of scale and least weight: what torch's kernel reads."""
        panels = panels.float()
        least, most = panels.aminmax(dim=1, keepdim=True)
        scales = (most - least) / 255
        # Where all are equal: divide by 1.
        numbers = ((panels - least) / scales.masked_fill(scales == 0, 1)).round()
        return torch.cat([numbers.byte(), torch.cat([scales, least], 1).view(torch.uint8)], dim=1)

    def floats(self, dtype: torch.dtype) -> Float[Tensor, "table_rows width"]:
        """The panels, as near to the original as 8 bits come."""
        numbers, scales, least = self._parts()
        return (numbers * scales + least).to(dtype)

    def rows(self, ids: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch d_in"]:
        """These rows of W, as near to the original as 8 bits come."""
        numbers, scales, least = (each.view(self.count, self.d_in, -1) for each in self._parts())
        panel, column = ids // self.width, ids % self.width
        weights = numbers[panel, :, column] * scales[panel, :, 0] + least[panel, :, 0]
        return weights.to(self.dtype)

    def has_kernel(self, x: Rows) -> bool:
        """One row of float32 on a CPU."""
        return is_float32_on_cpu(x)

    def sum_bags(self, scales: Float[Tensor, " table_rows"]) -> Float[Tensor, "panels width"]:
        """For each panel the sum of its rows, each times its own number of `scales`."""
        return torch.ops.quantized.embedding_bag_byte_rowwise_offsets(
            self.table, self.all_rows, self.bag_starts, per_sample_weights=scales
        )

    def _parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Numbers, scales and least weights, one row for each of the panels' rows."""
        scales, least = self.table[:, -SCALE_BYTES:].view(torch.float32).split(1, dim=1)
        return self.table[:, :-SCALE_BYTES], scales, least


class Int8Map:
    """x Wᵀ + bias for few rows x, W kept as 8-bit numbers and a scale for each output.

    No element of W is off by more than half its row's scale, which is the row's largest / 127.
    Raises `ValueError` for a weight that is not a matrix of finite floats.
    """

    def __init__(
        self, weight: Float[Tensor, "d_out d_in"], bias: Float[Tensor, " d_out"] | None = None
    ) -> None:
        check_weight(weight)
        self.d_in = weight.shape[1]
        self.numbers, self.scales = quantise_int8(weight)
        self.short_scales = self.scales[:, 0].bfloat16()
        self.bias = bias

    def __call__(self, x: Rows) -> Rows:
        """(rows, d_in) to (rows, d_out)."""
        if len(x) > FEW_ROWS or self.d_in % INPUTS or not is_float32_on_cpu(x):
            return functional.linear(x, self.weight, self.bias)
        # torch's kernel never writes W out. Only with bfloat16 beside it has it a fast form.
        short = torch.ops.aten._weight_int8pack_mm(x.bfloat16(), self.numbers, self.short_scales)
        return short.float() if self.bias is None else short + self.bias

    @property
    def weight(self) -> Float[Tensor, "d_out d_in"]:
        """The matrix in floats, as near to the original as 8 bits come."""
        return dequantise_int8(self.numbers, self.scales, self.scales.dtype)

    def rows(self, ids: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch d_in"]:
        """These rows of it."""
        return dequantise_int8(self.numbers[ids], self.scales[ids], self.scales.dtype)

    @property
    def nbytes(self) -> int:
        """Bytes that one step reads."""
        parts = (self.numbers, self.short_scales, self.bias)
        return sum(part.nbytes for part in parts if part is not None)


def check_weight(weight: Tensor) -> None:
    """Raise `ValueError` unless the weight is a matrix of finite floats."""
    if weight.ndim != 2 or not weight.is_floating_point():
        raise ValueError(
            f"expected a matrix of floats, got {tuple(weight.shape)} of {weight.dtype}"
        )
    if not weight.isfinite().all():
        raise ValueError("expected finite numbers to quantise, got infinity or NaN among them")
