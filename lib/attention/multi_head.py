"""Multi-head attention (Vaswani et al., 2017), and what shares its keys and values among heads.

Each head projects queries, keys and values to `head_dim` and attends by itself; the heads' results
stand side by side and are mixed by one more projection. Fewer key-value heads than attention heads
make it grouped-query attention (Ainslie et al., 2023), a single one multi-query (Shazeer, 2019):
the cache shrinks by the same factor.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from einops import repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from lib.attention.attend import attend
from lib.attention.dot_product import (
    check_bias,
    fused_dot_product_attention,
    intersect,
    scaled_dot_product_attention,
    with_causal,
)
from lib.attention.scores import scaled_dot_scores
from lib.memory.sizes import check_divides, check_sizes

KeysValues = tuple[
    Float[Tensor, "batch num_key_value_heads keys head_dim"],
    Float[Tensor, "batch num_key_value_heads keys head_dim"],
]


@runtime_checkable
class DecodingCache(Protocol):
    """What attention asks of a cache; `lib.kv_cache` has several that answer."""

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Take in the newest tokens; return all that their queries may look at."""

    def mask(self, num_queries: int) -> Tensor | None:
        """Who sees what among them, for the queries just appended; None where all see all."""


class MultiHeadAttention(nn.Module):
    """Self-attention over `hidden`, or cross-attention from `hidden` to a `source`.

    `num_key_value_heads` is `num_attention_heads` unless given, `head_dim` is hidden_size /
    num_attention_heads (T5's largest models have another one), `source_size` is hidden_size.
    `bias` gives all four projections one. `scale` replaces 1 / √head_dim; T5 uses 1. `dropout`
    leaves out attention weights in training, with torch's global generator.

    Raises `ValueError` for key-value heads that do not divide the attention heads, attention heads
    that do not divide hidden_size where no head_dim is given, sizes that are not positive whole
    numbers, and a dropout outside [0, 1).
    """

    def __init__(
        self,
        hidden_size: int,
        num_attention_heads: int,
        num_key_value_heads: int | None = None,
        *,
        head_dim: int | None = None,
        source_size: int | None = None,
        bias: bool = True,
        scale: float | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        groups = num_attention_heads if num_key_value_heads is None else num_key_value_heads
        source_size = hidden_size if source_size is None else source_size
        head_dim = check_heads(hidden_size, num_attention_heads, groups, head_dim)
        check_sizes(source_size=source_size)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {dropout!r}")
        self.num_attention_heads, self.num_key_value_heads = num_attention_heads, groups
        self.hidden_size, self.head_dim, self.source_size = hidden_size, head_dim, source_size
        self.scale, self.dropout = scale, dropout
        self.query = nn.Linear(hidden_size, num_attention_heads * head_dim, bias=bias)
        self.key = nn.Linear(source_size, groups * head_dim, bias=bias)
        self.value = nn.Linear(source_size, groups * head_dim, bias=bias)
        self.output = nn.Linear(num_attention_heads * head_dim, hidden_size, bias=bias)

    def forward(
        self,
        hidden: Float[Tensor, "batch queries hidden_size"],
        source: Float[Tensor, "batch keys source_size"] | None = None,
        *,
        keys_values: KeysValues | None = None,
        mask: Bool[Tensor, "..."] | None = None,
        bias: Float[Tensor, "..."] | None = None,
        is_causal: bool = False,
        rotary: Callable[[Tensor], Tensor] | None = None,
        cache: DecodingCache | None = None,
        return_weights: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """(batch, queries, hidden_size); with `return_weights` also (batch, heads, queries, keys).

        `keys_values` stands for a source that was projected before, by `project_source`. `mask`
        and `bias` broadcast to (batch, heads, queries, keys), and the bias is added to the scaled
        scores. `is_causal` is the mask `causal`, never built where torch can do without. `rotary`
        turns the queries and keys, split into heads, by the positions of `hidden`. A `cache` takes
        in the keys and values and is causal by itself. Without `return_weights` one fused kernel
        of torch computes what `attend` does in three steps.

        Raises `ValueError` for a mask or bias that does not fit, more than one kind of source, and
        a rotary or cache together with a source.
        """
        if source is not None or keys_values is not None:
            _check_source(source, keys_values, rotary, cache)
        q = split_heads(self.query(hidden), self.num_attention_heads)
        k, v = keys_values or self.project_source(hidden if source is None else source)
        if rotary is not None:
            q, k = rotary(q), rotary(k)
        if cache is not None:
            k, v = cache.append(k, v)
            mask, is_causal = intersect(mask, cache.mask(q.shape[2])), False
        dropout = self.dropout if self.training else 0.0
        how = {"bias": bias, "is_causal": is_causal, "scale": self.scale, "dropout": dropout}
        # On a CPU the fused kernel knows no dropout: torch would fall back to the same three steps.
        if not return_weights and not (dropout and q.device.type == "cpu"):
            return self.output(merge_heads(fused_dot_product_attention(q, k, v, mask, **how)))
        heads, weights = self._attend(q, k, v, mask, **how)
        output = self.output(merge_heads(heads))
        return (output, weights) if return_weights else output

    def project_source(self, source: Float[Tensor, "batch keys source_size"]) -> KeysValues:
        """The keys and values of a source, split into heads: once for all steps of a decoder."""
        keys = split_heads(self.key(source), self.num_key_value_heads)
        return keys, split_heads(self.value(source), self.num_key_value_heads)

    def _attend(self, q, k, v, mask, *, bias, is_causal, scale, dropout) -> tuple[Tensor, Tensor]:
        """What the kernel computes, in three steps that can be looked at."""
        mask = with_causal(mask, q, k) if is_causal else mask
        k, v = (repeat_key_value_heads(x, self.num_attention_heads) for x in (k, v))
        scores = scaled_dot_scores(q, k, scale=scale)
        if bias is not None:
            check_bias(bias, scores.shape)
            scores = scores + bias
        return attend(scores, v, mask, dropout=dropout)


def multi_head_loop(
    attention: MultiHeadAttention,
    hidden: Float[Tensor, "batch queries hidden_size"],
    source: Float[Tensor, "batch keys source_size"] | None = None,
    mask: Bool[Tensor, "..."] | None = None,
) -> Float[Tensor, "batch queries hidden_size"]:
    """`attention(hidden, source, mask=mask)` as its definition reads, one head after the other.

    Attention head i uses the key-value head i // (num_attention_heads / num_key_value_heads).
    """
    source = hidden if source is None else source
    shape = (len(hidden), attention.num_attention_heads, hidden.shape[1], source.shape[1])
    mask = None if mask is None else mask.expand(shape)
    sharing = attention.num_attention_heads // attention.num_key_value_heads
    heads = []
    for i in range(attention.num_attention_heads):
        q = _project_one(hidden, attention.query, i, attention.head_dim)
        k = _project_one(source, attention.key, i // sharing, attention.head_dim)
        v = _project_one(source, attention.value, i // sharing, attention.head_dim)
        own_mask = None if mask is None else mask[:, i]
        heads.append(scaled_dot_product_attention(q, k, v, own_mask, scale=attention.scale))
    return attention.output(torch.cat(heads, dim=-1))


def check_heads(
    hidden_size: int, num_attention_heads: int, num_key_value_heads: int, head_dim: int | None
) -> int:
    """The size of a head: `head_dim`, or hidden_size / num_attention_heads if it is None.

    Raises `ValueError` for sizes that are not positive whole numbers, or that do not divide.
    """
    check_sizes(
        hidden_size=hidden_size,
        num_attention_heads=num_attention_heads,
        num_key_value_heads=num_key_value_heads,
    )
    check_divides(
        "num_key_value_heads", num_key_value_heads, "num_attention_heads", num_attention_heads
    )
    if head_dim is None:
        check_divides("num_attention_heads", num_attention_heads, "hidden_size", hidden_size)
        return hidden_size // num_attention_heads
    check_sizes(head_dim=head_dim)
    return head_dim


def split_heads(
    x: Float[Tensor, "batch seq_len heads_side_by_side"], num_heads: int
) -> Float[Tensor, "batch {num_heads} seq_len head_dim"]:
    """Heads that stand side by side in the last axis get an axis of their own. Copies nothing.

    einops writes "batch seq (heads dim) -> batch heads seq dim"; this takes a third of the time,
    which shows where one token at a time is decoded.
    """
    batch_size, seq_len, _ = x.shape
    return x.view(batch_size, seq_len, num_heads, -1).transpose(1, 2)


def merge_heads(
    x: Float[Tensor, "batch num_heads seq_len head_dim"],
) -> Float[Tensor, "batch seq_len heads_side_by_side"]:
    """The heads side by side again."""
    return x.transpose(1, 2).flatten(start_dim=2)


def repeat_key_value_heads(
    x: Float[Tensor, "batch num_key_value_heads keys head_dim"], num_attention_heads: int
) -> Float[Tensor, "batch {num_attention_heads} keys head_dim"]:
    """Each key-value head as often as attention heads share it: 0 0 1 1, not 0 1 0 1."""
    sharing = num_attention_heads // x.shape[1]
    if sharing == 1:
        return x
    return repeat(x, "batch group keys dim -> batch (group share) keys dim", share=sharing)


def _project_one(x: Tensor, projection: nn.Linear, head: int, head_dim: int) -> Tensor:
    """The rows of a projection that make one head."""
    rows = slice(head * head_dim, (head + 1) * head_dim)
    bias = None if projection.bias is None else projection.bias[rows]
    return F.linear(x, projection.weight[rows], bias)


def _check_source(source, keys_values, rotary, cache) -> None:
    if source is not None and keys_values is not None:
        raise ValueError("give a source or its keys_values, not both")
    if rotary is not None:
        raise ValueError(
            "rotary turns queries and keys by the positions of hidden, but the keys of a source "
            "stand at positions of their own"
        )
    if cache is not None:
        raise ValueError(
            "a cache takes in the keys of hidden, token by token; a source is there at once: "
            "give keys_values=project_source(source) at each step"
        )
