"""`explore` under BOOK_STATIC=1: what goes into the page."""

import base64
import io
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pytest
from matplotlib import pyplot
from PIL import Image

from lib.show import explore, new_figure
from lib.show.fragment import MAX_PACKED
from lib.show.grid import MAX_FRAMES
from lib.show.image import as_svg
from lib.show.packing import unpack
from tests.lib.show.stand_ins import bar, bar_text

ALT = "A bar as long as the batch."
DEVICES = ["large", "small"]
BATCHES = [1, 8, 64]


class Elements(HTMLParser):
    """The elements of a page: tag, attributes and the text directly in them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict, list[str]]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs), []))

    def handle_data(self, data):
        if self.found:
            self.found[-1][2].append(data)

    def all(self, tag: str, **wanted: str) -> list[dict]:
        return [
            {**attributes, "text": "".join(text)}
            for name, attributes, text in self.found
            if name == tag and wanted.items() <= attributes.items()
        ]


@pytest.fixture
def displayed(monkeypatch):
    """What `explore` displays, by MIME type."""
    outputs = []

    def display(data, raw):
        assert raw
        outputs.append(data)

    monkeypatch.setenv("BOOK_STATIC", "1")
    monkeypatch.setattr(sys.modules["lib.show.explore"], "display", display)
    return outputs


def show(displayed, plot=bar, **arguments) -> dict[str, str]:
    defaults = {"alt": ALT, "describe": bar_text, "device": DEVICES, "batch": BATCHES}
    explore(plot, **{**defaults, **arguments})
    (output,) = displayed
    return output


def packed(page: str) -> str:
    return re.search(r'class="explore-frames">([^<]*)</script>', page)[1]


def spoken(page: str) -> dict:
    return json.loads(re.search(r'class="explore-words">([^<]*)</script>', page)[1])


def test_one_display_of_three_types(displayed):
    assert set(show(displayed)) == {"text/html", "image/png", "text/plain"}


def test_every_combination_is_in_the_page(displayed):
    page = show(displayed)["text/html"]
    choices = [{"device": d, "batch": b} for d in DEVICES for b in BATCHES]
    assert unpack(packed(page)) == [as_svg(bar(**choice)) for choice in choices]
    assert spoken(page) == {
        "alt": ALT,
        "values": [["large", "small"], ["1", "8", "64"]],
        "texts": [bar_text(**choice) for choice in choices],
    }


def test_the_first_frame_needs_no_script(displayed):
    page = show(displayed, default={"batch": 8})["text/html"]
    (image,) = Elements(page).all("img")
    svg = unquote(image["src"].removeprefix("data:image/svg+xml,"))
    assert svg == as_svg(bar(8))
    assert image["alt"] == f"{ALT} {bar_text(8)}"
    assert (image["width"], image["height"]) == ("360", "240")
    assert f"<span>{bar_text(8)}</span>" in page


def test_the_root_says_how_many_frames(displayed):
    page = show(displayed)["text/html"]
    assert page.startswith('<figure class="explore" data-frames="6">')
    assert page.rstrip().endswith("</figure>")


def test_sliders_are_native_named_and_off_until_the_script_runs(displayed):
    elements = Elements(show(displayed, default={"batch": 64})["text/html"])
    device, batch = elements.all("input", type="range")
    assert (device["max"], device["value"], device["aria-valuetext"]) == ("1", "0", "large")
    assert (batch["max"], batch["value"], batch["aria-valuetext"]) == ("2", "2", "64")
    assert "disabled" in device and "disabled" in batch
    assert "hidden" in elements.all("div", **{"class": "explore-sliders"})[0]
    assert [output["text"].strip() for output in elements.all("output")] == ["large", "64"]
    assert elements.all("label") and len(elements.all("p", role="status")) == 1


def test_labels_are_words_and_numbers_have_their_thousands_apart(displayed):
    def describe(seq_len):
        return f"{seq_len} tokens"

    explore(lambda seq_len: bar(1), alt=ALT, describe=describe, seq_len=[128, 16384])
    page = displayed[0]["text/html"]
    assert "<label><span>seq len</span>" in page
    assert spoken(page)["values"] == [["128", "16,384"]]


def test_ticks_are_left_out_where_they_would_not_fit(displayed):
    def ticks(values):
        explore(lambda name: bar(1), alt=ALT, describe=lambda name: name, name=values)
        page = displayed.pop()["text/html"]
        return re.search(r'class="explore-ticks"[^>]*>(.*?)</div>', page)[1]

    names = [f"accelerator {number}" for number in range(4)]
    assert ticks(["a", "b", "c"]) == "<span>a</span> <span>b</span> <span>c</span>"
    assert ticks(names) == (
        "<span>accelerator 0</span> <span></span> <span></span> <span>accelerator 3</span>"
    )
    assert ticks([f"a long name {name}" for name in names]) == " ".join(["<span></span>"] * 4)
    assert ticks(["only"]) == "<span>only</span>"


def test_png_is_the_default_frame(displayed):
    output = show(displayed, default={"batch": 64})
    image = Image.open(io.BytesIO(base64.b64decode(output["image/png"])))
    assert image.size == (540, 360)
    other = show_png(displayed, {"batch": 1})
    assert other != output["image/png"]


def show_png(displayed, default) -> str:
    displayed.clear()
    return show(displayed, default=default)["image/png"]


def test_plain_text_says_what_is_shown_and_what_can_be_chosen(displayed):
    text = show(displayed, default={"device": "small"})["text/plain"]
    assert text == f"{ALT} {bar_text(1, 'small')} (device 2 × batch 3 = 6 frames)"


def test_text_of_the_author_cannot_break_the_page(displayed):
    nasty = "</script><b>\"&'$x"
    explore(lambda name: bar(1), alt=nasty, describe=lambda name: f"{name} {nasty}", name=[nasty])
    page = displayed[0]["text/html"]
    elements = Elements(page)
    assert elements.all("b") == []
    assert elements.all("img")[0]["alt"] == f"{nasty} {nasty} {nasty}"
    assert spoken(page)["texts"] == [f"{nasty} {nasty}"]
    assert page.count("</script>") == 3


def test_nothing_comes_from_elsewhere_and_no_handler_is_inline(displayed):
    page = show(displayed)["text/html"]
    without_pictures = re.sub(r'src="data:image/svg[^"]*"', "", page)
    assert not re.search(r"https?:|//[a-z]", without_pictures)
    assert not re.search(r"\son[a-z]+=", without_pictures)
    assert " id=" not in without_pictures


def test_an_alt_text_may_span_lines(displayed):
    page = show(
        displayed,
        alt="""A bar
        as long as the batch. """,
    )["text/html"]
    assert spoken(page)["alt"] == ALT


def test_no_figure_stays_open(displayed):
    def plot(batch):
        figure, axes = pyplot.subplots()
        axes.bar([0], [batch])
        return figure

    explore(plot, alt=ALT, describe=bar_text, batch=BATCHES)
    assert pyplot.get_fignums() == []


PAGE = """
import os, sys, hashlib
os.environ["BOOK_STATIC"] = "1"
module = __import__("lib.show.explore", fromlist=["explore"])
import lib.show
sys.modules["lib.show.explore"].display = lambda data, raw: print(
    [hashlib.sha256(data[mime].encode()).hexdigest() for mime in sorted(data)])
