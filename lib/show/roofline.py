"""The roofline of a device, with operators on it (Williams, Waterman and Patterson, 2009)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.show.format import format_flops, format_si, format_time
from lib.show.style import (
    COMPUTE,
    FAINT,
    MEMORY,
    MUTED,
    PAPER,
    SMALL_SIZE,
    book_style,
    log_axis,
    new_figure,
    place_axes,
)

if TYPE_CHECKING:
    from lib.memory import Cost, Device

# In shares of the height of the axes: the highest roof, with the names above it, and a row of them.
_ROOF = 0.57
_ROW = 0.057


@dataclass(frozen=True)
class _Point:
    """Operators that share a place on the roof: log10 of intensity and FLOP/s, and their label."""

    x: Real
    y: Real
    label: str
    memory_bound: bool

    @property
    def color(self) -> str:
        return MEMORY if self.memory_bound else COMPUTE


@book_style()
def draw_roofline(
    device: Device,
    dtype: str,
    points: Mapping[str, Cost],
    *,
    others: Sequence[Device] = (),
    intensities: tuple[Real, Real] = (0.1, 10_000),
) -> Figure:
    """The roof of `device` for `dtype`, and each cost in `points` on the roof that it reaches.

    Left of the ridge an operator is memory-bound (a circle, named at the left), right of it
    compute-bound (a square, named at the right). Times follow the names; operators of equal
    intensity and time share a label. `others` adds the roofs of other devices in grey, named if
    they are four or fewer; they also fix the vertical axis, which then stays where it is when
    `device` changes. `intensities` is the range of the horizontal axis in FLOPs per byte: an
    operator beyond it is an arrow at the edge.
    """
    figure, axes = new_figure(720, 540)
    place_axes(figure, left=92, right=44, top=70, bottom=68)
    _scale_axes(axes, [device, *others], dtype, intensities)
    _draw_others(axes, device, [each for each in others if each.name != device.name], dtype)
    _draw_roof(axes, device, dtype)
    _draw_ridge(axes, device, dtype)
    for row, point in enumerate(placed := _place(axes, points, device, dtype)):
        _draw_point(axes, point, row, len(placed))
    return figure


def _scale_axes(
    axes: Axes, devices: Sequence[Device], dtype: str, intensities: tuple[Real, Real]
) -> None:
    """Every roof in the lower part of the axes, with ticks only as far up as there are roofs."""
    peak = max(each.peak(dtype) for each in devices)
    lowest = min(each.bandwidth for each in devices) * intensities[0]
    bottom = math.floor(math.log10(lowest))
    log_axis(axes, "x", *intensities)
    log_axis(axes, "y", 10.0**bottom, peak, "")
    axes.set_ylim(bottom, bottom + (math.log10(peak) - bottom) / _ROOF)
    axes.spines["left"].set_bounds(bottom, math.log10(peak))
    axes.set_xlabel("arithmetic intensity (FLOPs per byte)")
    axes.text(-0.01, _ROOF + 0.03, "FLOP/s", transform=axes.transAxes, ha="right")


def _roof(axes: Axes, device: Device, dtype: str) -> tuple[list[Real], list[Real]]:
    """log10 of the corners of a roof: left edge, ridge, right edge."""
    peak, bandwidth = math.log10(device.peak(dtype)), math.log10(device.bandwidth)
    low, high = axes.get_xlim()
    corners = [low, min(max(peak - bandwidth, low), high), high]
    return corners, [min(x + bandwidth, peak) for x in corners]


def _draw_others(axes: Axes, device: Device, others: Sequence[Device], dtype: str) -> None:
    """Grey roofs. Names stand above those higher than the device's own, else below, one a row."""
    high = axes.get_xlim()[1]
    row = _ROW * (axes.get_ylim()[1] - axes.get_ylim()[0])
    for other in others:
        axes.plot(*_roof(axes, other, dtype), color=FAINT, linewidth=1.5)
    if len(others) > 4:
        return
    peaks = {other.name: math.log10(other.peak(dtype)) for other in others}
    higher = [name for name in peaks if peaks[name] >= math.log10(device.peak(dtype))]
    lower = [name for name in peaks if name not in higher]
    for names, sign, align in ((higher, 1, "bottom"), (lower, -1, "top")):
        free = -math.inf
        for name in sorted(names, key=lambda each: sign * peaks[each]):
            free = max(sign * peaks[name], free)
            _text(axes, high, sign * free, name, color=MUTED, ha="right", va=align, bbox=None)
            free += row


