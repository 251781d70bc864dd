"""FlashAttention's traffic: how often K and V are read again, for a given amount of SRAM.

Queries are cut into tiles of rows, keys into tiles of the same length; for each tile of queries all
tiles of keys pass through the SRAM (Dao, 2023, FlashAttention-2; the first version has the loops
the other way round). With M elements of SRAM a tile is about √M long or M / 4d, whichever is less,
so the traffic is proportional to n² d² / M: for d² < M less than the n² of the stored scores (Dao
et al., 2022, theorem 2). Counts are exact, partial tiles included.
"""

import math

import sympy

from lib.memory.cost import Cost
from lib.memory.sizes import Number, Size, check_positive, check_sizes
from lib.memory.tiling import blocks
from lib.memory.traffic import FLOPS_PER_SCORE, FLOPS_PER_SCORE_BACKWARD

FORWARD = {"vectors": 4, "squares": 1}
"""In SRAM at one time: tiles of Q, K, V and O, one square tile of scores."""

BACKWARD = {"vectors": 7, "squares": 2}
"""In SRAM at one time: tiles of Q, K, V, dO, dQ, dK and dV, square tiles of P and dS."""


def attention_tile(
    *,
    sram_bytes: Size,
    head_dim: Size,
    bytes_per_element: Number = 2,
    vectors: int = FORWARD["vectors"],
    squares: int = FORWARD["squares"],
) -> Number:
    """The most rows T of which `vectors` tiles (T, head_dim) and `squares` tiles (T, T) fit.

    Raises `ValueError` when not even one row does.
    """
    check_sizes(sram_bytes=sram_bytes, head_dim=head_dim)
    check_positive(bytes_per_element=bytes_per_element)
    elements, wide = sram_bytes / bytes_per_element, vectors * head_dim
    if isinstance(wide + elements, sympy.Expr):
        return (sympy.sqrt(wide**2 + 4 * squares * elements) - wide) / (2 * squares)
    tile = (math.isqrt(wide**2 + 4 * squares * math.floor(elements)) - wide) // (2 * squares)
    if tile < 1:
        needed = math.ceil((wide + squares) * bytes_per_element)
        raise ValueError(
            f"no tile fits: one row of {vectors} tiles with head_dim {head_dim} needs "
            f"{needed:,} bytes of SRAM, got {sram_bytes:,}"
        )
    return tile


def flash_forward(
    *,
    batch_size: Size,
    num_attention_heads: Size,
    queries: Size,
    keys: Size,
    head_dim: Size,
    tile: Size,
    causal: bool = False,
    bytes_per_element: Number = 2,
    flops_per_score: Number = FLOPS_PER_SCORE,
) -> Cost:
    """Q is read once, K and V once for every tile of queries that sees them; O and the
    log-sum-exp, one number a query, are written.

    Causal, tiles in which nothing is visible are neither read nor computed; the last query stands
    at the last key. Symbols are taken to divide, and for `causal` queries and keys to be equal.
    """
    check_sizes(batch_size=batch_size, num_attention_heads=num_attention_heads)
    seen_rows, pairs = _visits(queries, keys, tile, causal)
    read = (queries + 2 * seen_rows) * head_dim
    written = queries * (head_dim + 1)
    flops = pairs * (4 * head_dim + flops_per_score)
    times = batch_size * num_attention_heads
    return times * Cost(flops, bytes_per_element * read, bytes_per_element * written)


def flash_backward(
    *,
    batch_size: Size,
    num_attention_heads: Size,
    queries: Size,
    keys: Size,
    head_dim: Size,
    tile: Size,
    causal: bool = False,
    bytes_per_element: Number = 2,
    flops_per_score: Number = FLOPS_PER_SCORE + FLOPS_PER_SCORE_BACKWARD,
) -> Cost:
    """First O and dO are read for one number a query, their dot product D. Then for every tile of
    keys, K and V are read, dK and dV written; each tile of queries that sees it brings Q, dO, dQ,
    log-sum-exp and D, and takes dQ back.

    `causal` and symbols as in `flash_forward`.
    """
    check_sizes(batch_size=batch_size, num_attention_heads=num_attention_heads)
    _, pairs = _visits(queries, keys, tile, causal)
    seeing = _rows_seeing(queries, keys, tile, causal)
    read = 2 * queries * head_dim + 2 * keys * head_dim + seeing * (3 * head_dim + 2)
    written = queries + 2 * keys * head_dim + seeing * head_dim
    flops = pairs * (10 * head_dim + flops_per_score)
    times = batch_size * num_attention_heads
    return times * Cost(flops, bytes_per_element * read, bytes_per_element * written)


def _visits(queries: Size, keys: Size, tile: Size, causal: bool) -> tuple[Size, Size]:
    """Rows of K read, over and over, and query-key pairs computed."""
    check_sizes(queries=queries, keys=keys, tile=tile)
    if any(isinstance(size, sympy.Expr) for size in (queries, keys, tile)):
        seen = keys * _tiles_met(queries, tile, causal)
        return seen, seen * tile
    seen, pairs = 0, 0
    for rows in blocks(queries, tile):
        end = rows.stop + keys - queries if causal else keys
        cols = min(keys, math.ceil(end / tile) * tile)
        seen, pairs = seen + cols, pairs + (rows.stop - rows.start) * cols
    return seen, pairs


def _rows_seeing(queries: Size, keys: Size, tile: Size, causal: bool) -> Size:
    """Rows of Q read, over and over: once for every tile of keys of which their tile sees some."""
    if any(isinstance(size, sympy.Expr) for size in (queries, keys, tile)):
        return queries * _tiles_met(keys, tile, causal)
    rows = 0
    for cols in blocks(keys, tile):
        first = max(0, cols.start - (keys - queries)) if causal else 0
        rows += queries - first // tile * tile
    return rows


def _tiles_met(length: Size, tile: Size, causal: bool) -> sympy.Expr:
    """How many tiles pass by each row on average, where they divide."""
    return (length / tile + 1) / 2 if causal else length / tile
