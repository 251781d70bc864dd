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
        except IndexError:  # Looked into only now: a check of each batch would take time.
            check_ids(ids, self.num_embeddings)
            raise

    def logits(self, hidden: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch vocab"]:
        """The score of every token at every place: the dot product with its row."""
        return functional.linear(hidden, self.weight)


def check_ids(ids: Int[Tensor, "*batch"], vocab_size: int) -> None:
    """Raise `ValueError` unless all ids lie between 0 and vocab_size - 1."""
    least, most = ids.aminmax()
    if least < 0 or most >= vocab_size:
        raise ValueError(
            f"token ids must lie between 0 and {vocab_size - 1}, got ids from {least} to {most}"
        )
