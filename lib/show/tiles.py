"""A blocked matrix product at one moment: which tiles are in the fast memory."""

import math
from dataclasses import dataclass
from numbers import Real
from textwrap import wrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lib.show.format import format_bytes
from lib.show.style import (
    COMPUTE,
    INK,
    MEMORY,
    MUTED,
    book_style,
    pixel_figure,
)

_WIDTH, _HEIGHT = 720, 500
_DRAWING, _MARGIN, _ABOVE, _BELOW, _GAP = 440, 16, 36, 14, 36
_NOTE_WIDTH = 20  # letters
# A single row would be invisible beside a thousand, and hundreds of grid lines a grey surface.
_SHORTEST = 0.1
_MOST_TILES = 64


@dataclass(frozen=True)
class _Side:
    """A side of a matrix: its length in elements, in tiles and on the drawing in pixels."""

    length: int
    tile: int
    pixels: Real

    @property
    def tiles(self) -> int:
        return math.ceil(self.length / self.tile)

    def span(self, first: int, last: int) -> tuple[Real, Real]:
        """Where tiles `first` up to, not including, `last` lie; the last tile may be partial."""
        start, end = (min(index * self.tile, self.length) for index in (first, last))
        return start / self.length * self.pixels, (end - start) / self.length * self.pixels

    def edges(self) -> list[Real]:
        """Where two tiles meet; nowhere if they are too many to be told apart."""
        if self.tiles > _MOST_TILES:
            return []
        return [self.span(0, index)[1] for index in range(1, self.tiles)]


@dataclass(frozen=True)
class _Matrix:
    """A matrix on the drawing: its upper left corner and its two sides."""

    axes: Axes
    left: Real
    top: Real
    rows: _Side
    cols: _Side

    def fill(self, rows: tuple[int, int], cols: tuple[int, int], color: str, alpha: Real) -> None:
        """Colour the tiles in these ranges of rows and columns."""
        (y, height), (x, width) = self.rows.span(*rows), self.cols.span(*cols)
        style = {"facecolor": color, "alpha": alpha, "linewidth": 0}
        self.axes.add_patch(Rectangle((self.left + x, self.top + y), width, height, **style))

    def frame(self, name: str) -> None:
        """The name in the middle above, the outline, and the lines between the tiles."""
        right, bottom = self.left + self.cols.pixels, self.top + self.rows.pixels
        lines = {"color": MUTED, "linewidth": 0.5}
        heights = [self.top + edge for edge in self.rows.edges()]
        widths = [self.left + edge for edge in self.cols.edges()]
        self.axes.hlines(heights, self.left, right, **lines)
        self.axes.vlines(widths, self.top, bottom, **lines)
        place = (self.left, self.top), self.cols.pixels, self.rows.pixels
        self.axes.add_patch(Rectangle(*place, fill=False, edgecolor=INK, linewidth=1.5))
        middle = self.left + self.cols.pixels / 2
        self.axes.text(middle, self.top - 6, name, ha="center", va="bottom", weight="bold")


def _lines(note: str) -> list[str]:
    """The note in lines that fit beside the matrices."""
    return [line for part in note.splitlines() for line in wrap(part, _NOTE_WIDTH)]


