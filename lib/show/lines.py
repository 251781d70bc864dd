"""Curves on logarithmic axes, with levels to cross and one place marked on them."""

import math
from collections.abc import Mapping, Sequence
from numbers import Real

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.show.style import (
    INK,
    MUTED,
    PALETTE,
    SMALL_SIZE,
    book_style,
    log_axis,
    new_figure,
    place_axes,
)

Curve = Sequence[tuple[Real, Real]]


@book_style()
def draw_lines(
    curves: Mapping[str, Curve],
    *,
    x_label: str,
    y_label: str,
    x_range: tuple[Real, Real],
    y_range: tuple[Real, Real],
    mark: Real | None = None,
    levels: Mapping[str, Real] | None = None,
) -> Figure:
    """Draw each named curve, a sequence of (x, y) above zero, on two logarithmic axes.

    `levels` are horizontal dashed lines with a name, such as a ridge point. `mark` is an x at
    which every curve that reaches it gets a dot. The names stand in a legend above the axes.

    Raises `ValueError` for no curves or more than there are colours.
    """
    if not 1 <= len(curves) <= len(PALETTE):
        raise ValueError(f"draw_lines takes 1 to {len(PALETTE)} curves, got {len(curves)}")
    figure, axes = new_figure(720, 440)
    columns = min(3, len(curves))
    rows = math.ceil(len(curves) / columns)
    place_axes(figure, left=106, top=12 + 30 * rows)
    log_axis(axes, "x", *x_range)
    log_axis(axes, "y", *y_range)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    for colour, (name, curve) in zip(PALETTE, curves.items(), strict=False):
        logs = [(math.log10(x), math.log10(y)) for x, y in curve]
        axes.plot(*zip(*logs, strict=True), color=colour, label=name)
        _draw_mark(axes, curve, mark, colour)
    for name, level in (levels or {}).items():
        _draw_level(axes, name, level)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, borderaxespad=0.3)
    return figure


def _draw_mark(axes: Axes, curve: Curve, mark: Real | None, colour: str) -> None:
    for x, y in curve:
        if x == mark:
            axes.plot(math.log10(x), math.log10(y), "o", color=colour, markersize=11)


def _draw_level(axes: Axes, name: str, level: Real) -> None:
    height = math.log10(level)
    low, high = axes.get_ylim()
    if low <= height <= high:
        axes.axhline(height, color=MUTED, linestyle="--", linewidth=1.5)
        axes.annotate(
            name,
            (1, height),
            xycoords=axes.get_yaxis_transform(),
            xytext=(0, 4),
            textcoords="offset points",
            ha="right",
            fontsize=SMALL_SIZE,
            color=INK,
        )
