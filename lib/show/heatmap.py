"""Attention as a picture: which keys each query may see, and how much it makes of them.

Queries are rows, from above, keys are columns. Both figures are drawn as outlines and not as
images, so that the frames of an `explore` share their lines.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from numbers import Real
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from lib.show.style import (
    COMPUTE,
    FAINT,
    INK,
    MEMORY,
    MUTED,
    PAPER,
    SMALL_SIZE,
    book_style,
    pixel_figure,
)

Labels = Sequence[Any] | None

_WIDTH, _LEFT, _DRAWING, _CAPTION, _BELOW = 720, 128, 416, 572, 12
_ABOVE, _ABOVE_WORDS = 64, 124
# A single query would be invisible above a thousand keys.
_FLATTEST = 40
# Beyond these, lines are a grey surface, labels touch, and numbers do not fit their cells.
_MOST_LINES, _MOST_WORDS, _MOST_PLACES, _MOST_NUMBERS = 32, 17, 9, 8
_LONGEST_WORD = 8
_MOST_CELLS = {"draw_mask": 256, "draw_weights": 64}
_SHADES = 10
_DIGIT_WIDTH = 11.5
_DARK = 9  # the first shade on which white is easier to read than black


@dataclass(frozen=True)
class _Matrix:
    """Cells on the drawing: how many, how large, and where the first one is, in pixels."""

    axes: Axes
    rows: int
    columns: int
    width: Real
    height: Real
    top: int

    def x(self, column: Real) -> Real:
        return _LEFT + column * self.width

    def y(self, row: Real) -> Real:
        return self.top + row * self.height

    def fill(self, cells: np.ndarray, color: str) -> None:
        """Colour these cells, all as one shape: between two of them no seam shows."""
        corners = [
            (self.x(column), self.y(row))
            for (top, bottom), (left, right) in _rectangles(cells)
            for row, column in ((top, left), (top, right), (bottom, right), (bottom, left), (0, 0))
        ]
        if corners:
            codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
            shape = Path(corners, codes * (len(corners) // 5))
            self.axes.add_patch(PathPatch(shape, facecolor=color, linewidth=0))

    def frame(self) -> None:
        """The outline, and the lines between the cells where they can be told apart."""
        right, bottom = self.x(self.columns), self.y(self.rows)
        lines = {"color": FAINT, "linewidth": 0.8}
        if self.rows <= _MOST_LINES:
            self.axes.hlines([self.y(row) for row in range(1, self.rows)], _LEFT, right, **lines)
        if self.columns <= _MOST_LINES:
            places = [self.x(column) for column in range(1, self.columns)]
            self.axes.vlines(places, self.top, bottom, **lines)
        place = (_LEFT, self.top), right - _LEFT, bottom - self.top
        self.axes.add_patch(Rectangle(*place, fill=False, edgecolor=MUTED, linewidth=1.2))


@book_style()
def draw_mask(
    mask: Any, *, row_labels: Labels = None, column_labels: Labels = None, note: str = ""
) -> Figure:
    """A mask, (queries, keys): blue where the query may attend to the key, white elsewhere.

    `mask` is whatever numpy can read, torch tensors too. Beside it stands how many pairs it lets
    through, then `note`. Labels are tokens; without them the positions are counted from 0.

    Raises `ValueError` for what is not boolean, has not two sides or more than 256 rows or columns,
    and for labels that are not as many as those.
    """
    shown = _array(mask)
    if shown.dtype != bool:
        raise ValueError(f"a mask must be boolean (True = may attend), got {shown.dtype}")
    figure, matrix = _canvas("draw_mask", shown, row_labels, column_labels)
    matrix.fill(shown, MEMORY)
    matrix.frame()
    pairs = f"{shown.sum():,} of\n{shown.size:,} pairs\n= {shown.mean():.1%}"
    _write(matrix.axes, matrix.top, "■ may attend", MEMORY)
    _write(matrix.axes, matrix.top + 48, pairs, INK, weight="bold")
    _write(matrix.axes, matrix.top + 156, note, INK)
    return figure


@book_style()
def draw_weights(
    weights: Any,
    *,
    row_labels: Labels = None,
    column_labels: Labels = None,
    names: tuple[str, str] = ("queries", "keys"),
    largest: Real | None = None,
    note: str = "",
) -> Figure:
    """Weights or biases, (queries, keys): the darker, the larger; blue above zero, orange below.

    The darkest shade stands for `largest` and beyond; without it, for the largest number there is,
    and then frames cannot be compared. Up to 8 × 8 the numbers stand in the cells. Grey is what is
    not finite, such as a score that is masked. `names` says what rows and columns are, where they
    are not queries and keys: positions and features, for one.

    Raises `ValueError` for what has not two sides or more than 64 rows or columns, for labels that
    are not as many as those, and for a `largest` that is not above zero.
    """
    shown = _array(weights).astype(float)
    figure, matrix = _canvas("draw_weights", shown, row_labels, column_labels, names)
    finite = np.isfinite(shown)
    sizes = np.where(finite, shown, 0)
    largest = (np.abs(sizes).max() or 1) if largest is None else largest
    if not largest > 0:
        raise ValueError(f"largest must be above zero, got {largest!r}")
    levels = (sizes / largest * _SHADES).clip(-_SHADES, _SHADES).round().astype(int)
    for level in np.unique(levels[levels != 0]).tolist():
        matrix.fill(levels == level, _shade(level))
    matrix.fill(~finite, FAINT)
    matrix.frame()
    _write_numbers(matrix, shown, levels)
    signed, masked = bool((sizes < 0).any()), not finite.all()
    _scale(matrix, largest, signed=signed, masked=masked, note=note)
    return figure


def _array(given: Any) -> np.ndarray:
    """A tensor may belong to a computation that learns: here it is only looked at."""
    return np.asarray(given.detach() if hasattr(given, "detach") else given)


def _canvas(
    name: str,
    cells: np.ndarray,
    row_labels: Labels,
    column_labels: Labels,
    names: tuple[str, str] = ("queries", "keys"),
) -> tuple[Figure, _Matrix]:
    """Room for these cells, square if they are not too flat, with names and labels around them."""
    if cells.ndim != 2 or 0 in cells.shape or max(cells.shape) > _MOST_CELLS[name]:
        raise ValueError(
            f"{name} takes (queries, keys), 1 to {_MOST_CELLS[name]} of each, "
            f"got the shape {cells.shape}"
        )
    (rows, columns), top = cells.shape, _ABOVE if column_labels is None else _ABOVE_WORDS
    side = _DRAWING / max(rows, columns)
    width, height = max(side, _FLATTEST / columns), max(side, _FLATTEST / rows)
    figure, axes = pixel_figure(_WIDTH, top + _DRAWING + _BELOW)
    matrix = _Matrix(axes, rows, columns, width, height, top)
    axes.text(_LEFT - 14, 8, names[1], weight="bold", va="top", ha="right")
    axes.text(8, top, names[0], weight="bold", va="top", rotation=90)
    style = {"fontsize": SMALL_SIZE}
    for row, text in _labels("row", rows, row_labels):
        place = (_LEFT - 8, matrix.y(row + 0.5))
        axes.text(*place, text, ha="right", va="center_baseline", **style)
    for column, text in _labels("column", columns, column_labels):
        turned = {"rotation": 90, "ha": "center"} if column_labels is not None else {"ha": "center"}
        axes.text(matrix.x(column + 0.5), top - 8, text, va="bottom", **turned, **style)
    return figure, matrix


def _labels(side: str, count: int, labels: Labels) -> Iterator[tuple[int, str]]:
    """Which rows or columns get a label, and which."""
    if labels is None:
        step = 2 ** math.ceil(math.log2(max(1, count / _MOST_PLACES)))
        labels = range(count)
    else:
        step = math.ceil(count / _MOST_WORDS)
    if len(labels) != count:
        raise ValueError(f"{side}_labels must be {count}, one for each {side}, got {len(labels)}")
    for index in range(0, count, step):
        word = str(labels[index])
        yield index, word if len(word) <= _LONGEST_WORD else word[: _LONGEST_WORD - 1] + "…"


def _rectangles(cells: np.ndarray) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """The chosen cells in few rectangles, as rows and columns from, up to, not including."""
    edges = np.diff(np.pad(cells.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    row = 0
    for line, same in groupby(edges, key=bytes):
        bottom = row + len(list(same))
        places = np.flatnonzero(np.frombuffer(line, dtype=np.int8)).tolist()
        for left, right in zip(places[::2], places[1::2], strict=True):
            yield (row, bottom), (left, right)
        row = bottom


def _shade(level: int) -> str:
    """White for 0 to the full colour for ±_SHADES."""
    share = abs(level) / _SHADES
    color, paper = np.array(to_rgb(MEMORY if level > 0 else COMPUTE)), np.array(to_rgb(PAPER))
    return to_hex(share * color + (1 - share) * paper)


def _write_numbers(matrix: _Matrix, shown: np.ndarray, levels: np.ndarray) -> None:
    """The numbers in their cells, all with as many decimals as fit, 2 at most."""
    if max(shown.shape) > _MOST_NUMBERS:
        return
    places = [place for place in np.ndindex(*shown.shape) if np.isfinite(shown[place])]
    for decimals in (2, 1, 0):
        texts = [_number(shown[place], decimals) for place in places]
        if max(map(len, texts), default=0) * _DIGIT_WIDTH <= matrix.width:
            break
    style = {"ha": "center", "va": "center_baseline", "fontsize": SMALL_SIZE}
    for (row, column), text in zip(places, texts, strict=True):
        color = PAPER if abs(levels[row, column]) >= _DARK else INK
        matrix.axes.text(matrix.x(column + 0.5), matrix.y(row + 0.5), text, color=color, **style)


def _number(value: Real, decimals: int = 2) -> str:
    return f"{value:.{decimals}f}".replace("-", "−") if value else "0"


def _scale(matrix: _Matrix, largest: Real, *, signed: bool, masked: bool, note: str) -> None:
    """Beside the cells: what the shades stand for, then the note."""
    axes, step = matrix.axes, 14
    lowest = -_SHADES if signed else 0
    for index, level in enumerate(range(_SHADES, lowest - 1, -1)):
        place = (_CAPTION, matrix.top + index * step)
        axes.add_patch(Rectangle(place, 26, step, facecolor=_shade(level), linewidth=0))
    height = step * (_SHADES + 1 - lowest)
    place = (_CAPTION, matrix.top)
    axes.add_patch(Rectangle(place, 26, height, fill=False, edgecolor=MUTED, linewidth=1.2))
    for level in sorted({_SHADES, 0, lowest}):
        y = matrix.top + (_SHADES - level + 0.5) * step
        text = _number(largest * level / _SHADES)
        axes.text(_CAPTION + 36, y, text, va="center_baseline", fontsize=SMALL_SIZE)
    below = matrix.top + height + 16
    if masked:
        axes.add_patch(Rectangle((_CAPTION, below), 26, 18, facecolor=FAINT, linewidth=0))
        axes.text(_CAPTION + 36, below + 9, "masked", va="center_baseline", fontsize=SMALL_SIZE)
        below += 36
    _write(axes, below, note, INK)


def _write(axes: Axes, top: Real, text: str, color: str, weight: str = "normal") -> None:
    """Text in the column beside the cells."""
    place = {"va": "top", "linespacing": 1.5}
    axes.text(_CAPTION, top, text, color=color, weight=weight, fontsize=SMALL_SIZE, **place)
