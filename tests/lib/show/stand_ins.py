"""Small devices and costs of our own, and ways to read a figure back."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from lib.show import new_figure


@dataclass(frozen=True)
class Level:
    name: str
    capacity_bytes: float
    bandwidth: float
    latency_seconds: float | None = None

    def transfer_time(self, num_bytes: int) -> float:
        return num_bytes / self.bandwidth


@dataclass(frozen=True)
class Device:
    name: str
    peak_flops: Mapping[str, float] = field(hash=False)
    bandwidth: float
    levels: tuple[Level, ...] = ()

    def peak(self, dtype: str) -> float:
        return self.peak_flops[dtype]


@dataclass(frozen=True)
class Cost:
    flops: float
    bytes: float

    @property
    def intensity(self) -> float:
        return self.flops / self.bytes

    def time(self, device: Device, dtype: str) -> float:
        return max(self.flops / device.peak(dtype), self.bytes / device.bandwidth)


LEVELS = (
    Level("registers", 33 * 2**20, 1e14),
    Level("shared memory", 30 * 2**20, 3e13, 2e-8),
    Level("Infinity Cache", 50 * 2**20, 5e12, 2e-7),
    Level("global memory", 80e9, 2e12, 5e-7),
    Level("host", float("inf"), 64e9),
)
LARGE = Device("Large accelerator 80 GB", {"bfloat16": 400e12}, 2e12, LEVELS)
SMALL = Device("Small processor", {"bfloat16": 1e12}, 20e9, LEVELS[-2:])


def bar(batch: int, device: str = "large") -> Figure:
    """The cheapest picture that differs for every choice."""
    figure, axes = new_figure(360, 240)
    axes.barh([device], [batch])
    axes.set_xlim(0, 100)
    return figure


def bar_text(batch: int, device: str = "large") -> str:
    return f"The {device} device runs {batch} sequences."


def drawn_texts(figure: Figure) -> list[tuple[Text, Bbox]]:
    """Every piece of text that can be seen, with its place in pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    beyond = set(_labels_beyond_the_axis(figure))
    texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    return [(text, text.get_window_extent(renderer)) for text in texts if text not in beyond]


def _labels_beyond_the_axis(figure: Figure) -> Iterator[Text]:
    """Matplotlib makes labels of ticks beyond the ends of an axis and does not draw them."""
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        yield from (t.label1 for t in axis.get_major_ticks() if not low <= t.get_loc() <= high)


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text, _ in drawn_texts(figure)]


def overlaps(figure: Figure, tolerance: float = 2) -> list[tuple[str, str]]:
    """Pairs of texts that share more than `tolerance` pixels in both directions."""
    pairs = itertools.combinations(drawn_texts(figure), 2)
    return [
        (one.get_text(), other.get_text())
        for (one, place), (other, its_place) in pairs
        if (shared := Bbox.intersection(place, its_place)) is not None
        and shared.width > tolerance
        and shared.height > tolerance
    ]


def outside(figure: Figure) -> list[str]:
    """Texts that do not lie wholly in the figure."""
    width, height = figure.bbox.width, figure.bbox.height
    return [
        text.get_text()
        for text, box in drawn_texts(figure)
        if box.x0 < 0 or box.y0 < 0 or box.x1 > width or box.y1 > height
    ]
