"""The static figure in a browser: keyboard, no script, phone, dark, accessibility."""

import io
import itertools
import sys
from pathlib import Path

import axe_playwright_python
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page

from lib.show import explore
from lib.show.image import as_svg
from tests.lib.show.stand_ins import bar, bar_text

AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")

BATCHES = [1, 8, 16, 32, 64, 100]
DEVICES = ["large", "small"]
PAGE = """<!doctype html>
<html lang="en" {attributes}>
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Two figures</title>
<style>body {{ font: 16px/1.5 sans-serif; margin: 16px }}
[data-theme=dark] body {{ background: #121212; color: #ced6dd }}</style>
<main><h1>Two figures</h1>{first}<p style="height: 2000px">Far below, the same again.</p>{second}
</main></html>"""


def describe(batch: int, device: str) -> str:
    """A sentence that needs one line on a phone, and many for the largest batch."""
    return bar_text(batch, device) + " A longer sentence." * (10 if batch == BATCHES[-1] else 0)


@pytest.fixture(scope="module")
def fragments() -> list[str]:
    """One figure with numbers, and one with names too long for a phone."""
    outputs = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOOK_STATIC", "1")
        patch.setattr(
            sys.modules["lib.show.explore"], "display", lambda data, raw: outputs.append(data)
        )
        explore(bar, alt="A bar.", describe=describe, device=DEVICES, batch=BATCHES)
        names = [f"An accelerator with a long name and {n} GB" for n in (16, 80)]
        explore(bar, alt="A bar.", describe=bar_text, device=names, batch=[1, 100])
    return [output["text/html"] for output in outputs]


@pytest.fixture(scope="module")
def pages(fragments, tmp_path_factory) -> dict[str, str]:
    """The address of a light and a dark page with both figures."""
    folder = tmp_path_factory.mktemp("pages")
    first, second = fragments
    for theme in ("light", "dark"):
        attributes = f'data-theme="{theme}"'
        text = PAGE.format(attributes=attributes, first=first, second=second)
        (folder / f"{theme}.html").write_text(text, encoding="utf-8")
    return {theme: (folder / f"{theme}.html").as_uri() for theme in ("light", "dark")}


