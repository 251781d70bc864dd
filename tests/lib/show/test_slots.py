"""Slots as a picture: a box for each, in the colour of its kind, with labels where they fit."""

import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from lib.show import draw_slots
from lib.show.image import as_svg
from lib.show.style import INK, PALETTE, PAPER, PIXELS_PER_INCH
from tests.lib.show.stand_ins import drawn_texts, outside, overlaps

PHONE = 358 / 720
KINDS = {"kept": None, "new": None, "set aside": "#c9d0d7"}
ROWS = {
    "growing": [("kept", "0"), ("new", "1")],
    "preallocated": [("kept", "0"), ("new", "1"), ("set aside", ""), None],
}
FIGURES = {
    "caches": lambda: draw_slots(ROWS, kinds=KINDS, x_label="slots"),
    "one slot": lambda: draw_slots({"a": [None]}, kinds={"kept": None}),
    "narrow": lambda: draw_slots({"long": [("kept", "text")] * 128}, kinds=KINDS),
    "stages": lambda: draw_slots(
        {f"device {n}": [("forward", str(i)) for i in range(16)] for n in range(8)},
        kinds={"forward": None, "backward": None},
        x_label="time",
    ),
    "many kinds": lambda: draw_slots(
        {"row": [("reader 0", "0")]}, kinds={f"reader {n}": None for n in range(7)}
    ),
}


@pytest.fixture(params=FIGURES)
def figure(request):
    return FIGURES[request.param]()


def boxes(figure):
    """The slots, row by row; the legend comes before them."""
    found = [each for each in figure.axes[0].patches if isinstance(each, Rectangle)]
    return [each for each in found if each.get_y() > 44 - 1]


def test_texts_are_legible_on_a_phone_inside_and_apart(figure):
    for text, _ in drawn_texts(figure):
        assert text.get_fontsize() / 72 * PIXELS_PER_INCH * PHONE >= 8.95, text.get_text()
    assert outside(figure) == []
    assert overlaps(figure) == []


def test_a_figure_is_the_same_each_time(figure, request):
    again = FIGURES[request.node.callspec.params["figure"]]()
    assert as_svg(figure) == as_svg(again)


def test_each_slot_has_the_colour_of_its_kind():
    colors = [to_hex(box.get_facecolor()) for box in boxes(FIGURES["caches"]())]
    first, second = PALETTE[:2]
    assert colors == [first, second, first, second, "#c9d0d7", PAPER]


def test_a_long_legend_has_two_rows():
    heights = {text.get_position()[1] for text in FIGURES["many kinds"]().axes[0].texts}
    assert len(heights) == 3  # two of the legend, one of the row of slots


def test_rows_start_together_and_slots_are_equally_wide():
    growing_first, growing_second, preallocated_first, *_ = boxes(FIGURES["caches"]())
    assert growing_first.get_x() == preallocated_first.get_x()
    assert growing_first.get_width() == growing_second.get_width()
    assert growing_second.get_x() == pytest.approx(
        growing_first.get_x() + growing_first.get_width()
    )


def test_labels_are_left_out_where_they_do_not_fit():
    assert "text" not in [text.get_text() for text, _ in drawn_texts(FIGURES["narrow"]())]


def test_labels_can_be_read_on_their_colours():
    figure = draw_slots(
        {"row": [("light", "a"), ("dark", "b")]}, kinds={"light": "#ffffff", "dark": "#000000"}
    )
    found = {text.get_text(): text.get_color() for text in figure.axes[0].texts}
    assert (found["a"], found["b"]) == (INK, PAPER)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({}, "1 to 128 slots, the longest has 0"),
        ({"a": []}, "1 to 128 slots, the longest has 0"),
        ({"a": [None] * 129}, "1 to 128 slots, the longest has 129"),
        ({"a": [("kept", ""), ("lost", "")]}, "unknown kinds \\['lost'\\]; kinds names kept"),
    ],
)
def test_what_cannot_be_drawn_is_refused(rows, said):
    with pytest.raises(ValueError, match=said):
        draw_slots(rows, kinds=KINDS)
