"""Learned positions (Gehring et al., 2017; BERT and GPT-2): one vector per position, no more."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from lib.memory.sizes import check_sizes


class LearnedPositions(nn.Module):
    """A table of `max_positions` vectors, trained with the rest, drawn as BERT's: normal, 0.02.

    Nothing in it says that position 3 lies beside position 4, and there is no position beyond its
    end.
    """

    def __init__(
        self, max_positions: int, hidden_size: int, *, generator: torch.Generator | None = None
    ) -> None:
        check_sizes(max_positions=max_positions, hidden_size=hidden_size)
        super().__init__()
        self.weight = nn.Parameter(torch.empty(max_positions, hidden_size))
        nn.init.normal_(self.weight, std=0.02, generator=generator)

    def forward(
        self, positions: Int[Tensor, "*batch seq_len"]
    ) -> Float[Tensor, "*batch seq_len hidden_size"]:
        """The vectors of these positions, to be added to the embeddings of the tokens there.

        Raises `ValueError` for a position below 0 or beyond the last one learned.
        """
        try:
            return functional.embedding(positions, self.weight)
        except IndexError:
            raise ValueError(
                f"positions 0 to {len(self.weight) - 1} are learned, "
                f"got {positions.min()} to {positions.max()}"
            ) from None
