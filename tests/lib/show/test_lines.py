"""Curves on logarithmic axes: what is drawn is where the numbers say."""

import math

import pytest

from lib.show import draw_lines

AXES = {"x_label": "rows", "y_label": "FLOPs per byte", "x_range": (1, 1000), "y_range": (1, 1e4)}
CURVES = {"straight": [(1, 1), (10, 10), (100, 100)], "flat": [(1, 50), (100, 50)]}


def lines_named(figure):
    (axes,) = figure.axes
    return {line.get_label(): line for line in axes.lines}


def test_a_curve_lies_at_the_logarithms_of_its_points():
    line = lines_named(draw_lines(CURVES, **AXES))["straight"]
    assert list(line.get_xdata()) == [0, 1, 2]
    assert list(line.get_ydata()) == [0, 1, 2]


def test_only_curves_that_reach_the_mark_get_a_dot():
    def dots(mark):
        (axes,) = draw_lines(CURVES, **AXES, mark=mark).axes
        lines = [line for line in axes.lines if line.get_marker() == "o"]
        return [(line.get_xdata()[0], round(line.get_ydata()[0], 6)) for line in lines]

    assert dots(10) == [(1, 1)]
    assert dots(100) == [(2, 2), (2, round(math.log10(50), 6))]
    assert dots(None) == []


def test_levels_are_named_and_those_outside_are_left_out():
    (axes,) = draw_lines(CURVES, **AXES, levels={"ridge": 153, "far": 1e6}).axes
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["ridge"]
    dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert [round(line.get_ydata()[0], 6) for line in dashed] == [round(math.log10(153), 6)]


def test_labels_and_legend_say_what_is_what():
    (axes,) = draw_lines(CURVES, **AXES).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("rows", "FLOPs per byte")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["straight", "flat"]


@pytest.mark.parametrize("curves", [{}, {str(n): [(1, 1)] for n in range(8)}])
def test_as_many_curves_as_there_are_colours(curves):
    with pytest.raises(ValueError, match=r"1 to 7 curves, got [08]"):
        draw_lines(curves, **AXES)
