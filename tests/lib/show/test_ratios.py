"""Ratios on logarithmic axes: what is drawn is where the numbers say."""

import math

import pytest

from lib.show import draw_ratios

FAMILIES = {"linear": [(0.5, 1.0), (100, 2.0)], "softmax": [(1, 100.0)]}


def dots(figure):
    (axes,) = figure.axes
    named = [line for line in axes.lines if line.get_label() in FAMILIES]
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in named}


def test_a_dot_lies_at_the_logarithms_of_intensity_and_ratio():
    xs, ys = dots(draw_ratios(FAMILIES))["linear"]
    assert xs == pytest.approx([math.log10(0.5), 2])
    assert ys == pytest.approx([0, math.log10(2)])


def test_a_ratio_beyond_the_axis_stands_at_its_edge():
    figure = draw_ratios(FAMILIES)
    assert dots(figure)["softmax"][1] == [figure.axes[0].get_ylim()[1]]


def test_the_band_reaches_as_far_up_as_down():
    (axes,) = draw_ratios(FAMILIES, band=1.3).axes
    box = axes.patches[0].get_extents().transformed(axes.transData.inverted())
    assert (box.y0, box.y1) == pytest.approx((-math.log10(1.3), math.log10(1.3)))


def test_families_have_shapes_of_their_own_and_a_legend():
    (axes,) = draw_ratios(FAMILIES).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(FAMILIES)
    named = [line for line in axes.lines if line.get_label() in FAMILIES]
    assert len({line.get_marker() for line in named}) == 2


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="takes 1 to 7 families, got 0"):
        draw_ratios({})
    with pytest.raises(ValueError, match=r"ratio must be above zero, got 0\.0"):
        draw_ratios({"none": [(1, 0.0)]})