@book_style()
def draw_tiles(
    *, rows: int, inner: int, cols: int, tile: int, step: int = 0, traffic: Real, note: str = ""
) -> Figure:
    """C = A B by square tiles, with A (rows, inner), B (inner, cols) and C (rows, cols).

    At `step`, counted from 0 in the order row of tiles, column of tiles, inner tile, the tiles of
    A and B that are in the fast memory are blue, and so is, paler, all that this tile of C needs
    of them; the tile of C that is being summed is orange and those that are done are grey.
    `traffic`, the bytes that the whole product moves, is printed, then `note`, a short remark.

    Raises `ValueError` for sizes below 1 and for a step that the product does not have.
    """
    _check_sizes(rows=rows, inner=inner, cols=cols, tile=tile)
    row_side, inner_side, col_side = _scale(tile, rows, inner, cols)
    row, col, depth = _position(step, row_side.tiles, col_side.tiles, inner_side.tiles)
    figure, axes = pixel_figure(_WIDTH, _HEIGHT)
    left, top = _MARGIN + inner_side.pixels + _GAP, _ABOVE + inner_side.pixels + _GAP
    a = _Matrix(axes, _MARGIN, top, row_side, inner_side)
    b = _Matrix(axes, left, _ABOVE, inner_side, col_side)
    c = _Matrix(axes, left, top, row_side, col_side)
    _color_operands(a, b, row, col, depth)
    _color_result(c, row, col)
    for name, matrix in (("A", a), ("B", b), ("C", c)):
        matrix.frame(name)
    shapes = f"A {rows:,} × {inner:,}\nB {inner:,} × {cols:,}\nC {rows:,} × {cols:,}"
    moved = f"traffic {format_bytes(traffic)}"
    _caption(axes, shapes, f"tiles {tile:,} × {tile:,}", "\n".join([moved, *_lines(note)]))
    return figure


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"{name} must be a whole number from 1, got {size!r}")


def _scale(tile: int, rows: int, inner: int, cols: int) -> tuple[_Side, _Side, _Side]:
    """The three sides, as large as the figure allows and in proportion."""
    shortest = _SHORTEST * max(rows, inner, cols)
    tall, deep, wide = (max(side, shortest) for side in (rows, inner, cols))
    across = (_DRAWING - _GAP) / (deep + wide)
    down = (_HEIGHT - _ABOVE - _BELOW - _GAP) / (deep + tall)
    scale = min(across, down)
    sides = ((rows, tall), (inner, deep), (cols, wide))
    return tuple(_Side(length, tile, scale * drawn) for length, drawn in sides)


def _position(step: int, rows: int, cols: int, inner: int) -> tuple[int, int, int]:
    """Row, column and inner index of the tiles at a step: the inner index runs fastest."""
    steps = rows * cols * inner
    if not 0 <= step < steps:
        raise ValueError(f"step must be 0 to {steps - 1}, got {step!r}")
    block, depth = divmod(step, inner)
    return *divmod(block, cols), depth


def _color_operands(a: _Matrix, b: _Matrix, row: int, col: int, depth: int) -> None:
    """A row of tiles of A and a column of tiles of B, and the two of them that are loaded."""
    a.fill((row, row + 1), (0, a.cols.tiles), MEMORY, 0.15)
    b.fill((0, b.rows.tiles), (col, col + 1), MEMORY, 0.15)
    a.fill((row, row + 1), (depth, depth + 1), MEMORY, 1)
    b.fill((depth, depth + 1), (col, col + 1), MEMORY, 1)


def _color_result(c: _Matrix, row: int, col: int) -> None:
    """The tiles that are done, whole rows and then part of one, and the one in work."""
    c.fill((0, row), (0, c.cols.tiles), MUTED, 0.35)
    c.fill((row, row + 1), (0, col), MUTED, 0.35)
    c.fill((row, row + 1), (col, col + 1), COMPUTE, 1)


def _caption(axes: Axes, shapes: str, tiles: str, traffic: str) -> None:
    """What is drawn, what the colours mean and what it costs, in a column at the right."""
    column = _MARGIN + _DRAWING + 36
    blocks = (
        (60, shapes, INK, "normal"),
        (176, tiles, INK, "bold"),
        (216, "■ loaded", MEMORY, "normal"),
        (248, "■ being summed", COMPUTE, "normal"),
        (280, "■ done", MUTED, "normal"),
        (348, traffic, INK, "bold"),
    )
    for y, text, color, weight in blocks:
        axes.text(column, y, text, color=color, weight=weight, va="top", linespacing=1.5)
