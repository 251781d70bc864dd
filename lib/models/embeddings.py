"""Token embeddings: a row of a matrix for each token, and the same matrix to score tokens with."""

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional


class TokenEmbedding(nn.Embedding):
    """Ids to vectors, (batch, tokens) to (batch, tokens, hidden_size), and vectors back to scores.

    Reading and scoring with one matrix saves vocab_size · hidden_size parameters and makes words
    that are read alike be predicted alike (Press and Wolf, 2017).
    """

    def forward(self, ids: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch hidden"]:
        """The row of each id. Raises `ValueError` for an id that has none."""
        try:
            return super().forward(ids)
        except IndexError:
            raise ValueError(
                f"token ids must lie between 0 and {self.num_embeddings - 1}, "
                f"got ids from {ids.min()} to {ids.max()}"
            ) from None

    def logits(self, hidden: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch vocab"]:
        """The score of every token at every place: the dot product with its row."""
        return functional.linear(hidden, self.weight)
