"""Weights in 8 bits: a quarter of the bytes to read, where reading them is what takes the time.

Each row of a matrix becomes whole numbers from -127 to 127 and one scale (Dettmers et al., 2022,
scale the rows and the columns). Activations stay floating-point numbers: the products are computed
from weights that are a quarter of their size on the way from memory.

`generate(pack_model(model, INT8), ...)` decodes with them.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from lib.kv_cache.quantised import dequantise_int8, quantise_int8
from lib.models.embeddings import check_ids
from lib.models.packed import Packing, Rows

FEW_ROWS = 16
"""Up to here the kernel for few rows is faster; beyond, the weight is written out in floats."""


class Int8Map:
    """x Wᵀ + bias, with W kept as 8-bit numbers and a scale for each output.

    No element of W is off by more than half its row's scale, which is the row's largest / 127.
    Raises `ValueError` for a weight that is not a matrix of finite floats.
    """

    def __init__(
        self, weight: Float[Tensor, "d_out d_in"], bias: Float[Tensor, " d_out"] | None = None
    ) -> None:
        _check_weight(weight)
        self.numbers, self.scales = quantise_int8(weight)
        self.short_scales = self.scales[:, 0].bfloat16()
        self.bias = bias

    def __call__(self, x: Rows) -> Rows:
        """(rows, d_in) to (rows, d_out)."""
        if len(x) > FEW_ROWS or x.dtype != torch.float32 or x.device.type != "cpu":
            return functional.linear(x, self.weight, self.bias)
        # torch's kernel never writes W out. Only with bfloat16 beside it has it a fast form.
        short = torch.ops.aten._weight_int8pack_mm(x.bfloat16(), self.numbers, self.short_scales)
        return short.float() if self.bias is None else short + self.bias

    @property
    def weight(self) -> Float[Tensor, "d_out d_in"]:
        """The matrix in floats, as near to the original as 8 bits come."""
        return dequantise_int8(self.numbers, self.scales, self.scales.dtype)

    @property
    def nbytes(self) -> int:
        """Bytes that one step reads."""
        parts = (self.numbers, self.short_scales, self.bias)
        return sum(part.nbytes for part in parts if part is not None)


class Int8Embedding(nn.Module):
    """A token embedding that also scores tokens, kept as 8-bit numbers and a scale a token."""

    def __init__(self, weight: Float[Tensor, "vocab hidden"]) -> None:
        super().__init__()
        self.map = Int8Map(weight)
        self.nbytes = self.map.nbytes

    def forward(self, ids: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch hidden"]:
        """The row of each id. Raises `ValueError` for an id that has none."""
        check_ids(ids, len(self.map.numbers))
        scales = self.map.scales
        return dequantise_int8(self.map.numbers[ids], scales[ids], scales.dtype)

    def logits(self, hidden: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch vocab"]:
        """The score of every token at every place."""
        return self.map(hidden.flatten(end_dim=-2)).unflatten(0, hidden.shape[:-1])


INT8 = Packing(linear=Int8Map, embedding=Int8Embedding)
"""For `pack_model`: matrices and embedding in 8 bits. All else stays as it is."""


def _check_weight(weight: Tensor) -> None:
    if weight.ndim != 2 or not weight.is_floating_point():
        raise ValueError(
            f"expected a matrix of floats, got {tuple(weight.shape)} of {weight.dtype}"
        )
    if not weight.isfinite().all():
        raise ValueError("expected finite numbers to quantise, got infinity or NaN among them")
