"""Linformer (Wang et al., 2020): n keys and values, projected to `rank` of them beforehand."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lib.attention.dot_product import scaled_dot_product_attention
from lib.memory.sizes import check_sizes


class LinformerAttention(nn.Module):
    """softmax(Q (E K)ᵀ / √head_dim) F V, with E and F (rank, max_len), learned; one if `shared`.

    The scores are (queries, rank), so the cost grows with n. Each projected key is a mixture of all
    positions, also later ones: it cannot be made causal. And it knows no length beyond `max_len`.
    """

    def __init__(
        self,
        max_len: int,
        rank: int,
        *,
        shared: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_sizes(max_len=max_len, rank=rank)
        drawn = torch.randn(2, rank, max_len, generator=generator) * max_len**-0.5
        self.key_projection = nn.Parameter(drawn[0])
        self.value_projection = self.key_projection if shared else nn.Parameter(drawn[1])

    def forward(
        self,
        q: Float[Tensor, "*batch queries head_dim"],
        k: Float[Tensor, "*batch keys head_dim"],
        v: Float[Tensor, "*batch keys value_dim"],
        *,
        is_causal: bool = False,
        scale: float | None = None,
    ) -> Float[Tensor, "*batch queries value_dim"]:
        """Attention over `rank` mixtures of the keys. A shorter sequence uses the first columns.

        Raises `ValueError` for more keys than `max_len`, and for `is_causal`.
        """
        if is_causal:
            raise ValueError(
                "Linformer mixes all positions into each key and cannot be causal; "
                "causal_linear_attention can"
            )
        keys, most = k.shape[-2], self.key_projection.shape[1]
        if keys > most:
            raise ValueError(f"{keys} keys, but the projections were made for at most {most}")
        projected_keys = self.key_projection[:, :keys] @ k
        projected_values = self.value_projection[:, :keys] @ v
        return scaled_dot_product_attention(q, projected_keys, projected_values, scale=scale)
