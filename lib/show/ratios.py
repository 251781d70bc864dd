"""How well a model predicts: each kernel's ratio of predicted to measured, over its intensity."""

import math
from collections.abc import Mapping, Sequence
from numbers import Real

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.show.style import (
    FAINT,
    INK,
    MUTED,
    PALETTE,
    PAPER,
    SMALL_SIZE,
    book_style,
    log_axis,
    new_figure,
    place_axes,
)

Points = Sequence[tuple[Real, Real]]

_MARKERS = "osD^vP*"
_FACTORS = {0.25: "1/4", 0.5: "1/2", 1: "1", 2: "2", 4: "4"}
_COLUMNS = 3


@book_style()
def draw_ratios(
    families: Mapping[str, Points],
    *,
    band: Real = 1.3,
    intensities: tuple[Real, Real] = (0.05, 2000),
) -> Figure:
    """A dot for each kernel at (intensity, predicted / measured), both on logarithmic scales.

    `families` maps a name to its kernels; each has a colour and a shape of its own. The band goes
    from 1 / `band` to `band`; ratios beyond 1/5 and 5 stand at the edge.

    Raises `ValueError` for no family or more than there are colours, or a ratio not above zero.
    """
    if not 1 <= len(families) <= len(PALETTE):
        raise ValueError(f"draw_ratios takes 1 to {len(PALETTE)} families, got {len(families)}")
    rows = math.ceil(len(families) / _COLUMNS)
    figure, axes = new_figure(720, 420 + 28 * rows)
    place_axes(figure, left=88, top=24 + 28 * rows, right=24, bottom=68)
    log_axis(axes, "x", *intensities)
    axes.set_xlabel("arithmetic intensity (FLOPs per byte)")
    _scale_ratios(axes, band)
    for number, (name, points) in enumerate(families.items()):
        style = {"color": PALETTE[number], "marker": _MARKERS[number], "label": name}
        _draw_family(axes, points, style)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=_COLUMNS, borderaxespad=0.3)
    return figure


def _scale_ratios(axes: Axes, band: Real) -> None:
    """The band around 1, and a line at each factor of two."""
    edge = math.log10(5)
    axes.set_ylim(-edge, edge)
    axes.set_yticks([math.log10(factor) for factor in _FACTORS], list(_FACTORS.values()))
    axes.set_ylabel("predicted / measured")
    axes.axhspan(-math.log10(band), math.log10(band), color=FAINT, alpha=0.45, linewidth=0)
    axes.grid(axis="y")
    axes.axhline(0, color=INK, linewidth=1.2)
    style = {"size": SMALL_SIZE, "color": MUTED, "ha": "right"}
    for factor, word, align in (
        (2.3, "predicted too long", "bottom"),
        (1 / 2.3, "too short", "top"),
    ):
        place = axes.get_yaxis_transform()
        axes.text(0.995, math.log10(factor), word, va=align, transform=place, **style)


def _draw_family(axes: Axes, points: Points, style: Mapping[str, object]) -> None:
    low, high = axes.get_ylim()
    for _, ratio in points:
        if not 0 < ratio < math.inf:
            raise ValueError(f"a ratio must be above zero, got {ratio!r}")
    xs = [math.log10(intensity) for intensity, _ in points]
    ys = [min(max(math.log10(ratio), low), high) for _, ratio in points]
    look = {"linestyle": "none", "markersize": 9, "markeredgecolor": PAPER, "clip_on": False}
    axes.plot(xs, ys, **look, **style)
