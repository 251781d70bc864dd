"""Masks and weights as pictures: what is blue is what may be seen, and it packs well."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.patches import PathPatch
from PIL import Image

from lib import masks
from lib.positions import alibi_bias
from lib.show import draw_mask, draw_weights
from lib.show.heatmap import _rectangles
from lib.show.image import as_png, as_svg
from lib.show.packing import pack
from lib.show.style import COMPUTE, FAINT, MEMORY, PAPER, PIXELS_PER_INCH
from tests.lib.show.stand_ins import drawn_texts, outside, overlaps, words

WORDS = [
    "The",
    "cat",
    "that",
    "the",
    "dogs",
    "chased",
    "sat",
    "on",
    "its",
    "mat",
    "unbelievably",
    ".",
]
PHONE = 358 / 720


def weights(rows, columns, spread=2.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (spread * torch.randn(rows, columns, generator=generator)).softmax(-1)


FIGURES = {
    "mask": lambda: draw_mask(masks.causal(12), row_labels=WORDS, column_labels=WORDS, note="all"),
    "large mask": lambda: draw_mask(
        masks.longformer(256, window=9, positions=[0]), note="two\nlines"
    ),
    "flat mask": lambda: draw_mask(masks.causal(1, 200)),
    "smallest mask": lambda: draw_mask([[True]]),
    "weights": lambda: draw_weights(
        weights(8, 8), row_labels=WORDS[:8], column_labels=WORDS[:8], note="head 3"
    ),
    "most words": lambda: draw_weights(
        weights(64, 64), row_labels=["abcdefghijkl"] * 64, column_labels=["abcdefghijkl"] * 64
    ),
    "biases": lambda: draw_weights(
        alibi_bias(8, 8)[0].masked_fill(~masks.causal(8), -torch.inf), note="ALiBi,\nhead 1"
    ),
    "tall weights": lambda: draw_weights(weights(40, 2), names=("positions", "features")),
}


@pytest.fixture(params=FIGURES)
def figure(request):
    return FIGURES[request.param]()


def test_texts_are_legible_on_a_phone_inside_and_apart(figure):
    for text, _ in drawn_texts(figure):
        assert text.get_fontsize() / 72 * PIXELS_PER_INCH * PHONE >= 8.95, text.get_text()
    assert outside(figure) == []
    assert overlaps(figure) == []


def test_a_figure_is_the_same_each_time(figure, request):
    again = FIGURES[request.node.callspec.params["figure"]]()
    assert as_svg(figure) == as_svg(again)


@settings(max_examples=40)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 999))
def test_the_rectangles_cover_each_chosen_cell_once_and_no_other(rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    cells = (torch.rand(rows, columns, generator=generator) < 0.6).numpy()
    covered = np.zeros((rows, columns), dtype=int)
    for (top, bottom), (left, right) in _rectangles(cells):
        covered[top:bottom, left:right] += 1
    assert (covered == cells).all()


def colored(figure, rows, columns):
    """The colour in the middle of each cell, read off the shapes that were drawn."""
    (axes,) = figure.axes
    shapes = [patch for patch in axes.patches if isinstance(patch, PathPatch)]
    frame = next(p for p in axes.patches if not isinstance(p, PathPatch) and not p.get_fill())
    (x, y), width, height = frame.get_xy(), frame.get_width(), frame.get_height()
    grid = np.full((rows, columns), PAPER, dtype=object)
    for row, column in np.ndindex(rows, columns):
        middle = (x + (column + 0.5) / columns * width, y + (row + 0.5) / rows * height)
        for shape in shapes:
            pieces = shape.get_path().to_polygons(closed_only=True)
            if any(inside(piece, middle) for piece in pieces):
                grid[row, column] = to_hex(shape.get_facecolor())
    return grid


def inside(corners, point):
    low, high = corners.min(axis=0), corners.max(axis=0)
    return (low < point).all() and (point < high).all()


@settings(max_examples=10)
@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 999))
def test_what_may_be_seen_is_blue_and_the_rest_is_paper(rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(rows, columns, generator=generator) < 0.5
    expected = np.where(mask.numpy(), MEMORY, PAPER)
    assert (colored(draw_mask(mask), rows, columns) == expected).all()


def test_a_png_shows_the_cells_too():
    """Drawn by another route: a pixel from the middle of each quarter."""
    mask = [[True, False], [False, True]]
    image = Image.open(io.BytesIO(as_png(draw_mask(mask), scale=1)))
    pixels = [image.getpixel((128 + x, 64 + y)) for y in (104, 312) for x in (104, 312)]
    blue, white = tuple(bytes.fromhex(MEMORY[1:])), (255, 255, 255)
    assert pixels == [blue, white, white, blue]


def test_shades_grow_with_the_number_and_change_colour_with_its_sign():
    figure = draw_weights([[-2.0, -1.0, 0.0, 1.0, 2.0, 9.0, np.nan, -np.inf]], largest=2)
    row = colored(figure, 1, 8)[0].tolist()
    assert [row[i] for i in (0, 2, 4, 5, 6, 7)] == [COMPUTE, PAPER, MEMORY, MEMORY, FAINT, FAINT]
    assert row[1] not in (COMPUTE, PAPER) and row[3] not in (MEMORY, PAPER)


def test_without_a_largest_the_largest_there_is_is_darkest():
    assert colored(draw_weights([[0.1, 0.2]]), 1, 2)[0, 1] == MEMORY
    assert colored(draw_weights([[0.1, 0.2]], largest=1.0), 1, 2)[0, 1] != MEMORY
    assert (colored(draw_weights([[0.0, 0.0]]), 1, 2) == PAPER).all()
    assert (colored(draw_weights([[-np.inf, np.nan]]), 1, 2) == FAINT).all()


def test_numbers_stand_in_few_cells_and_as_long_as_fits():
    assert {"0.25", "0.75"} <= set(words(draw_weights([[0.25, 0.75]])))
    wide = words(draw_weights(-3.5 * np.ones((8, 8))))
    assert wide.count("−3.5") == 64
    assert "0.30" in words(draw_weights(np.full((8, 8), 0.3), largest=1))
    assert "0.30" not in words(draw_weights(np.full((9, 9), 0.3), largest=1))


def test_what_still_learns_is_only_looked_at():
    learning = torch.full((2, 2), 0.5, requires_grad=True)
    assert words(draw_weights(learning)).count("0.50") == 5  # four cells and the scale


def test_the_share_of_pairs_is_said():
    assert "78 of\n144 pairs\n= 54.2%" in words(draw_mask(masks.causal(12)))


def test_labels_are_the_tokens_shortened_or_the_positions():
    said = words(draw_mask(masks.causal(12), row_labels=WORDS, column_labels=WORDS))
    assert said.count("chased") == 2 and said.count("unbelie…") == 2
    plain = words(draw_mask(masks.causal(64)))
    assert [text for text in plain if text.isdigit()] == [str(n) for n in range(0, 64, 8)] * 2
    assert {"positions", "features"} <= set(words(FIGURES["tall weights"]()))


def test_frames_share_their_lines():
    """A frame adds 4 KB at most: sixteen are far below the 250 KB that `explore` refuses."""
    patterns = [masks.longformer(64, window=w, positions=[0]) for w in range(1, 7)]
    windows = [as_svg(draw_mask(pattern)) for pattern in patterns]
    heads = [as_svg(draw_weights(weights(32, 32, seed=n), largest=1.0)) for n in range(6)]
    for frames in (windows, heads):
        assert len(pack(frames)) - len(pack(frames[:1])) < 5 * 4_000


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw_mask(torch.ones(2, 2)), "must be boolean .* got float32"),
        (
            lambda: draw_mask(torch.ones(2, 2, 2) > 0),
            r"\(queries, keys\).*got the shape \(2, 2, 2\)",
        ),
        (lambda: draw_mask(torch.ones(0, 2) > 0), r"got the shape \(0, 2\)"),
        (lambda: draw_mask(torch.ones(257, 2) > 0), r"1 to 256 of each, got the shape \(257, 2\)"),
        (lambda: draw_weights(torch.ones(65, 2)), r"1 to 64 of each, got the shape \(65, 2\)"),
        (lambda: draw_weights(torch.ones(2, 2), row_labels=["a"]), "row_labels must be 2.*got 1"),
        (
            lambda: draw_mask(torch.ones(2, 3) > 0, column_labels=list("abcd")),
            "column_labels must be 3, one for each column, got 4",
        ),
        (lambda: draw_weights(torch.ones(2, 2), largest=0), "largest must be above zero, got 0"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
