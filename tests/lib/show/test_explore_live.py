"""`explore` with a kernel: real ipywidgets, moved from Python."""

import re

import ipywidgets as widgets
import pytest
from matplotlib import pyplot

from lib.show import explore, live
from tests.lib.show.stand_ins import bar, bar_text

ALT = "A bar as long as the batch."


@pytest.fixture
def shown(monkeypatch):
    """The widgets that are displayed, in order, and what they held when they were."""
    boxes = []
    monkeypatch.delenv("BOOK_STATIC", raising=False)
    monkeypatch.setattr(live, "display", lambda box: boxes.append((box, parts(box)[1].value)))
    return boxes


def parts(box) -> tuple[list[widgets.SelectionSlider], widgets.HTML, widgets.Output]:
    *sliders, picture, errors = box.children
    return sliders, picture, errors


def show(shown, plot=bar, describe=bar_text, **arguments):
    explore(plot, alt=ALT, describe=describe, **arguments)
    ((box, _),) = shown
    return parts(box)


def source(picture: widgets.HTML) -> str:
    return re.search(r'src="([^"]*)"', picture.value)[1]


def test_a_slider_for_each_parameter(shown):
    sliders, _, _ = show(shown, device=["large", "small"], seq_len=[128, 16384], plot=grow,
                         describe=lambda device, seq_len: f"{device} {seq_len}",
                         default={"seq_len": 16384})  # fmt: skip
    assert all(type(slider) is widgets.SelectionSlider for slider in sliders)
    assert [slider.description for slider in sliders] == ["device", "seq len"]
    assert [slider.value for slider in sliders] == ["large", 16384]
    assert [label for label, _ in sliders[1].options] == ["128", "16,384"]


def grow(device, seq_len):
    return bar(seq_len, device)


def test_the_sliders_come_before_the_picture(shown):
    _, picture, _ = show(shown, batch=[1, 8])
    ((_, picture_when_displayed),) = shown
    assert picture_when_displayed == ""
    assert source(picture).startswith("data:image/svg+xml,")


def test_only_the_frame_that_is_shown_is_drawn(shown):
    drawn = []

    def plot(batch):
        drawn.append(batch)
        return bar(batch)

    sliders, _, _ = show(shown, plot=plot, batch=range(40))
    assert drawn == [0]
    sliders[0].value = 7
    assert drawn == [0, 7]


def test_moving_a_slider_changes_the_picture_and_the_words(shown):
    sliders, picture, _ = show(shown, batch=[1, 8, 64])
    seen = [source(picture)]
    for batch in (8, 64):
        sliders[0].value = batch
        seen.append(source(picture))
        assert f'alt="{ALT} {bar_text(batch)}"' in picture.value
        assert f"<span>{bar_text(batch)}</span>" in picture.value
    assert len(set(seen)) == 3
    sliders[0].value = 1
    assert source(picture) == seen[0]


def test_an_edit_of_the_plot_takes_effect(shown):
    def plot(batch):
        return bar(batch, names[0])

    names = ["old"]
    sliders, picture, _ = show(shown, plot=plot, batch=[1, 8])
    before = source(picture)
    names[0] = "new"
    sliders[0].value = 8
    sliders[0].value = 1
    assert source(picture) != before


def test_an_error_is_shown_and_goes_when_the_choice_is_good_again(shown):
    def plot(batch):
        if batch == 8:
            raise ZeroDivisionError("no heads")
        return bar(batch)

    sliders, picture, errors = show(shown, plot=plot, batch=[1, 8])
    sliders[0].value = 8
    assert picture.value == ""
    text = errors.outputs[0]["text"]
    assert "plot raised ZeroDivisionError for batch=8: no heads" in text
    assert 'raise ZeroDivisionError("no heads")' in text
    sliders[0].value = 1
    assert errors.outputs == ()
    assert "<img" in picture.value


def test_an_error_of_the_first_frame_leaves_the_sliders(shown):
    sliders, picture, errors = show(shown, plot=lambda batch: None, batch=[1, 8])
    assert "plot must return a matplotlib Figure" in errors.outputs[0]["text"]
    assert sliders[0].value == 1 and picture.value == ""


def test_no_figure_stays_open(shown):
    def plot(batch):
        figure, axes = pyplot.subplots()
        axes.bar([0], [batch])
        return figure

    sliders, _, _ = show(shown, plot=plot, batch=[1, 8])
    sliders[0].value = 8
    assert pyplot.get_fignums() == []


def test_a_default_is_given_by_name(import_unchecked):
    make_grid = import_unchecked("lib.show.grid").make_grid
    with pytest.raises(ValueError, match="default must map names to values, got 8"):
        make_grid({"batch": [1, 8]}, 8)


def test_a_default_outside_the_grid_is_named(shown):
    with pytest.raises(ValueError, match="the default batch=9 is not one of its values: 1, 8"):
        explore(bar, alt=ALT, describe=bar_text, default={"batch": 9}, batch=[1, 8])
    assert shown == []
