"""The one look of every figure.

Sizes are in CSS pixels. A figure is 720 wide on a page and about 360 on a phone, so its text
starts at twice the size that is still legible. Nothing global is changed: figures are made and
drawn under `book_style()`.
"""

import math
from contextlib import AbstractContextManager
from numbers import Real

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.markers import TICKDOWN, TICKLEFT

from lib.show.format import format_si
from lib.show.image import PIXELS_PER_INCH, Picture

TEXT_SIZE = 14
SMALL_SIZE = 13

INK = "#1f252c"
MUTED = "#57616c"
FAINT = "#c9d0d7"
PAPER = "#ffffff"
MEMORY = "#2f6fd0"
COMPUTE = "#c04f07"

# At least 3:1 on white, and on black once the dark theme has inverted them; apart from each other
# also to readers who do not tell red from green. MEMORY and COMPUTE are the first two.
PALETTE = (MEMORY, COMPUTE, "#3f9f78", "#6a2a8c", "#2293a6", "#5a4703", "#4e1521")

_STYLE = {
    "figure.dpi": PIXELS_PER_INCH,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "font.family": "DejaVu Sans",
    "mathtext.fontset": "dejavusans",
    "font.size": TEXT_SIZE,
    "axes.titlesize": TEXT_SIZE,
    "axes.labelsize": TEXT_SIZE,
    "xtick.labelsize": SMALL_SIZE,
    "ytick.labelsize": SMALL_SIZE,
    "legend.fontsize": SMALL_SIZE,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.facecolor": PAPER,
    "axes.linewidth": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.prop_cycle": matplotlib.cycler(color=PALETTE),
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": FAINT,
    "lines.linewidth": 2.5,
    "lines.markersize": 9,
    "hatch.linewidth": 1.0,
}


def book_style() -> AbstractContextManager:
    """The look as a context, `with book_style(): ...`, or as a decorator, `@book_style()`."""
    return matplotlib.rc_context(_STYLE)


@book_style()
def new_figure(
    width: int = 720, height: int = 420, **subplots: object
) -> tuple[Figure, Axes | np.ndarray]:
    """An empty figure of `width` x `height` CSS pixels and its axes, in the book's look.

    `subplots` goes to matplotlib: `nrows=2`, `width_ratios=[2, 1]`, ... and then several axes
    come back, as an array.
    """
    for name, pixels in (("width", width), ("height", height)):
        if not 50 <= pixels <= 2000:
            raise ValueError(f"{name} must be 50 to 2000 CSS pixels, got {pixels!r}")
    size = (width / PIXELS_PER_INCH, height / PIXELS_PER_INCH)
    figure = Picture(figsize=size, dpi=PIXELS_PER_INCH)
    axes = figure.subplots(**subplots)
    place_axes(figure)
    return figure, axes


def place_axes(
    figure: Figure, *, left: int = 90, right: int = 20, top: int = 20, bottom: int = 64
) -> None:
    """Set the margins around the axes, in CSS pixels.

    Fixed margins, so that axes stay where they are when the numbers on them change.
    """
    width, height = (inches * PIXELS_PER_INCH for inches in figure.get_size_inches())
    figure.subplots_adjust(
        left=left / width, right=1 - right / width, bottom=bottom / height, top=1 - top / height
    )


def pixel_figure(width: int, height: int) -> tuple[Figure, Axes]:
    """A figure to draw on freely: its axes count CSS pixels from the upper left corner."""
    figure, axes = new_figure(width, height)
    place_axes(figure, left=0, right=0, top=0, bottom=0)
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    return figure, axes


def log_axis(axes: Axes, which: str, low: Real, high: Real, unit: str | None = None) -> None:
    """Make the `which` axis ("x" or "y") run from `low` to `high` in powers of ten.

    Plot log10 of the values on it: the scale stays linear underneath, because matplotlib's own log
    scale takes five times as long to draw, and `explore` draws every combination. Ticks read
    `10 ns`, `1 µs` with the unit `"s"`, `10 G` with `""`, and plain numbers without a unit. Place
    the axes first: how many ticks get a label depends on their size.
    """
    if which not in ("x", "y"):
        raise ValueError(f'the axis must be "x" or "y", got {which!r}')
    if not 0 < low < high < math.inf:
        raise ValueError(f"a log axis needs 0 < low < high, got low={low!r} and high={high!r}")
    first, last = math.log10(low), math.log10(high)
    powers = range(math.ceil(first - 1e-9), math.floor(last + 1e-9) + 1)
    step = math.ceil(len(powers) / _most_labels(axes, which))
    labelled = powers[::step]
    axis = getattr(axes, f"{which}axis")
    axis.set_ticks(labelled, [_tick_label(power, unit) for power in labelled])
    getattr(axes, f"set_{which}lim")(first, last)
    _draw_marks(axes, which, _between(powers, first, last) if step == 1 else list(powers))


def _most_labels(axes: Axes, which: str) -> int:
    """How many labels have room side by side, or one above the other."""
    room = axes.bbox.width / 76 if which == "x" else axes.bbox.height / 34
    return max(2, int(room))


def _draw_marks(axes: Axes, which: str, marks: list[Real]) -> None:
    """Small marks outside the axis, as one line: as minor ticks they take most of the time."""
    style = {"linestyle": "none", "markersize": 3, "color": MUTED, "clip_on": False}
    zeros = [0] * len(marks)
    if which == "x":
        axes.plot(marks, zeros, marker=TICKDOWN, transform=axes.get_xaxis_transform(), **style)
    else:
        axes.plot(zeros, marks, marker=TICKLEFT, transform=axes.get_yaxis_transform(), **style)


def _tick_label(power: int, unit: str | None) -> str:
    return f"{10.0**power:,.12g}" if unit is None else format_si(10.0**power, unit)


def _between(powers: range, first: float, last: float) -> list[float]:
    """Where 2, 3, ... 9 times each power of ten lie."""
    starts = range(powers.start - 1, powers.stop)
    marks = [power + math.log10(digit) for power in starts for digit in range(2, 10)]
    return [mark for mark in marks if first <= mark <= last]
