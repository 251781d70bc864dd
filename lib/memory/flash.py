"""FlashAttention's traffic: how often K and V are read again, for a given amount of SRAM.

A tile of queries stays in SRAM while all keys pass through it in shorter tiles (Dao, 2023,
FlashAttention-2; the first version keeps a tile of keys and lets the queries pass). The tile that
stays is as long as fits; those that pass have head_dim rows at most, so that the scores, the
product of the two lengths, take no more room than a tile of Q (Dao et al., 2022, algorithm 1).
With M elements of SRAM the tile that stays has about M / 3d rows, and the traffic is proportional
to n² d² / M (theorem 2): for d² below M less than the n² of stored scores. Counts are exact,
partial tiles included.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import sympy

from lib.memory.cost import Cost
from lib.memory.sizes import Number, Size, check_positive, check_sizes
from lib.memory.tiling import blocks
from lib.memory.traffic import FLOPS_PER_SCORE, FLOPS_PER_SCORE_BACKWARD


@dataclass(frozen=True)
class Residents:
    """What is in SRAM at one time: vectors for the long tile, for the passing one, and scores."""

    staying: int
    passing: int
    scores: int


FORWARD = Residents(staying=2, passing=2, scores=1)
"""Q and O stay, K and V pass, S is between them."""

BACKWARD = Residents(staying=4, passing=3, scores=2)
"""K, V, dK and dV stay, Q, dO and dQ pass, P and dS are between them."""


def attention_tile(
    *,
    sram_bytes: Size,
    head_dim: Size,
    bytes_per_element: Number = 2,
    residents: Residents = FORWARD,
) -> Number:
    """The most rows of a tile that stays, beside what passes (`passing_tile` rows) and the scores.

    With symbols, the formula for an SRAM that has room for head_dim rows or more. Raises
    `ValueError` when not even one row fits.
    """
    check_sizes(sram_bytes=sram_bytes, head_dim=head_dim)
    check_positive(bytes_per_element=bytes_per_element)
    elements = sram_bytes / bytes_per_element
    passing = residents.passing * head_dim**2
    each = (residents.staying + residents.scores) * head_dim
    if isinstance(elements + head_dim, sympy.Expr):
        return (elements - passing) / each
    if elements - passing >= each * head_dim:
        return math.floor(elements - passing) // each
    tile = _largest_square(math.floor(elements), head_dim, residents)
    if tile < 1:
        vectors = residents.staying + residents.passing
        needed = math.ceil((vectors * head_dim + residents.scores) * bytes_per_element)
        raise ValueError(
            f"no tile fits: one row of {vectors} tiles with head_dim {head_dim} needs "
            f"{needed:,} bytes of SRAM, got {sram_bytes:,}"
        )
    return tile


def passing_tile(tile: Size, head_dim: Size) -> Size:
    """The rows of the tiles that pass by one of `tile` rows: as many, but at most head_dim."""
    return min(tile, head_dim)


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
    bytes_per_statistic: Number = 4,
    flops_per_score: Number = FLOPS_PER_SCORE,
) -> Cost:
    """Q is read once, K and V once for every tile of queries that sees them; O and the
    log-sum-exp, one number a query of `bytes_per_statistic`, are written.

    Causal, tiles in which nothing is visible are neither read nor computed; the last query stands
    at the last key. Symbols are taken to divide, and for `causal` queries and keys to be equal.
    """
    check_sizes(batch_size=batch_size, num_attention_heads=num_attention_heads)
    check_sizes(queries=queries, keys=keys, tile=tile, head_dim=head_dim)
    check_positive(bytes_per_element=bytes_per_element, bytes_per_statistic=bytes_per_statistic)
    seen, pairs = _keys_seen(queries, keys, tile, head_dim, causal)
    read = (queries + 2 * seen) * head_dim * bytes_per_element
    written = queries * (head_dim * bytes_per_element + bytes_per_statistic)
    flops = pairs * (4 * head_dim + flops_per_score)
    return batch_size * num_attention_heads * Cost(flops, read, written)


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
    bytes_per_statistic: Number = 4,
    flops_per_score: Number = FLOPS_PER_SCORE + FLOPS_PER_SCORE_BACKWARD,
) -> Cost:
    """First O and dO are read for one number a query, their dot product D. Then for every tile of
    keys, K and V are read, dK and dV written; each tile of queries that sees it brings Q, dO, dQ,
    log-sum-exp and D, and takes dQ back.

    `causal` and symbols as in `flash_forward`.
    """
    check_sizes(batch_size=batch_size, num_attention_heads=num_attention_heads)
    check_sizes(queries=queries, keys=keys, tile=tile, head_dim=head_dim)
    check_positive(bytes_per_element=bytes_per_element, bytes_per_statistic=bytes_per_statistic)
    seeing, pairs = _queries_seeing(queries, keys, tile, head_dim, causal)
    vectors_read = (2 * queries + 2 * keys + 3 * seeing) * head_dim
    read = vectors_read * bytes_per_element + 2 * seeing * bytes_per_statistic
    vectors_written = (2 * keys + seeing) * head_dim
    written = vectors_written * bytes_per_element + queries * bytes_per_statistic
    flops = pairs * (10 * head_dim + flops_per_score)
    return batch_size * num_attention_heads * Cost(flops, read, written)


def _keys_seen(
    queries: Size, keys: Size, tile: Size, head_dim: Size, causal: bool
) -> tuple[Size, Size]:
    """Rows of K read, over and over, by the tiles of queries; and query-key pairs computed."""

    def seen(rows: slice, passing: int) -> int:
        end = rows.stop + keys - queries if causal else keys
        return min(keys, math.ceil(end / passing) * passing)

    return _rows_met(queries, keys, tile, head_dim, causal, seen)


def _queries_seeing(
    queries: Size, keys: Size, tile: Size, head_dim: Size, causal: bool
) -> tuple[Size, Size]:
    """Rows of Q read, over and over, by the tiles of keys; and query-key pairs computed."""

    def seeing(cols: slice, passing: int) -> int:
        first = max(0, cols.start - (keys - queries)) if causal else 0
        return queries - first // passing * passing

    return _rows_met(keys, queries, tile, head_dim, causal, seeing)


def _rows_met(
    staying: Size,
    passing: Size,
    tile: Size,
    head_dim: Size,
    causal: bool,
    met: Callable[[slice, int], int],
) -> tuple[Size, Size]:
    """Rows that pass by the tiles that stay, `met(tile, rows of a passing tile)` by each; pairs."""
    if _symbols(staying, passing, tile, head_dim):
        rows = passing * _tiles_met(staying, tile, causal)
        return rows, rows * tile
    short = passing_tile(tile, head_dim)
    counts = [(met(block, short), block.stop - block.start) for block in blocks(staying, tile)]
    return sum(rows for rows, _ in counts), sum(rows * length for rows, length in counts)


def _tiles_met(length: Size, tile: Size, causal: bool) -> sympy.Expr:
    """How many tiles pass by each row on average, where they divide."""
    return (length / tile + 1) / 2 if causal else length / tile


def _largest_square(elements: int, head_dim: int, residents: Residents) -> int:
    """The most rows T where the tiles that pass are as long: T (vectors d + scores T) elements."""
    wide, scores = (residents.staying + residents.passing) * head_dim, residents.scores
    return (math.isqrt(wide**2 + 4 * scores * elements) - wide) // (2 * scores)


def _symbols(*sizes: Size) -> bool:
    return any(isinstance(size, sympy.Expr) for size in sizes)
