"""The memory hierarchy as a ladder: each level a rung, with the time that bytes take to pass it."""

from __future__ import annotations

import math
from numbers import Real
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lib.show.format import format_bytes, format_si, format_time
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
    from lib.memory import Device, MemoryLevel

# The rungs stand left of the axes, so their left and right ends are negative shares of its width.
_RUNG = (-0.83, -0.06)
_RUNG_HEIGHT = 0.7


@book_style()
def draw_ladder(
    device: Device, num_bytes: int, *, times: tuple[Real, Real] = (1e-10, 10.0)
) -> Figure:
    """The levels of `device`, fastest at the top, and how long `num_bytes` take to pass each.

    A rung says what its level holds and moves per second; it is dashed where the bytes do not
    fit. The dot is bytes over bandwidth on a log scale of `times`, in seconds; an arrow points to
    what lies beyond. A diamond is the level's latency, where it is known.

    Raises `ValueError` for a device without levels.
    """
    if not device.levels:
        raise ValueError(f"{device.name} has no memory levels to draw")
    figure, axes = new_figure(720, 76 * len(device.levels) + 146)
    place_axes(figure, left=330, right=30, top=76, bottom=70)
    log_axis(axes, "x", *times, "s")
    axes.set_ylim(len(device.levels) - 0.5, -0.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    _caption(axes, device, num_bytes)
    for row, level in enumerate(device.levels):
        _draw_rung(axes, row, level, fits=num_bytes <= level.capacity_bytes)
        _draw_time(axes, row, level, num_bytes)
    return figure


def _caption(axes: Axes, device: Device, num_bytes: int) -> None:
    left, right = _RUNG
    above = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "bottom"}
    axes.annotate(device.name, (left, 1), (0, 30), **above)
    axes.annotate(f"time for {_rounder(num_bytes)}", (1, 1), (0, 4), ha="right", **above)
    for side in (0.12, 0.88):
        rail = left + side * (right - left)
        axes.plot([rail, rail], [0, len(device.levels) - 1], **_outside(axes), color=FAINT, lw=6)
    if any(level.latency_seconds is not None for level in device.levels):
        axes.set_xlabel("● bytes / bandwidth    ◇ latency", labelpad=8, size=SMALL_SIZE)


def _draw_rung(axes: Axes, row: int, level: MemoryLevel, fits: bool) -> None:
    left, right = _RUNG
    corner = (left, row - _RUNG_HEIGHT / 2)
    box = Rectangle(corner, right - left, _RUNG_HEIGHT, facecolor=PAPER, zorder=2)
    box.set(edgecolor=MEMORY if fits else MUTED, linewidth=2, linestyle="-" if fits else "--")
    box.set(**_outside(axes))
    axes.add_patch(box)
    text = {"zorder": 3, **_outside(axes)}
    axes.text(left + 0.03, row - 0.04, level.name, va="bottom", weight="bold", **text)
    note = {"color": MUTED if fits else COMPUTE, "size": SMALL_SIZE}
    axes.text(left + 0.03, row + 0.06, _numbers(level, fits), va="top", **note, **text)


def _draw_time(axes: Axes, row: int, level: MemoryLevel, num_bytes: int) -> None:
    """A line as long as the time, with the time beside its end; the latency as a diamond."""
    left, right = axes.get_xlim()
    seconds = float(level.transfer_time(num_bytes))
    x = min(max(math.log10(seconds), left), right)
    marker = {left: "<", right: ">"}.get(x, "o")
    axes.plot([left, x], [row, row], color=MEMORY, linewidth=2)
    axes.plot([x], [row], marker, color=MEMORY, markersize=11, clip_on=False)
    share = (x - left) / (right - left)
    align = "left" if share < 0.12 else "right" if share > 0.88 else "center"
    above = {"xytext": (0, 9), "textcoords": "offset points", "va": "bottom", "ha": align}
    axes.annotate(format_time(seconds), (x, row), **above)
    if level.latency_seconds is not None:
        latency = min(max(math.log10(level.latency_seconds), left), right)
        style = {"markerfacecolor": PAPER, "color": MUTED, "markersize": 9, "markeredgewidth": 1.5}
        axes.plot([latency], [row], "D", zorder=4, clip_on=False, **style)


def _numbers(level: MemoryLevel, fits: bool) -> str:
    """Capacity and bandwidth. On-chip memories are built in MiB, the others sold in GB."""
    rate = format_si(level.bandwidth, "B/s")
    if math.isinf(level.capacity_bytes):
        return rate
    capacity = format_bytes(level.capacity_bytes, binary=level.capacity_bytes < 1e9)
    return f"{'' if fits else 'only '}{capacity}, {rate}"


def _rounder(num_bytes: int) -> str:
    """80 GB, but 64 MiB: in powers of 1024 where only these make a short number."""
    exact = float(f"{num_bytes:.3g}") == num_bytes
    return format_bytes(num_bytes, binary=not exact and num_bytes % 1024 == 0)


def _outside(axes: Axes) -> dict:
    """Drawn beside the axes: x in shares of its width, y in rows."""
    return {"transform": axes.get_yaxis_transform(), "clip_on": False}
