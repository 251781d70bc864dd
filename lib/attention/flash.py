"""FlashAttention (Dao et al., 2022; Dao, 2023): exact attention that never stores its scores.

A GPU computes faster than it reads and writes its memory, HBM. Tiles of Q, K and V are therefore
loaded into the small fast SRAM, their scores are used there and forgotten, and only O goes back.
The backward pass computes the scores again. Here a tile is a slice of a tensor, and each load and
store is counted where it happens; `lib.memory.flash` has the counts as formulas.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lib.attention.online_softmax import OnlineSoftmax
from lib.masks import check_mask
from lib.memory.flash import BACKWARD, FORWARD, attention_tile, passing_tile
from lib.memory.tiling import blocks

SRAM_BYTES = 164 * 1024
"""Shared memory of one streaming multiprocessor of an A100."""


@dataclass
class Traffic:
    """Bytes that have moved between HBM and SRAM."""

    bytes_read: int = 0
    bytes_written: int = 0

    def load(self, tensor: Tensor) -> Tensor:
        """A tile comes from HBM."""
        self.bytes_read += tensor.numel() * tensor.element_size()
        return tensor

    def store(self, tensor: Tensor) -> Tensor:
        """A tile goes to HBM."""
        self.bytes_written += tensor.numel() * tensor.element_size()
        return tensor


@dataclass(frozen=True)
class Visibility:
    """Which query sees which key, tile by tile, so that hidden tiles are left out."""

    queries: int
    keys: int
    mask: Tensor | None
    is_causal: bool

    def __post_init__(self) -> None:
        if self.is_causal and self.queries > self.keys:
            raise ValueError(
                f"{self.queries} queries cannot stand at the end of only {self.keys} keys"
            )

    def tile(self, rows: slice, cols: slice, traffic: Traffic) -> Tensor | None:
        """The mask of one tile; None if all of it is visible. Look at `hidden` first."""
        mask = None if self.mask is None else traffic.load(self.mask[..., rows, cols])
        first_row = rows.start + self.keys - self.queries
        if not self.is_causal or cols.stop - 1 <= first_row:
            return mask
        query = torch.arange(first_row, first_row + rows.stop - rows.start)[:, None]
        past = torch.arange(cols.start, cols.stop) <= query
        return past if mask is None else mask & past.to(mask.device)

    def hidden(self, rows: slice, cols: slice) -> bool:
        """Whether no query of the tile sees any of its keys."""
        if self.is_causal and cols.start > rows.stop - 1 + self.keys - self.queries:
            return True
        return self.mask is not None and not self.mask[..., rows, cols].any()

    def tiles(self, rows: slice, tile: int, traffic: Traffic) -> Iterator[tuple[slice, Tensor]]:
        """The tiles of keys that some query of `rows` sees, each with its mask."""
        for cols in blocks(self.keys, tile):
            if not self.hidden(rows, cols):
                yield cols, self.tile(rows, cols, traffic)


def flash_attention(
    q: Float[Tensor, "*batch queries head_dim"],
    k: Float[Tensor, "*batch keys head_dim"],
    v: Float[Tensor, "*batch keys head_dim"],
    mask: Bool[Tensor, "..."] | None = None,
    *,
    is_causal: bool = False,
    scale: float | None = None,
    sram_bytes: int = SRAM_BYTES,
    traffic: Traffic | None = None,
) -> tuple[Float[Tensor, "*batch queries head_dim"], Float[Tensor, "*batch queries"]]:
    """The output, and each query's log-sum-exp of the scores (-inf if it sees no key).

    The tiles are the largest that fit into `sram_bytes`; half precision is computed in float32.
    `traffic`, if given, is counted up, by the backward pass too. Causal, the last query stands at
    the last key.

    Raises `ValueError` for a mask that does not fit, and for an SRAM too small for one row.
    """
    if mask is not None:
        check_mask(mask, (*q.shape[:-1], k.shape[-2]))
        mask = mask.expand(*q.shape[:-1], k.shape[-2])
    tiles = [
        attention_tile(
            sram_bytes=sram_bytes,
            head_dim=q.shape[-1],
            bytes_per_element=q.element_size(),
            residents=residents,
        )
        for residents in (FORWARD, BACKWARD)
    ]
    visibility = Visibility(q.shape[-2], k.shape[-2], mask, is_causal)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    traffic = Traffic() if traffic is None else traffic
    return FlashFunction.apply(q, k, v, visibility, scale, tiles, traffic, forward_in_tiles)


def forward_in_tiles(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    visibility: Visibility,
    scale: float,
    tile: int,
    traffic: Traffic,
) -> tuple[Tensor, Tensor]:
    """O and the log-sum-exp: one tile of queries after the other, all keys past each."""
    output, lse = torch.empty_like(q), q.new_empty(q.shape[:-1], dtype=_statistics(q))
    passing = passing_tile(tile, q.shape[-1])
    for rows in blocks(q.shape[-2], tile):
        q_tile = traffic.load(q[..., rows, :]).to(lse.dtype) * scale
        softmax = OnlineSoftmax(q_tile)
        for cols, visible in visibility.tiles(rows, passing, traffic):
            k_tile, v_tile = (traffic.load(x[..., cols, :]).to(lse.dtype) for x in (k, v))
            softmax.add(_scores(q_tile, k_tile, visible), v_tile)
        done, total = softmax.result()
        output[..., rows, :], lse[..., rows] = traffic.store(done.to(q.dtype)), traffic.store(total)
    return output, lse


def backward_in_tiles(
    saved: tuple[Tensor, ...],
    gradient: Tensor,
    lse_gradient: Tensor,
    visibility: Visibility,
    scale: float,
    tile: int,
    traffic: Traffic,
) -> tuple[Tensor, Tensor, Tensor]:
    """dQ, dK and dV: one tile of keys after the other, all queries past each.

    With P = exp(S - lse) the scores' gradient is P · (dO Vᵀ - D), D = rowsum(dO · O).
    """
    q, k, v, output, lse = saved
    both = (traffic.load(x).to(lse.dtype) for x in (gradient, output))
    d = math.prod(both).sum(dim=-1) - lse_gradient
    d = traffic.store(d)
    # A query that sees nothing has scores of -inf, whose weights must be 0.
    lse = lse.masked_fill(lse == float("-inf"), 0.0)
    dq, dk, dv = torch.zeros_like(q), torch.empty_like(k), torch.empty_like(v)
    passing = passing_tile(tile, q.shape[-1])
    for cols in blocks(k.shape[-2], tile):
        k_tile, v_tile = (traffic.load(x[..., cols, :]).to(lse.dtype) for x in (k, v))
        dk_tile, dv_tile = torch.zeros_like(k_tile), torch.zeros_like(v_tile)
        for rows in blocks(q.shape[-2], passing):
            if visibility.hidden(rows, cols):
                continue
            q_tile, do_tile = (traffic.load(x[..., rows, :]).to(d.dtype) for x in (q, gradient))
            lse_tile, d_tile = (traffic.load(x[..., rows])[..., None] for x in (lse, d))
            scores = _scores(q_tile * scale, k_tile, visibility.tile(rows, cols, traffic))
            p = (scores - lse_tile).exp()
            ds = p * (do_tile @ v_tile.mT - d_tile) * scale
            dv_tile += p.mT @ do_tile
            dk_tile += ds.mT @ q_tile
            dq_tile = traffic.load(dq[..., rows, :]) + ds @ k_tile
            dq[..., rows, :] = traffic.store(dq_tile.to(q.dtype))
        dk[..., cols, :] = traffic.store(dk_tile.to(k.dtype))
        dv[..., cols, :] = traffic.store(dv_tile.to(v.dtype))
    return dq, dk, dv


class FlashFunction(torch.autograd.Function):
    """The two passes, tied together for autograd; between them only O and the log-sum-exp live."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
        """Run the forward pass that was handed over; keep what the backward pass needs."""
        q, k, v, visibility, scale, tiles, traffic, forward_pass = arguments
        output, lse = forward_pass(q, k, v, visibility, scale, tiles[0], traffic)
        ctx.save_for_backward(q, k, v, output, lse)
        ctx.rest = visibility, scale, tiles[1], traffic
        return output, lse

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of q, k and v; the other arguments have none."""
        gradients = backward_in_tiles(ctx.saved_tensors, *upstream, *ctx.rest)
        return *gradients, None, None, None, None, None


def _statistics(q: Tensor) -> torch.dtype:
    """Tiles are computed in float32 at least, and the log-sum-exp is kept so."""
    return torch.promote_types(q.dtype, torch.float32)


def _scores(q_tile: Tensor, k_tile: Tensor, visible: Tensor | None) -> Tensor:
    scores = q_tile @ k_tile.mT
    if visible is None:
        return scores
    return scores.masked_fill(~visible.to(scores.device), float("-inf"))
