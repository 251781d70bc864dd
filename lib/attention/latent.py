"""Multi-head latent attention (DeepSeek-AI, "DeepSeek-V2", 2024).

The keys and values of all heads are linear maps of one short vector a token, the latent, and the
cache holds the latent in their place. Positions go into a second key, rotated, that all heads
share and the cache holds as well.

The naive form makes keys and values of all latents, at every step. The absorbed form moves the map
from latent c to key over to the query, q · (U c) = (Uᵀ q) · c, and the map from latent to value
behind the average. What is left is multi-query attention: one key for all heads, and the value is
a part of it. A rotation between q and U would not let them be multiplied; hence the second key.
"""

from collections.abc import Callable
from math import sqrt

import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lib.attention.attend import masked_softmax
from lib.attention.dot_product import fused_dot_product_attention, intersect, with_causal
from lib.attention.multi_head import DecodingCache, merge_heads, split_heads
from lib.memory.sizes import check_sizes


class LatentAttention(nn.Module):
    """Self-attention with a latent of `latent_dim` numbers a token and a rotated key of `rope_dim`.

    Each head has queries and keys of `head_dim` + `rope_dim` and values of `value_dim`, which is
    head_dim unless given. `query_latent_dim` compresses the queries too; it saves parameters, and
    activations in training, nothing in the cache. There are no biases.

    Raises `ValueError` for sizes that are not positive whole numbers.
    """

    def __init__(
        self,
        hidden_size: int,
        num_attention_heads: int,
        *,
        head_dim: int,
        latent_dim: int,
        rope_dim: int,
        value_dim: int | None = None,
        query_latent_dim: int | None = None,
    ) -> None:
        super().__init__()
        value_dim = head_dim if value_dim is None else value_dim
        check_sizes(hidden_size=hidden_size, num_attention_heads=num_attention_heads)
        check_sizes(head_dim=head_dim, value_dim=value_dim)
        check_sizes(latent_dim=latent_dim, rope_dim=rope_dim)
        heads = self.num_attention_heads = num_attention_heads
        self.head_dim, self.rope_dim, self.value_dim = head_dim, rope_dim, value_dim
        self.scale = 1 / sqrt(head_dim + rope_dim)
        self.query = _query_map(hidden_size, query_latent_dim, heads * (head_dim + rope_dim))
        self.down = nn.Linear(hidden_size, latent_dim, bias=False)
        self.latent_norm = nn.RMSNorm(latent_dim, eps=1e-6)
        self.rope_key = nn.Linear(hidden_size, rope_dim, bias=False)
        self.up_key = nn.Linear(latent_dim, heads * head_dim, bias=False)
        self.up_value = nn.Linear(latent_dim, heads * value_dim, bias=False)
        self.output = nn.Linear(heads * value_dim, hidden_size, bias=False)

    def forward(
        self,
        hidden: Float[Tensor, "batch queries hidden_size"],
        *,
        mask: Bool[Tensor, "..."] | None = None,
        is_causal: bool = False,
        rotary: Callable[[Tensor], Tensor] | None = None,
        cache: DecodingCache | None = None,
        absorbed: bool = False,
    ) -> Float[Tensor, "batch queries hidden_size"]:
        """Attend naively, cheaper for many queries, or `absorbed`, cheaper for one and a cache.

        Both give the same result. `mask`, `is_causal` and `rotary` are those of
        `MultiHeadAttention`; `rotary` gets the rotated parts alone. A `cache` takes in what
        `compress` returns. Raises `ValueError` for a mask that does not fit.
        """
        q = split_heads(self.query(hidden), self.num_attention_heads)
        q, rope_q = q.split([self.head_dim, self.rope_dim], dim=-1)
        latent, rope_k = self.compress(hidden, rotary)
        rope_q = rope_q if rotary is None else rotary(rope_q)
        if cache is not None:
            latent, rope_k = cache.append(latent, rope_k)
            mask, is_causal = intersect(mask, cache.mask(q.shape[2])), False
        compute = self._attend_absorbed if absorbed else self._attend
        return self.output(merge_heads(compute(q, rope_q, latent, rope_k, mask, is_causal)))

    def compress(
        self,
        hidden: Float[Tensor, "batch seq_len hidden_size"],
        rotary: Callable[[Tensor], Tensor] | None = None,
    ) -> tuple[Float[Tensor, "batch seq_len latent_dim"], Float[Tensor, "batch seq_len rope_dim"]]:
        """All that a token leaves in the cache: its latent, and the rotated key."""
        latent, key = self.latent_norm(self.down(hidden)), self.rope_key(hidden)
        # The rotation expects an axis for heads.
        return latent, key if rotary is None else rotary(key[:, None])[:, 0]

    def _attend(self, q, rope_q, latent, rope_k, mask, is_causal) -> Tensor:
        k = split_heads(self.up_key(latent), self.num_attention_heads)
        v = split_heads(self.up_value(latent), self.num_attention_heads)
        rope_k = rope_k[:, None].expand(-1, self.num_attention_heads, -1, -1)
        q, k = torch.cat([q, rope_q], dim=-1), torch.cat([k, rope_k], dim=-1)
        return fused_dot_product_attention(q, k, v, mask, is_causal=is_causal, scale=self.scale)

    def _attend_absorbed(self, q, rope_q, latent, rope_k, mask, is_causal) -> Tensor:
        up_key = rearrange(self.up_key.weight, "(h d) latent -> h d latent", d=self.head_dim)
        up_value = rearrange(self.up_value.weight, "(h d) latent -> h d latent", d=self.value_dim)
        q = einsum(q, up_key, "b h queries d, h d latent -> b h queries latent")
        content = einsum(q, latent, "b h queries latent, b keys latent -> b h queries keys")
        position = einsum(rope_q, rope_k, "b h queries d, b keys d -> b h queries keys")
        mask = with_causal(mask, q, latent) if is_causal else mask
        weights = masked_softmax((content + position) * self.scale, mask)
        average = einsum(weights, latent, "b h queries keys, b keys latent -> b h queries latent")
        return einsum(average, up_value, "b h queries latent, h d latent -> b h queries d")


def _query_map(hidden_size: int, query_latent_dim: int | None, width: int) -> nn.Module:
    """From a token to the queries of all heads, straight or through a latent of their own."""
    if query_latent_dim is None:
        return nn.Linear(hidden_size, width, bias=False)
    check_sizes(query_latent_dim=query_latent_dim)
    down = nn.Linear(hidden_size, query_latent_dim, bias=False)
    up = nn.Linear(query_latent_dim, width, bias=False)
    return nn.Sequential(down, nn.RMSNorm(query_latent_dim, eps=1e-6), up)