def _draw_roof(axes: Axes, device: Device, dtype: str) -> None:
    """The sloped part in the colour of memory, the flat part in that of compute."""
    (low, ridge, high), (left, top, _) = _roof(axes, device, dtype)
    floor = axes.get_ylim()[0]
    sides = (
        ([low, ridge], [left, top], MEMORY, "memory-bound ", "right"),
        ([ridge, high], [top, top], COMPUTE, " compute-bound", "left"),
    )
    for ends, heights, color, name, align in sides:
        axes.fill_between(ends, heights, floor, color=color, alpha=0.07, linewidth=0)
        axes.plot(ends, heights, color=color, linewidth=3.5)
        style = {"color": color, "weight": "bold", "size": SMALL_SIZE}
        axes.text(ridge, floor, name, ha=align, va="bottom", **style)


def _draw_ridge(axes: Axes, device: Device, dtype: str) -> None:
    """The ridge with its intensity, and in the title the two rates whose quotient it is."""
    (_, ridge, _), (_, top, _) = _roof(axes, device, dtype)
    floor = axes.get_ylim()[0]
    axes.plot([ridge, ridge], [floor, top], color=MUTED, linewidth=1.5, linestyle=":")
    value = format_si(device.peak(dtype) / device.bandwidth)
    _text(axes, ridge, floor + 0.3 * (top - floor), f"ridge {value}", color=MUTED, ha="center")
    peak = format_flops(device.peak(dtype), per_second=True)
    title = f"{device.name}\n{dtype}: {peak}, {format_si(device.bandwidth, 'B/s')}"
    axes.set_title(title, loc="left", fontsize=SMALL_SIZE, pad=12)


def _place(axes: Axes, points: Mapping[str, Cost], device: Device, dtype: str) -> list[_Point]:
    """The operators from the top row down: compute-bound, then memory-bound, nearest the ridge
    first, so that no line from a name to its point crosses another.
    """
    groups: dict[tuple[float, float], list[str]] = {}
    for name, cost in points.items():
        key = float(cost.intensity), float(cost.time(device, dtype))
        groups.setdefault(key, []).append(name)
    placed = [_point(axes, names, *key, device, dtype) for key, names in groups.items()]
    memory_bound = [point for point in placed if point.memory_bound]
    compute_bound = [point for point in placed if not point.memory_bound]
    return sorted(compute_bound, key=lambda each: each.x) + sorted(
        memory_bound, key=lambda each: -each.x
    )


def _point(
    axes: Axes, names: list[str], intensity: float, seconds: float, device: Device, dtype: str
) -> _Point:
    """Where operators stand on the roof; at the edge if the axis does not reach so far."""
    (left, right), (bottom, _) = axes.get_xlim(), axes.get_ylim()
    ridge = device.peak(dtype) / device.bandwidth
    x = min(max(math.log10(max(intensity, 1e-99)), left), right)
    y = max(math.log10(device.bandwidth * min(max(intensity, 1e-99), ridge)), bottom)
    times = f"{len(names)} × " if len(names) > 1 else ""
    return _Point(x, y, f"{', '.join(names)}  {times}{format_time(seconds)}", intensity < ridge)


def _draw_point(axes: Axes, point: _Point, row: int, rows: int) -> None:
    """The point, its name in a row at the edge, and a thin line along the row and down to it."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    step = min(_ROW, (0.98 - _ROOF) / rows)
    y = top - (top - bottom) * step * (row + 0.5)
    edge, align = (left, "left") if point.memory_bound else (right, "right")
    axes.plot([edge, point.x, point.x], [y, y, point.y], color=point.color, linewidth=1.2)
    _text(axes, edge, y, point.label, color=point.color, ha=align, va="center")
    marker = {left: "<", right: ">"}.get(point.x, "o" if point.memory_bound else "s")
    style = {"markersize": 11, "markeredgecolor": PAPER, "clip_on": False, "zorder": 5}
    axes.plot([point.x], [point.y], marker, color=point.color, **style)


def _text(axes: Axes, x: Real, y: Real, text: str, **style) -> None:
    """Small text on a white ground, so that lines that pass behind do not disturb it."""
    ground = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.5}
    axes.text(x, y, text, **{"fontsize": SMALL_SIZE, "bbox": ground, "zorder": 4, **style})
