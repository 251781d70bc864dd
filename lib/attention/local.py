"""Local attention: each query sees a window of keys around it, and no n by n matrix exists.

The sequence is cut into blocks of queries. All that a block sees lies in a span of keys around it,
and attention over blocks is attention over a batch of short sequences. The spans overlap: they are
views of the same keys, not copies. A short block computes few scores in vain, a long one makes
larger products; a quarter of the window is a good length.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from lib.masks import check_mask
from lib.memory.sizes import check_sizes

MIN_BLOCK = 64
"""Queries in a block, at least: with fewer the products are too small for a processor."""


def local_attention(
    q: Float[Tensor, "batch num_heads seq_len head_dim"],
    k: Float[Tensor, "batch num_heads seq_len head_dim"],
    v: Float[Tensor, "batch num_heads seq_len value_dim"],
    *,
    window: int,
    is_causal: bool = True,
    padding: Bool[Tensor, "batch 1 1 seq_len"] | None = None,
    scale: float | None = None,
    block_size: int | None = None,
) -> Float[Tensor, "batch num_heads seq_len value_dim"]:
    """Equal to attention with `masks.sliding_window(seq_len, window=window, causal=is_causal)`.

    `padding` hides keys, as `masks.padding` makes it. Neither the window nor `block_size` (a
    quarter of the window, and at least `MIN_BLOCK`) need divide the length. Raises `ValueError`
    for a window or a block size below 1, and for padding that is not boolean.
    """
    cut = _Cut.of(q.shape[-2], window, is_causal, block_size)
    mask = cut.window_mask().to(q.device)
    if padding is None:
        output = _attend_blocks(*(x.flatten(0, 1) for x in (q, k, v)), mask, cut, scale)
        return output.unflatten(0, q.shape[:2])
    check_mask(padding, torch.Size((len(q), 1, 1, cut.seq_len)))
    # A sequence at a time: its heads share a mask, and the masks of all would take much memory.
    seen = cut.spans(padding.expand(len(q), -1, -1, -1)[:, 0, 0, :, None]).mT
    outputs = [
        _attend_blocks(*qkv, mask & keys, cut, scale)
        for *qkv, keys in zip(q, k, v, seen, strict=True)
    ]
    return torch.stack(outputs)


@dataclass(frozen=True)
class _Cut:
    """How a sequence is cut: blocks of `rows` queries, each with so many keys before and after."""

    seq_len: int
    rows: int
    window: int
    before: int
    after: int

    @classmethod
    def of(cls, seq_len: int, window: int, is_causal: bool, block_size: int | None) -> "_Cut":
        check_sizes(window=window)
        # Further back than the first key there is nothing to see.
        window = min(window, seq_len)
        rows = max(MIN_BLOCK, window // 4) if block_size is None else block_size
        check_sizes(block_size=rows)
        reach = window - 1
        return cls(seq_len, min(rows, seq_len), window, reach, 0 if is_causal else reach)

    @property
    def missing(self) -> int:
        """What the last block lacks to be full."""
        return -self.seq_len % self.rows

    def blocks(
        self, x: Float[Tensor, "heads seq_len dim"]
    ) -> Float[Tensor, "heads blocks rows dim"]:
        return functional.pad(x, (0, 0, 0, self.missing)).unflatten(-2, (-1, self.rows))

    def spans(self, x: Tensor) -> Tensor:
        """(heads, seq_len, dim) to (heads, blocks, span, dim), a view of x with zeros around it."""
        padded = functional.pad(x, (0, 0, self.before, self.missing + self.after))
        return padded.unfold(-2, self.before + self.rows + self.after, self.rows).mT

    def window_mask(self) -> Bool[Tensor, "blocks rows span"]:
        """The window, and the ends of the sequence, for each block and its span."""
        start = torch.arange(0, self.seq_len, self.rows)[:, None, None]
        query = start + torch.arange(self.rows)[:, None]
        key = start + torch.arange(-self.before, self.rows + self.after)
        near = (key > query - self.window) & (key <= query + self.after)
        return near & (key >= 0) & (key < self.seq_len)


def _attend_blocks(
    q: Float[Tensor, "heads seq_len head_dim"],
    k: Float[Tensor, "heads seq_len head_dim"],
    v: Float[Tensor, "heads seq_len value_dim"],
    mask: Bool[Tensor, "blocks rows span"],
    cut: _Cut,
    scale: float | None,
) -> Float[Tensor, "heads seq_len value_dim"]:
    # A mask of four sides, as the fused kernel wants it; with three, torch would take a slow way.
    output = functional.scaled_dot_product_attention(
        cut.blocks(q), cut.spans(k), cut.spans(v), attn_mask=mask[None], scale=scale
    )
    return output.flatten(-3, -2)[..., : cut.seq_len, :]
