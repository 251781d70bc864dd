"""Stacked bars: what a total is made of, one bar for each group."""

import math
from collections.abc import Mapping
from numbers import Real

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from lib.show.format import format_si
from lib.show.style import (
    INK,
    PALETTE,
    PAPER,
    SMALL_SIZE,
    TEXT_SIZE,
    book_style,
    new_figure,
    place_axes,
)

Groups = Mapping[str, Mapping[str, Real]]

# What several figures show has the same colour in all of them.
PART_COLORS = {
    "weights": PALETTE[0],
    "activations": PALETTE[1],
    "gradients": PALETTE[2],
    "optimizer states": PALETTE[3],
    "KV cache": PALETTE[4],
}

_COLUMNS = 3


@book_style()
def draw_stacked_bars(
    groups: Groups,
    *,
    unit: str,
    maximum: Real | None = None,
    limits: Mapping[str, Real] | None = None,
) -> Figure:
    """A horizontal bar for each group, made of its parts, with the total at its end.

    `groups` maps the name of a group to {part: value}; values are in `unit` ("B", "s", "FLOP")
    and printed with SI prefixes. A part has one colour in the whole figure, and those named in
    `PART_COLORS` have theirs in every figure. `maximum`, the largest value to expect, fixes the
    axis, so that bars can be compared from figure to figure; `limits` draws named lines, such as
    {"H100": 80e9}.

    Raises `ValueError` for no groups or parts, more parts than colours, a negative value, or a
    total or limit beyond `maximum`.
    """
    colors = _colors(groups)
    totals = _totals(groups)
    longest = max([*totals.values(), *(limits or {}).values()])
    if maximum is not None and longest > maximum:
        raise ValueError(f"maximum is {maximum:,}, but there is a total or limit of {longest:,}")
    rows = math.ceil(len(colors) / _COLUMNS)
    figure, axes = new_figure(720, 62 * len(groups) + 32 * rows + 110)
    _set_margins(figure, list(groups), rows)
    _set_scales(axes, list(groups), longest if maximum is None else maximum, unit)
    for row, (name, parts) in enumerate(groups.items()):
        _draw_bar(axes, row, parts, colors)
        total = format_si(totals[name], unit)
        axes.annotate(total, (totals[name], row), (8, 0), textcoords="offset points", va="center")
    _draw_limits(axes, limits or {})
    _draw_legend(figure, colors)
    return figure


def _colors(groups: Groups) -> dict[str, str]:
    """A colour for each part, in the order in which the parts first appear."""
    parts = list(dict.fromkeys(part for group in groups.values() for part in group))
    if not 1 <= len(parts) <= len(PALETTE):
        raise ValueError(
            f"the groups must have 1 to {len(PALETTE)} different parts in all, got {len(parts)}"
        )
    known = {part: PART_COLORS[part] for part in parts if part in PART_COLORS}
    free = iter([color for color in PALETTE if color not in known.values()])
    return {part: known.get(part) or next(free) for part in parts}


def _totals(groups: Groups) -> dict[str, float]:
    for name, parts in groups.items():
        for part, value in parts.items():
            if not 0 <= value < math.inf:
                raise ValueError(f"{part} of {name} must be zero or more, got {value!r}")
    return {name: float(sum(parts.values())) for name, parts in groups.items()}


def _set_margins(figure: Figure, names: list[str], legend_rows: int) -> None:
    """Room for the longest name at the left and for the legend at the top."""
    left = 30 + 11 * max(len(name) for name in names)
    place_axes(figure, left=min(max(left, 60), 300), right=44, top=32 * legend_rows + 38, bottom=52)


def _set_scales(axes: Axes, names: list[str], maximum: Real, unit: str) -> None:
    axes.set_xlim(0, 1.25 * maximum or 1)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(lambda value, _: format_si(value, unit))
    axes.set_yticks(range(len(names)), names, size=TEXT_SIZE)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")


def _draw_bar(axes: Axes, row: int, parts: Mapping[str, Real], colors: dict[str, str]) -> None:
    start = 0.0
    for part, value in parts.items():
        style = {"height": 0.62, "edgecolor": PAPER, "linewidth": 1.5, "zorder": 2}
        axes.barh(row, float(value), left=start, color=colors[part], **style)
        start += float(value)


def _draw_limits(axes: Axes, limits: Mapping[str, Real]) -> None:
    """Dashed lines, each named above the bars."""
    for name, value in limits.items():
        axes.axvline(value, color=INK, linewidth=1.8, linestyle="--", zorder=3)
        place = {"xytext": (0, 4), "textcoords": "offset points", "ha": "center"}
        above = axes.get_xaxis_transform()
        axes.annotate(name, (value, 1), xycoords=above, size=SMALL_SIZE, va="bottom", **place)


def _draw_legend(figure: Figure, colors: dict[str, str]) -> None:
    """The parts in the order of the bars, row by row: matplotlib would go column by column."""
    handles = [Patch(color=color, label=part) for part, color in colors.items()]
    by_column = [handle for first in range(_COLUMNS) for handle in handles[first::_COLUMNS]]
    style = {"loc": "upper left", "borderaxespad": 0.3, "handlelength": 1.0, "columnspacing": 1.4}
    figure.legend(handles=by_column, ncols=_COLUMNS, **style)
