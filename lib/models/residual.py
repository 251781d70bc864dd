"""The residual connection around a sublayer, with the norm before it or after the sum.

Post-norm is the original Transformer's and BERT's. Pre-norm (GPT-2, T5, LLaMA) leaves the path
from the last layer to the first one free of norms, so that deep models train without warm-up
(Xiong et al., 2020); it needs one more norm at the very end.
"""

from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from lib.dropout import Dropout


class _Residual(nn.Module):
    """A sublayer, a norm made by `norm()`, and dropout on what the sublayer returns."""

    def __init__(
        self, sublayer: nn.Module, *, norm: Callable[[], nn.Module], dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.sublayer, self.norm = sublayer, norm()
        self.dropout = Dropout(dropout)


class PostNorm(_Residual):
    """norm(x + sublayer(x))."""

    def forward(
        self, x: Float[Tensor, "*batch hidden"], **options: Any
    ) -> Float[Tensor, "*batch hidden"]:
        """Add what the sublayer makes of `x`, then normalise the sum."""
        return self.norm(x + self.dropout(self.sublayer(x, **options)))


class PreNorm(_Residual):
    """x + sublayer(norm(x))."""

    def forward(
        self, x: Float[Tensor, "*batch hidden"], **options: Any
    ) -> Float[Tensor, "*batch hidden"]:
        """Add what the sublayer makes of the normalised `x`."""
        return x + self.dropout(self.sublayer(self.norm(x), **options))
