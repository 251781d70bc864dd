"""The feed-forward network of a Transformer layer: each token by itself, out wide and back."""

from jaxtyping import Float
from torch import Tensor, nn

from lib.dropout import Dropout
from lib.memory.sizes import check_sizes
from lib.models.activations import activation as named_activation


class FeedForward(nn.Module):
    """down(activation(up(x))), or with a gate down(activation(gate(x)) · up(x)).

    (..., hidden_size) to (..., hidden_size), through intermediate_size in between. Two matrices
    (Vaswani et al., 2017), or three with the gate (Shazeer, 2020: GEGLU with a GELU, SwiGLU with a
    SiLU). Dropout falls on what goes into the second matrix.

    Raises `ValueError` for sizes that are not positive and for an unknown activation.
    """

    def __init__(
        self,
        hidden_size: int,
        intermediate_size: int,
        *,
        activation: str = "gelu",
        gated: bool = False,
        bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(hidden_size=hidden_size, intermediate_size=intermediate_size)
        self.activation = named_activation(activation)
        self.gate = nn.Linear(hidden_size, intermediate_size, bias=bias) if gated else None
        self.up = nn.Linear(hidden_size, intermediate_size, bias=bias)
        self.down = nn.Linear(intermediate_size, hidden_size, bias=bias)
        self.dropout = Dropout(dropout)

    def forward(self, x: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch hidden"]:
        """What this layer adds to each token."""
        if self.gate is None:
            wide = self.activation(self.up(x))
        else:
            wide = self.activation(self.gate(x)) * self.up(x)
        return self.down(self.dropout(wide))
