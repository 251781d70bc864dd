"""A figure as bytes: SVG to pack, PNG for what shows no SVG."""

import io
import re
from numbers import Real

import matplotlib
from matplotlib.figure import Figure
from PIL import Image

PIXELS_PER_INCH = 100

# Letters as outlines and ids from the content: the same bytes in every run.
_SVG = {"svg.fonttype": "path", "svg.hashsalt": "where-the-bytes-go"}
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))

_COMMENT = re.compile(r"<!--.*?-->")
_GROUP_NAME = re.compile(r'<g id="[^"]*"')
_EXTRA_DIGITS = re.compile(r"(?<![\d.])([1-9]\d*\.\d\d)\d+")


class Picture(Figure):
    """A matplotlib figure that a notebook shows without pyplot, sharp on any screen."""

    def _repr_png_(self) -> bytes:
        return as_png(self)


def as_svg(figure: Figure) -> str:
    """The figure as SVG text on a white ground: no date, no version, the same every time."""
    file = io.StringIO()
    with matplotlib.rc_context(_SVG):
        figure.savefig(file, format="svg", metadata=_NO_METADATA, facecolor="white")
    svg = file.getvalue()
    return "\n".join(_slim(line) for line in svg[svg.index("<svg") :].splitlines()).strip()


def as_png(figure: Figure, scale: Real = 1.5) -> bytes:
    """The figure as PNG bytes on a white ground, with `scale` device pixels to a CSS pixel."""
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=scale * PIXELS_PER_INCH, facecolor="white")
    Image.open(drawn).convert("RGB").save(small, format="png", optimize=True)
    return small.getvalue()


def size_in_pixels(figure: Figure) -> tuple[int, int]:
    """Width and height in CSS pixels."""
    width, height = figure.get_size_inches()
    return round(width * PIXELS_PER_INCH), round(height * PIXELS_PER_INCH)


def _slim(line: str) -> str:
    """A line of SVG without what nobody sees: indents, comments, names, digits beyond 0.01 pt.

    The numbers that matplotlib gives to groups shift from frame to frame: without them more lines
    are the same. A matrix scales what it holds, so its digits stay.
    """
    line = _GROUP_NAME.sub("<g", _COMMENT.sub("", line.strip()))
    return line if "matrix(" in line else _EXTRA_DIGITS.sub(r"\1", line)
