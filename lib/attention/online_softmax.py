"""Online softmax: the average over all keys, while the keys arrive in blocks.

Softmax needs the sum over all keys, and for safety their maximum. Both can be kept up to date: when
a larger score comes, what was summed so far shrinks by the same factor (Milakov and Gimelshein,
2018). So no row of scores ever has to be whole.
"""

import torch
from jaxtyping import Float
from torch import Tensor


class OnlineSoftmax:
    """For each query the largest score so far, the sum of weights, and the weighted sum of values.

    The weights are relative to the largest score, so that none is above 1.
    """

    def __init__(self, like: Float[Tensor, "*batch queries value_dim"]) -> None:
        """No key has been seen. `like` says for which queries, of which dtype."""
        self.output = torch.zeros_like(like)
        self.total = self.output.new_zeros(*like.shape[:-1], 1)
        self.maximum = torch.full_like(self.total, float("-inf"))

    def add(
        self,
        scores: Float[Tensor, "*batch queries keys"],
        values: Float[Tensor, "*batch keys value_dim"],
    ) -> None:
        """Take in a block of keys; a score of minus infinity is a key that is not seen."""
        maximum = torch.maximum(self.maximum, scores.amax(dim=-1, keepdim=True))
        # Minus infinity until a first key is seen: its difference to itself would be NaN.
        reference = maximum.masked_fill(maximum == float("-inf"), 0.0)
        shrink = (self.maximum - reference).exp()
        weights = (scores - reference).exp()
        self.total = self.total * shrink + weights.sum(dim=-1, keepdim=True)
        self.output = self.output * shrink + weights @ values
        self.maximum = maximum

    def result(
        self,
    ) -> tuple[Float[Tensor, "*batch queries value_dim"], Float[Tensor, "*batch queries"]]:
        """The average and the log of the sum of exp(score): 0 and -inf where no key was seen."""
        # A query that has seen a key has a total of at least 1, from the largest score.
        output = self.output / self.total.clamp(min=1)
        return output, (self.maximum + self.total.log()).squeeze(-1)


def merge_parts(
    first: tuple[Float[Tensor, "*batch queries value_dim"], Float[Tensor, "*batch queries"]],
    second: tuple[Float[Tensor, "*batch queries value_dim"], Float[Tensor, "*batch queries"]],
) -> tuple[Float[Tensor, "*batch queries value_dim"], Float[Tensor, "*batch queries"]]:
    """Two averages over different keys, each with its log-sum-exp, as one over all of them.

    So keys may lie on several devices, or be split among the cores of one (Dao et al., 2023,
    Flash-Decoding).
    """
    total = torch.logaddexp(first[1], second[1])
    reference = total.masked_fill(total == float("-inf"), 0.0)
    output = sum(part * (lse - reference).exp()[..., None] for part, lse in (first, second))
    return output, total