from tests.lib.show.stand_ins import LARGE, Cost, bar_text
lib.show.explore(
    lambda batch: lib.show.draw_roofline(LARGE, "bfloat16", {"map": Cost(batch * 10**9, 10**8)}),
    alt="A roofline.", describe=bar_text, batch=[1, 8])
"""


def test_two_processes_write_the_same_bytes():
    def run(seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": seed, "MPLBACKEND": "agg"}
        command = [sys.executable, "-c", PAGE]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    first = run("1")
    assert first.count("'") == 6
    assert first == run("2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alt": "  "}, "alt must say in words what the figure shows, got '  '"),
        ({"batch": []}, "batch is empty"),
        ({"batch": [1, 8, 1]}, "batch must not repeat a value, but has 1 twice"),
        ({"batch": [1, 1.0]}, "batch must not repeat a value, but has 1 twice"),
        ({"device": "large"}, "device must be a list of values to choose from, got 'large'"),
        ({"default": {"batch": 9}}, "the default batch=9 is not one of its values: 1, 8, 64"),
        ({"default": {"bach": 8}}, "default names 'bach', but the parameters are device, batch"),
        ({"describe": lambda **_: None}, "for device='large', batch=1 it returned None"),
        ({"describe": lambda **_: " "}, "describe must return a sentence"),
        ({"plot": lambda **_: "a bar"}, "plot must return a matplotlib Figure"),
    ],
)
def test_what_is_wrong_is_named(displayed, arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        show(displayed, **arguments)
    assert displayed == []


def test_without_parameters_there_is_nothing_to_explore(displayed):
    with pytest.raises(ValueError, match="explore needs at least one parameter"):
        explore(bar, alt=ALT, describe=bar_text)


@pytest.mark.parametrize(
    "wrong", [{"alt": None}, {"plot": "bar"}, {"describe": "a sentence"}, {"batch": 8}]
)
def test_arguments_of_the_wrong_kind_are_named(import_unchecked, wrong):
    unchecked = import_unchecked("lib.show").explore
    name, value = next(iter(wrong.items()))
    arguments = {"plot": bar, "alt": ALT, "describe": bar_text, "batch": BATCHES, **wrong}
    with pytest.raises(ValueError, match=rf"^{name} must .*got {value!r}"):
        unchecked(arguments.pop("plot"), **arguments)


@pytest.mark.parametrize("static", ["0", "1"])
def test_too_many_frames_are_refused_in_both_modes(monkeypatch, static):
    monkeypatch.setenv("BOOK_STATIC", static)
    message = f"at most {MAX_FRAMES} frames, but device 2 × batch 49 = 98 frames: give a parameter"
    with pytest.raises(ValueError, match=re.escape(message)):
        explore(bar, alt=ALT, describe=bar_text, device=DEVICES, batch=range(49))


def test_as_many_frames_as_allowed_are_drawn(displayed):
    explore(lambda batch: bar(1), alt=ALT, describe=bar_text, batch=range(MAX_FRAMES))
    assert len(unpack(packed(displayed[0]["text/html"]))) == MAX_FRAMES


def test_frames_that_do_not_pack_are_refused(displayed):
    def noise(seed):
        figure, axes = new_figure(360, 240)
        axes.imshow(np.random.default_rng(seed).random((120, 120)), interpolation="none")
        return figure

    message = rf"frames pack into \d+ KB, over the limit of {MAX_PACKED // 1000} KB, with seed 6 ="
    with pytest.raises(ValueError, match=message):
        explore(noise, alt=ALT, describe=lambda seed: f"Noise {seed}.", seed=range(6))


@pytest.mark.parametrize("name", ["plot", "describe"])
def test_an_error_of_the_author_names_the_choice_and_its_cause(displayed, name):
    def fails(batch, device):
        if (batch, device) == (8, "small"):
            raise ZeroDivisionError("no heads")
        return {"plot": bar, "describe": bar_text}[name](batch, device)

    message = f"{name} raised ZeroDivisionError for device='small', batch=8: no heads"
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        show(displayed, **{name: fails})
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_an_ordinary_line_plot_packs_well(displayed):
    def plot(seq_len, batch):
        figure, axes = new_figure()
        xs = np.linspace(0, 5, 40)
        for power in (1, 2, 3):
            axes.plot(xs, power * xs + np.log10(seq_len * batch), label=f"order {power}")
        axes.legend()
        axes.set_ylim(0, 25)
        return figure

    powers = [2**k for k in range(8)]
    explore(plot, alt=ALT, describe=lambda **choice: str(choice), seq_len=powers, batch=powers)
    assert len(packed(displayed[0]["text/html"])) < 35_000
