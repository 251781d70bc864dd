"""Rows of slots and what is in each: a cache's memory, or the time of several devices."""

from collections.abc import Mapping, Sequence
from numbers import Real

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lib.show.style import (
    FAINT,
    INK,
    PALETTE,
    PAPER,
    SMALL_SIZE,
    TEXT_SIZE,
    book_style,
    pixel_figure,
)

Slot = tuple[str, str]

_WIDTH, _RIGHT, _ROW, _LEGEND, _BELOW = 720, 16, 46, 44, 36
_TALLEST, _LETTER, _LEGEND_GAP = 34, 9, 44
_SMALLEST_WITH_TEXT = 22  # pixels
_MOST_COLUMNS = 128


@book_style()
def draw_slots(
    rows: Mapping[str, Sequence[Slot | None]],
    *,
    kinds: Mapping[str, str | None],
    x_label: str = "",
) -> Figure:
    """A row of slots for each name; a slot is None, empty, or (kind, label).

    `kinds` are all kinds that the figure may show, in the order of the legend, each with its colour
    (None takes the next of the book's): so every frame of an `explore` has the same legend. Labels
    are left out where the slots are too narrow for them. Rows may differ in length.

    Raises `ValueError` for no rows, an unknown kind, or more than 128 slots in a row.
    """
    longest = max((len(slots) for slots in rows.values()), default=0)
    if not 1 <= longest <= _MOST_COLUMNS:
        raise ValueError(f"a row must have 1 to {_MOST_COLUMNS} slots, the longest has {longest}")
    unknown = {slot[0] for slots in rows.values() for slot in slots if slot} - set(kinds)
    if unknown:
        raise ValueError(f"unknown kinds {sorted(unknown)}; kinds names {', '.join(kinds)}")
    colors = _colors(kinds)
    left = 24 + _LETTER * max(len(name) for name in rows)
    below = _BELOW if x_label else 12
    figure, axes = pixel_figure(_WIDTH, _LEGEND + _ROW * len(rows) + below)
    _draw_legend(axes, colors)
    side = (_WIDTH - _RIGHT - left) / longest
    for number, (name, slots) in enumerate(rows.items()):
        middle = _LEGEND + _ROW * (number + 0.5)
        axes.text(left - 10, middle, name, ha="right", va="center_baseline", size=TEXT_SIZE)
        _draw_row(axes, slots, colors, left, middle, side)
    if x_label:
        bottom = _LEGEND + _ROW * len(rows) + 8
        axes.text(left, bottom, x_label, va="top", size=SMALL_SIZE)
    return figure


def _colors(kinds: Mapping[str, str | None]) -> dict[str, str]:
    free = iter(color for color in PALETTE if color not in kinds.values())
    return {kind: color or next(free) for kind, color in kinds.items()}


def _draw_legend(axes: Axes, colors: Mapping[str, str]) -> None:
    x = 12.0
    for kind, color in colors.items():
        place = (x, 12), 16, 16
        axes.add_patch(Rectangle(*place, facecolor=color, edgecolor=INK, linewidth=0.8))
        axes.text(x + 24, 20, kind, va="center_baseline", size=SMALL_SIZE)
        x += _LEGEND_GAP + _LETTER * len(kind)


def _draw_row(
    axes: Axes,
    slots: Sequence[Slot | None],
    colors: Mapping[str, str],
    left: Real,
    middle: Real,
    side: Real,
) -> None:
    height = min(_TALLEST, max(side, 20))
    for column, slot in enumerate(slots):
        place = (left + column * side, middle - height / 2)
        color = PAPER if slot is None else colors[slot[0]]
        box = Rectangle(place, side, height, facecolor=color, edgecolor=FAINT, linewidth=1)
        axes.add_patch(box)
        if slot is not None and slot[1] and side >= _SMALLEST_WITH_TEXT:
            center = (place[0] + side / 2, middle)
            style = {"ha": "center", "va": "center_baseline", "size": SMALL_SIZE}
            axes.text(*center, slot[1], color=_readable_on(color), **style)


def _readable_on(color: str) -> str:
    """Ink on light colours, paper on dark ones."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 150 else PAPER
