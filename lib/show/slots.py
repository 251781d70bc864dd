"""Rows of slots and what is in each: a cache's memory, or the time of several devices."""

from collections.abc import Iterable, Mapping, Sequence
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

_WIDTH, _RIGHT, _ROW, _LEGEND_ROW, _BELOW = 720, 16, 46, 30, 36
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
    legend = _legend_places(kinds)
    top = 14 + _LEGEND_ROW * (1 + max(row for row, _ in legend.values()))
    figure, axes = pixel_figure(_WIDTH, top + _ROW * len(rows) + below)
    _draw_legend(axes, legend, colors)
    side = (_WIDTH - _RIGHT - left) / longest
    for number, (name, slots) in enumerate(rows.items()):
        middle = top + _ROW * (number + 0.5)
        axes.text(left - 10, middle, name, ha="right", va="center_baseline", size=TEXT_SIZE)
        _draw_row(axes, slots, colors, left, middle, side)
    if x_label:
        bottom = top + _ROW * len(rows) + 8
        axes.text(left, bottom, x_label, va="top", size=SMALL_SIZE)
    return figure


def _colors(kinds: Mapping[str, str | None]) -> dict[str, str]:
    free = iter(color for color in PALETTE if color not in kinds.values())
    return {kind: color or next(free) for kind, color in kinds.items()}


def _legend_places(kinds: Iterable[str]) -> dict[str, tuple[int, int]]:
    """The row and the x of each kind in the legend, which starts a new row where one is full."""
    places, row, x = {}, 0, 12
    for kind in kinds:
        width = _LEGEND_GAP + _LETTER * len(kind)
        if x > 12 and x + width > _WIDTH:
            row, x = row + 1, 12
        places[kind] = (row, x)
        x += width
    return places


def _draw_legend(
    axes: Axes, legend: Mapping[str, tuple[int, int]], colors: Mapping[str, str]
) -> None:
    for kind, (row, x) in legend.items():
        y = 12 + _LEGEND_ROW * row
        box = Rectangle((x, y), 16, 16, facecolor=colors[kind], edgecolor=INK, linewidth=0.8)
        axes.add_patch(box)
        axes.text(x + 24, y + 8, kind, va="center_baseline", size=SMALL_SIZE)


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