@pytest.fixture
def visit(browser: Browser, pages):
    """Open a page, watched: whatever it asks for elsewhere or complains of fails the test."""
    problems, contexts = [], []

    def open_page(theme: str = "light", width: int = 800, **options) -> Page:
        contexts.append(browser.new_context(viewport={"width": width, "height": 700}, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: check_request(request.url))
        page.goto(pages[theme])
        return page

    def check_request(url: str) -> None:
        if not url.startswith(("file:", "data:")):
            problems.append(url)

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


def shown(figure: Locator) -> dict[str, str]:
    return figure.evaluate(
        """figure => ({
          picture: decodeURIComponent(figure.querySelector("img").src),
          alt: figure.querySelector("img").alt,
          status: figure.querySelector("[role=status]").textContent.trim(),
          values: [...figure.querySelectorAll("output")].map((output) => output.textContent),
          spoken: [...figure.querySelectorAll("input")].map((input) => input.ariaValueText)})"""
    )


def wait_for_another_picture(figure: Locator, before: str) -> None:
    changed = (
        """([image, before]) => image.src !== before && image.complete && image.naturalWidth"""
    )
    image = figure.locator("img").element_handle()
    figure.page.wait_for_function(changed, arg=[image, before], polling=10)


def press(figure: Locator, slider: int, key: str) -> dict[str, str]:
    before = figure.locator("img").get_attribute("src")
    figure.locator("input").nth(slider).press(key)
    wait_for_another_picture(figure, before)
    return shown(figure)


def test_every_frame_comes_by_keyboard(visit):
    figure = visit().locator("figure.explore").first
    seen = [shown(figure)]
    for row in range(len(DEVICES)):
        if row:
            press(figure, 1, "Home")
            seen.append(press(figure, 0, "ArrowRight"))
        seen += [press(figure, 1, "ArrowRight") for _ in BATCHES[1:]]
    choices = list(itertools.product(DEVICES, BATCHES))
    assert len(seen) == int(figure.get_attribute("data-frames")) == len(choices)
    for frame, (device, batch) in zip(seen, choices, strict=True):
        _, _, svg = frame["picture"].partition("data:image/svg+xml,")
        assert svg == as_svg(bar(batch, device))
        assert frame["status"] == describe(batch, device)
        assert frame["alt"] == f"A bar. {describe(batch, device)}"
        assert frame["values"] == frame["spoken"] == [device, str(batch)]


def test_figures_on_a_page_do_not_touch_each_other(visit):
    page = visit()
    first, second = page.locator("figure.explore").all()
    before = shown(first)
    frames = [shown(second), press(second, 1, "End"), press(second, 0, "End")]
    assert len({frame["picture"] for frame in frames}) == 3
    assert shown(first) == before
    assert press(first, 0, "End")["status"] == bar_text(1, "small")


def test_the_words_change_at_once_and_the_last_choice_wins(visit):
    figure = visit().locator("figure.explore").last
    figure.evaluate(
        """figure => { for (const input of figure.querySelectorAll("input")) {
          input.value = 1; input.dispatchEvent(new Event("input")); }
          figure.seen = figure.querySelector("[role=status]").textContent; }"""
    )
    assert "100 sequences" in figure.evaluate("figure => figure.seen")
    figure.page.wait_for_function("""() => decodeURIComponent(
        [...document.querySelectorAll("figure.explore img")][1].src).includes("</svg>")""")
    assert shown(figure)["values"][1] == "100"


def test_a_figure_far_away_costs_nothing_until_it_comes_near(visit):
    page = visit()
    page.add_init_script(
        """window.inflated = 0; const Real = DecompressionStream;
        window.DecompressionStream = function (format) {
          const stream = new Real(format); stream.writable.getWriter().releaseLock();
          window.inflated += 1; return stream; };"""
    )
    page.reload()
    page.wait_for_function("() => inflated === 3")  # a trial by each script, and the first figure
    page.locator("figure.explore").last.scroll_into_view_if_needed()
    page.wait_for_function("() => inflated === 4")


def test_no_name_leaks_into_the_page(visit):
    page = visit()
    names = page.evaluate(
        """() => { const frame = document.body.appendChild(document.createElement("iframe"));
        const plain = new Set(Object.getOwnPropertyNames(frame.contentWindow));
        return Object.getOwnPropertyNames(window).filter((name) => !plain.has(name)); }"""
    )
    assert [name for name in names if not name.isdigit()] == []


def test_without_script_the_first_frame_shows(visit):
    page = visit(java_script_enabled=False)
    for figure in page.locator("figure.explore").all():
        assert figure.locator("img").is_visible()
        assert figure.locator("img").evaluate("image => image.naturalWidth") > 0
        assert figure.locator("[role=status]").inner_text().startswith("The ")
        assert not any(slider.is_visible() for slider in figure.locator("input").all())


def test_without_decompression_the_first_frame_shows(visit):
    page = visit()
    page.add_init_script("delete window.DecompressionStream")
    page.reload()
    figure = page.locator("figure.explore").first
    assert figure.locator("img").is_visible()
    assert not figure.locator("input").first.is_visible()


@pytest.mark.parametrize("width", [320, 390, 800])
def test_nothing_sticks_out(visit, width):
    page = visit(width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for figure in page.locator("figure.explore").all():
        outer = figure.bounding_box()
        for part in figure.locator("img, input, output, label span, p, .explore-ticks").all():
            box = part.bounding_box()
            assert box["x"] >= outer["x"] - 1
            assert box["x"] + box["width"] <= outer["x"] + outer["width"] + 1


def test_the_page_below_does_not_jump(visit):
    figure = visit(width=390).locator("figure.explore").first
    before = figure.bounding_box()["height"]
    press(figure, 1, "End")
    press(figure, 0, "End")
    assert figure.bounding_box()["height"] == before


def test_printed_it_shows_the_choice(visit):
    page = visit()
    figure = page.locator("figure.explore").first
    press(figure, 1, "End")
    page.emulate_media(media="print")
    assert figure.locator("img").is_visible() and figure.locator("output").last.is_visible()
    assert not figure.locator("input").first.is_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 800])
def test_axe_finds_nothing(visit, theme, width):
    page = visit(theme, width)
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")
    assert [(rule["id"], rule["nodes"][0]["html"]) for rule in found["violations"]] == []
    assert "color-contrast" in {rule["id"] for rule in found["passes"]}


def test_in_the_dark_theme_ink_is_light_and_paper_has_gone(visit):
    screen = visit("dark").locator("img").first.screenshot()
    levels = Image.open(io.BytesIO(screen)).convert("L").getcolors()
    _, most_common = max(levels)
    assert most_common == 0x12
    assert max(level for _, level in levels) > 200
