import itertools
import math

import matplotlib
import numpy as np
import pytest

from lib.show import book_style, log_axis, new_figure
from lib.show.image import as_png, as_svg, size_in_pixels
from lib.show.style import COMPUTE, INK, MEMORY, MUTED, PALETTE
from tests.lib.show.stand_ins import drawn_texts

WHITE, BLACK = np.ones(3), np.zeros(3)

# The matrix of the CSS filter hue-rotate(180deg) (Filter Effects Module, W3C).
HUE_ROTATE = np.array([[-0.574, 1.430, 0.144], [0.426, 0.430, 0.144], [0.426, 1.430, -0.856]])
# Colour blindness at full strength (Machado, Oliveira and Fernandes, 2009), on linear light.
EYES = {
    "all colours": np.eye(3),
    "no green cones": np.array(
        [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]
    ),
    "no red cones": np.array(
        [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]
    ),
}


def rgb(color: str) -> np.ndarray:
    return np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255


def in_dark_theme(color: np.ndarray) -> np.ndarray:
    return np.clip(HUE_ROTATE @ (1 - color), 0, 1)


def linear(color: np.ndarray) -> np.ndarray:
    return np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)


def contrast(one: np.ndarray, other: np.ndarray) -> float:
    """The contrast ratio of WCAG 2."""
    dim, bright = sorted(linear(color) @ [0.2126, 0.7152, 0.0722] for color in (one, other))
    return (bright + 0.05) / (dim + 0.05)


def lab(light: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear light: distances of about 2 can just be seen."""
    to_xyz = [[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]]
    xyz = (to_xyz @ light) / [0.9505, 1, 1.0888]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("color", [INK, MUTED, MEMORY, COMPUTE])
def test_text_is_legible_in_both_themes(color):
    assert contrast(rgb(color), WHITE) >= 4.5
    assert contrast(in_dark_theme(rgb(color)), BLACK) >= 4.5


@pytest.mark.parametrize("color", PALETTE)
def test_colours_stand_out_in_both_themes(color):
    assert contrast(rgb(color), WHITE) >= 3
    assert contrast(in_dark_theme(rgb(color)), BLACK) >= 3


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("theme", [lambda color: color, in_dark_theme], ids=["light", "dark"])
def test_colours_differ_for_every_reader(eyes, theme):
    seen = [lab(np.clip(EYES[eyes] @ linear(theme(rgb(color))), 0, 1)) for color in PALETTE]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 12


def test_the_style_ends_with_its_context():
    before = dict(matplotlib.rcParams)
    with book_style():
        assert matplotlib.rcParams["text.color"] == INK
    new_figure()
    assert dict(matplotlib.rcParams) == before


def test_a_new_figure_has_the_size_and_the_look():
    figure, axes = new_figure(600, 300)
    assert size_in_pixels(figure) == (600, 300)
    assert not axes.spines["top"].get_visible()
    _, pair = new_figure(720, 300, ncols=2)
    assert len(pair) == 2


@pytest.mark.parametrize("size", [{"width": 20}, {"height": 5000}])
def test_a_size_out_of_range_is_named(size):
    with pytest.raises(ValueError, match=f"{next(iter(size))} must be 50 to 2000 CSS pixels"):
        new_figure(**size)


def test_a_notebook_shows_a_figure_as_png():
    figure, _ = new_figure()
    assert figure._repr_png_().startswith(b"\x89PNG")


def tick_labels(axis) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


@pytest.mark.parametrize(
    ("unit", "labels"),
    [
        (None, ["0.1", "1", "10", "100", "1,000"]),
        ("", ["100 m", "1", "10", "100", "1 k"]),
        ("s", ["100 ms", "1 s", "10 s", "100 s", "1 ks"]),
    ],
)
def test_log_axis_has_powers_of_ten(unit, labels):
    _, axes = new_figure()
    log_axis(axes, "x", 0.1, 2000, unit)
    assert tick_labels(axes.xaxis) == labels
    assert axes.get_xlim() == pytest.approx((-1, math.log10(2000)))


def test_log_axis_labels_only_as_many_as_fit():
    figure, axes = new_figure(360, 240)
    log_axis(axes, "x", 1e-12, 1e6, "s")
    drawn = [box for text, box in drawn_texts(figure) if text in axes.get_xticklabels()]
    assert len(drawn) >= 2
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(drawn))


def test_log_axis_marks_lie_between_the_powers():
    _, axes = new_figure()
    log_axis(axes, "y", 1, 100)
    marks = 10 ** np.asarray(axes.lines[0].get_ydata(), dtype=float)
    assert marks == pytest.approx([2, 3, 4, 5, 6, 7, 8, 9, 20, 30, 40, 50, 60, 70, 80, 90])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("z", 1, 10), "the axis must be"),
        (("x", 0, 10), "0 < low < high, got low=0 and high=10"),
        (("x", 10, 1), "got low=10 and high=1"),
    ],
)
def test_log_axis_names_what_it_cannot_do(arguments, message):
    _, axes = new_figure()
    with pytest.raises(ValueError, match=message):
        log_axis(axes, *arguments)


def test_svg_is_slim_and_png_is_white():
    figure, axes = new_figure(300, 200)
    axes.plot([0, 1], [0, 1 / 3])
    svg = as_svg(figure)
    assert svg.startswith("<svg") and svg.endswith("</svg>")
    assert "<!--" not in svg and "<metadata" not in svg and "<g id" not in svg
    assert as_png(figure) == as_png(figure)
