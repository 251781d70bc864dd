"""Tiling: computing a product block by block, so that what is loaded is used more than once.

A processor with a small fast memory and a large slow one multiplies (rows, inner) by (inner,
cols). It keeps one tile of the result in the fast memory and streams through it the tiles of
both operands that this tile needs. Elements that are loaded serve a whole tile instead of one
result, so the traffic falls as one over the side of the tile.

Hong and Kung, "I/O complexity: the red-blue pebble game", STOC 1981, prove that no order of
computation moves less by more than a constant factor. Lam, Rothberg and Wolf, "The cache
performance and optimizations of blocked algorithms", ASPLOS 1991.
"""

import math
from collections.abc import Iterator
from fractions import Fraction

import sympy
from jaxtyping import Float
from torch import Tensor

from lib.memory.cost import Cost
from lib.memory.sizes import Number, Size, check_positive, check_sizes, exact


def matmul_traffic(
    *, rows: Size, inner: Size, cols: Size, tile: Size, bytes_per_element: Number = 2
) -> Cost:
    """The cost of a tiled product, its bytes counted between the slow and the fast memory.

    The left operand is read once per column of tiles, the right one once per row of tiles, the
    result is written once. With `tile=1` that is the naive product, which loads two elements
    for each multiply-add: 2 n³ s + n² s bytes for squares of side n. A tile as large as the
    matrices reads everything once, as `traffic.linear` assumes.

    With numbers the last tiles may be partial and the count is exact; symbols are taken to
    divide: 2 n³ s / tile + n² s. Raises `ValueError` for sizes that are not positive.
    """
    check_sizes(rows=rows, inner=inner, cols=cols, tile=tile)
    check_positive(bytes_per_element=bytes_per_element)
    read = rows * inner * _tiles(cols, tile) + inner * cols * _tiles(rows, tile)
    written = rows * cols
    return Cost(2 * rows * inner * cols, bytes_per_element * read, bytes_per_element * written)


def tiled_matmul(
    left: Float[Tensor, "rows inner"], right: Float[Tensor, "inner cols"], *, tile: int
) -> tuple[Float[Tensor, "rows cols"], Cost]:
    """The product, and what it cost: every load and store counted as it happens.

    Raises `ValueError` for operands that are not matrices of one dtype with matching sides, or
    a tile that is not a positive whole number.
    """
    _check_operands(left, right, tile)
    (rows, inner), cols = left.shape, right.shape[1]
    product, cost = left.new_empty(rows, cols), Cost(0, 0, 0)
    for row in blocks(rows, tile):
        for col in blocks(cols, tile):
            kept = left.new_zeros(product[row, col].shape)
            for step in blocks(inner, tile):
                left_tile, right_tile = left[row, step], right[step, col]
                kept += left_tile @ right_tile
                flops = 2 * kept.numel() * left_tile.shape[1]
                cost += Cost(flops, left_tile.nbytes + right_tile.nbytes, 0)
            product[row, col] = kept
            cost += Cost(0, 0, kept.nbytes)
    return product, cost


def largest_tile(fast_memory_bytes: Number, bytes_per_element: Number = 2) -> Number:
    """The side of the largest tile of which three fit in the fast memory: sqrt(M / 3s).

    Three, for the tile of the result and one of each operand. A whole number for numbers, the
    root itself for symbols. Raises `ValueError` if not even single elements fit.
    """
    check_positive(fast_memory_bytes=fast_memory_bytes, bytes_per_element=bytes_per_element)
    area = exact(fast_memory_bytes) / (3 * exact(bytes_per_element))
    if isinstance(area, sympy.Expr):
        return sympy.sqrt(area)
    if area < 1:
        raise ValueError(
            f"three elements of {bytes_per_element} bytes do not fit in {fast_memory_bytes} bytes"
        )
    return math.isqrt(math.floor(area))


def compute_bound_tile(
    ridge: Number, *, inner: Size | None = None, bytes_per_element: Number = 2
) -> Number:
    """The side of the tile from which a tiled product reaches the intensity `ridge`.

    Tiles of side T that divide the matrices give 2 / (s (2/T + 1/inner)) FLOPs per byte: T / s
    in the limit of a long inner side, which is meant without `inner`. The answer is a whole
    number for numbers, a formula for symbols, and infinity where `inner` is too short for any
    tile to reach the ridge.
    """
    check_positive(ridge=ridge, bytes_per_element=bytes_per_element)
    reciprocal = 1 / (exact(ridge) * exact(bytes_per_element))
    if inner is not None:
        check_sizes(inner=inner)
        reciprocal -= Fraction(1, 2 * inner) if isinstance(inner, int) else 1 / (2 * inner)
    if isinstance(reciprocal, sympy.Expr):
        return sympy.factor(1 / reciprocal)
    return math.ceil(1 / reciprocal) if reciprocal > 0 else math.inf


def _tiles(length: Size, tile: Size) -> Size:
    """How many tiles cover a side."""
    if isinstance(length, int) and isinstance(tile, int):
        return (length + tile - 1) // tile
    return length / tile


def blocks(length: int, tile: int) -> Iterator[slice]:
    """Cut a side into slices of `tile`; the last may be shorter."""
    for start in range(0, length, tile):
        yield slice(start, min(start + tile, length))


def _check_operands(left: Tensor, right: Tensor, tile: int) -> None:
    check_sizes(tile=tile)
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[0]:
        raise ValueError(
            "a product needs matrices (rows, inner) and (inner, cols), got "
            f"{tuple(left.shape)} and {tuple(right.shape)}"
        )
    if left.dtype != right.dtype:
        raise ValueError(f"the operands differ in dtype: {left.dtype} and {right.dtype}")
