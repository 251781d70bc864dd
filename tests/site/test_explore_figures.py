"""Every slider of every figure, moved by keyboard through its whole range."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page

from tests.site.pages import NOTEBOOKS, explore_figures
from tests.site.visiting import Visit

SEEN = """figure => ({picture: figure.querySelector("img").src,
    alt: figure.querySelector("img").alt,
    status: figure.querySelector("[role=status]").textContent.trim(),
    width: figure.querySelector("img").naturalWidth})"""
CHANGED = """([figure, before]) => { const image = figure.querySelector("img");
    return image.src !== before && image.complete && image.naturalWidth > 0; }"""


def drive(page: Page, figure: Locator, slider: Locator) -> list[dict]:
    """What the figure shows at each position of one slider, from Home to the end by arrow key."""
    handle = figure.element_handle()
    steps = int(slider.get_attribute("max")) - int(slider.get_attribute("min") or 0)
    slider.focus()
    if slider.input_value() != (slider.get_attribute("min") or "0"):
        before = handle.evaluate(SEEN)["picture"]
        page.keyboard.press("Home")
        page.wait_for_function(CHANGED, arg=[handle, before], polling=10)
    seen = [handle.evaluate(SEEN)]
    for _ in range(steps):
        page.keyboard.press("ArrowRight")
        page.wait_for_function(CHANGED, arg=[handle, seen[-1]["picture"]], polling=10)
        seen.append(handle.evaluate(SEEN))
    assert slider.input_value() == slider.get_attribute("max")
    return seen


def move_everything(visit: Visit, notebook: str) -> None:
    figures = visit.page.locator("figure.explore")
    assert figures.count() == explore_figures(notebook)
    complaints = []
    for number, figure in enumerate(figures.all(), start=1):
        frames = 1
        for slider in figure.locator("input[type=range]").all():
            seen = drive(visit.page, figure, slider)
            frames *= len(seen)
            name = slider.evaluate("slider => slider.labels[0].textContent.trim()")
            for kind in ("picture", "alt", "status"):
                if len({step[kind] for step in seen}) < len(seen):
                    complaint = f"figure {number}, slider {name!r}: the {kind} repeats itself"
                    complaints.append(f"{complaint} ({seen[-1]['status']})")
        assert frames == int(figure.get_attribute("data-frames"))
    assert not complaints, "\n".join(complaints)
    assert visit.outside == []
    assert visit.problems == []


@pytest.mark.parametrize("notebook", NOTEBOOKS)
@pytest.mark.parametrize("protocol", ["http", "file"])
def test_every_slider_moves_its_figure(
    visit: Callable[..., Visit], http_base: str, site: Path, protocol: str, notebook: str
) -> None:
    base = http_base if protocol == "http" else f"file://{site}/"
    visit = visit(f"{base}{notebook}.html")
    move_everything(visit, notebook)
    visit.page.context.close()


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_without_javascript_the_first_frame_shows(
    visit: Callable[..., Visit], site: Path, notebook: str
) -> None:
    visit = visit(f"file://{site}/{notebook}.html", java_script_enabled=False)
    for figure in visit.page.locator("figure.explore").all():
        picture = figure.locator("img")
        assert picture.is_visible()
        assert picture.evaluate("image => image.naturalWidth") > 0
        assert figure.locator("[role=status]").inner_text()
        # A slider that cannot move anything is not offered.
        assert not any(slider.is_visible() for slider in figure.locator("input").all())
    visit.page.context.close()


def test_the_chapters_have_figures_to_move() -> None:
    assert sum(explore_figures(notebook) for notebook in NOTEBOOKS) >= 5
