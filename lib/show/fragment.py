"""A figure with sliders as one piece of HTML: no kernel, no server, no other file.

The page holds the default frame as an image, the sentence of every frame as JSON and all pictures
packed; `fragment.js` unpacks them when the figure comes near the screen.
"""

import base64
import json
from html import escape
from pathlib import Path
from string import Template
from urllib.parse import quote

from matplotlib import pyplot

from lib.show.author import Describe, Plot, draw, sentence
from lib.show.grid import Grid, value_label
from lib.show.image import as_png, as_svg, size_in_pixels
from lib.show.packing import pack

MAX_PACKED = 250_000

_SAFE_IN_URL = " !$()*+,-./:;=?@_~[]|"
_TICK_LETTERS = 34


def static_output(grid: Grid, plot: Plot, describe: Describe, alt: str) -> dict[str, str]:
    """The figure by MIME type: HTML, a PNG of the default frame, and plain text.

    Raises `ValueError` if `plot` or `describe` fails or the frames pack into too many bytes.
    """
    words = [sentence(describe, choice) for choice in grid]
    frames = []
    for choice in grid:
        figure = draw(plot, choice)
        frames.append(as_svg(figure))
        if choice == grid.default:
            start, size, png = len(frames) - 1, size_in_pixels(figure), as_png(figure)
        pyplot.close(figure)
    picture = picture_html(frames[start], size, f"{alt} {words[start]}")
    return {
        "text/html": _page(grid, alt, words, picture, _pack(grid, frames), start),
        "image/png": base64.b64encode(png).decode(),
        "text/plain": f"{alt} {words[start]} ({grid.sizes()})",
    }


def picture_html(svg: str, size: tuple[int, int], alt: str) -> str:
    """The picture as an image in the text of the page, `size` in CSS pixels."""
    width, height = size
    return (
        f'<img class="explore-picture dark-light" width="{width}" height="{height}" '
        f'alt="{escape(alt)}" src="data:image/svg+xml,{quote(svg, safe=_SAFE_IN_URL)}">'
    )


def status_html(text: str, longest: str) -> str:
    """The sentence below a figure, announced when it changes, in the room the longest one needs."""
    return (
        f'<p class="explore-status" role="status" data-longest="{escape(longest)}">'
        f"<span>{escape(text)}</span></p>"
    )


def read(name: str) -> str:
    """A file that lies beside this one."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _page(grid: Grid, alt: str, words: list[str], picture: str, packed: str, start: int) -> str:
    sliders = (_slider(name, grid, position) for name, position in grid.positions().items())
    labels = [[value_label(value) for value in values] for values in grid.values.values()]
    return Template(read("fragment.html")).substitute(
        frames=len(grid),
        css=read("fragment.css"),
        picture=picture,
        sliders="".join(sliders).strip(),
        status=status_html(words[start], max(words, key=len)),
        words=_json({"alt": alt, "values": labels, "texts": words}),
        packed=packed,
        js=read("fragment.js"),
    )


def _slider(name: str, grid: Grid, position: int) -> str:
    labels = [value_label(value) for value in grid.values[name]]
    return Template(read("slider.html")).substitute(
        name=escape(name.replace("_", " ")),
        last=len(labels) - 1,
        position=position,
        value=escape(labels[position]),
        ticks=" ".join(f"<span>{escape(label)}</span>" for label in _tick_labels(labels)),
    )


def _tick_labels(labels: list[str]) -> list[str]:
    """A label for each tick if they fit on a narrow slider, else for the ends, else for none."""
    ends = [labels[0], *[""] * (len(labels) - 2), labels[-1]][: len(labels)]
    for shown in (labels, ends):
        if sum(len(label) + 2 for label in shown if label) <= _TICK_LETTERS + 2:
            return shown
    return [""] * len(labels)


def _pack(grid: Grid, frames: list[str]) -> str:
    packed = pack(frames)
    if len(packed) > MAX_PACKED:
        raise ValueError(
            f"the frames pack into {len(packed) / 1000:.0f} KB, over the limit of "
            f"{MAX_PACKED / 1000:.0f} KB, with {grid.sizes()}: give a parameter fewer values, or "
            "draw fewer lines, points and letters; images such as heat maps hardly pack at all"
        )
    return packed


def _json(content: object) -> str:
    """JSON that cannot end the script element that holds it."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")
