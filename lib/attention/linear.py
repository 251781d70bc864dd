"""Linear attention (Katharopoulos et al., 2020): a sum over keys that is computed once for all.

Let the weight of a key be φ(q) · φ(k) instead of exp(q · k). Then Σ (φ(q) · φ(k)) v is the same as
φ(q) (Σ φ(k) vᵀ), and the sum in brackets does not depend on the query. The cost grows with n
instead of n². Causal, the sum grows token by token: attention becomes a recurrent network, and the
sum is its state.

Everything here takes features, φ already applied: variants differ in the feature map.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from lib.memory.sizes import check_sizes


def elu_plus_one(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """elu(x) + 1: the paper's feature map, x + 1 above zero and eˣ below; always positive."""
    return functional.elu(x) + 1


def linear_attention(
    q: Float[Tensor, "*batch queries features"],
    k: Float[Tensor, "*batch keys features"],
    v: Float[Tensor, "*batch keys value_dim"],
) -> Float[Tensor, "*batch queries value_dim"]:
    """All queries see all keys. Features must not be negative; to hide a key, set its to zero."""
    summed = k.mT @ v
    total = q @ k.sum(dim=-2)[..., None]
    return _normalise(q @ summed, total)


def linear_attention_weights(
    q: Float[Tensor, "*batch queries features"],
    k: Float[Tensor, "*batch keys features"],
    *,
    is_causal: bool = False,
) -> Float[Tensor, "*batch queries keys"]:
    """The weights that linear attention never writes down: n² of them, to look at and to test."""
    scores = q @ k.mT
    scores = scores.tril(k.shape[-2] - q.shape[-2]) if is_causal else scores
    return _normalise(scores, scores.sum(dim=-1, keepdim=True))


@dataclass(frozen=True)
class LinearState:
    """All that a causal linear attention remembers: (features, value_dim) and (features) numbers.

    Its size does not depend on how many tokens there were.
    """

    summed: Float[Tensor, "*batch features value_dim"]
    total: Float[Tensor, "*batch features"]

    @classmethod
    def empty(
        cls, k: Float[Tensor, "*batch keys features"], v: Float[Tensor, "*batch keys value_dim"]
    ) -> "LinearState":
        """The state before the first token, for keys and values like these."""
        start = k[..., 0, :] * 0
        return cls(start[..., None] * v[..., 0, None, :], start)

    def step(
        self,
        q: Float[Tensor, "*batch features"],
        k: Float[Tensor, "*batch features"],
        v: Float[Tensor, "*batch value_dim"],
    ) -> tuple[Float[Tensor, "*batch value_dim"], "LinearState"]:
        """One token of decoding: its output, and the state after it."""
        after = LinearState(self.summed + k[..., None] * v[..., None, :], self.total + k)
        output = (q[..., None] * after.summed).sum(dim=-2)
        return _normalise(output, (q * after.total).sum(dim=-1, keepdim=True)), after


def causal_linear_attention_recurrent(
    q: Float[Tensor, "*batch seq_len features"],
    k: Float[Tensor, "*batch seq_len features"],
    v: Float[Tensor, "*batch seq_len value_dim"],
) -> Float[Tensor, "*batch seq_len value_dim"]:
    """Token by token, as decoding does it: n steps that wait for each other."""
    state, outputs = LinearState.empty(k, v), []
    for token in zip(q.unbind(-2), k.unbind(-2), v.unbind(-2), strict=True):
        output, state = state.step(*token)
        outputs.append(output)
    return torch.stack(outputs, dim=-2)


def causal_linear_attention(
    q: Float[Tensor, "*batch seq_len features"],
    k: Float[Tensor, "*batch seq_len features"],
    v: Float[Tensor, "*batch seq_len value_dim"],
    *,
    chunk: int = 64,
) -> Float[Tensor, "*batch seq_len value_dim"]:
    """The same in chunks, as training does it: within a chunk all pairs, before it the state.

    All chunks are computed side by side; only the sum of their states is taken in order. Raises
    `ValueError` for a chunk below 1.
    """
    check_sizes(chunk=chunk)
    seq_len, missing = q.shape[-2], -q.shape[-2] % chunk
    if missing:
        q, k, v = (functional.pad(x, (0, 0, 0, missing)) for x in (q, k, v))
    q, k, v = (x.unflatten(-2, (-1, chunk)) for x in (q, k, v))
    summed, total = k.mT @ v, k.sum(dim=-2)
    # What came before each chunk: the running sum without the chunk itself.
    summed, total = summed.cumsum(dim=-3) - summed, total.cumsum(dim=-2) - total
    inside = (q @ k.mT).tril()
    output = q @ summed + inside @ v
    weight = q @ total[..., None] + inside.sum(dim=-1, keepdim=True)
    return _normalise(output, weight).flatten(-3, -2)[..., :seq_len, :]


def _normalise(sums: Tensor, total: Tensor) -> Tensor:
    """Divide by the sum of the weights; a query that sees nothing gets zeros."""
    return sums / total.masked_fill(total == 0, 1.0)
