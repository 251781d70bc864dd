"""The search finds, with a server and without one."""

from pathlib import Path

import pytest


@pytest.mark.parametrize("word", ["ridge", "HBM"])
@pytest.mark.parametrize("protocol", ["http", "file"])
def test_the_search_finds_the_first_chapter(
    visit, http_base: str, site: Path, protocol: str, word: str
) -> None:
    base = http_base if protocol == "http" else f"file://{site}/"
    visit = visit(f"{base}search.html?q={word}")
    results = visit.page.locator("#search-results li a")
    results.first.wait_for()
    found = results.evaluate_all("all => all.map(a => a.getAttribute('href'))")
    assert any("hierarchy-and-roofline" in address for address in found)
    visit.page.wait_for_load_state("networkidle")
    assert (visit.outside, visit.problems) == ([], [])


def test_a_word_that_no_page_has_is_not_found(visit, http_base: str) -> None:
    visit = visit(f"{http_base}search.html?q=zyzzyva")
    visit.page.get_by_text("did not match any documents").wait_for()
    assert visit.page.locator("#search-results li").count() == 0


def test_control_k_opens_the_search(visit, http_base: str) -> None:
    visit = visit(f"{http_base}intro.html")
    visit.page.keyboard.press("Control+k")
    field = visit.page.locator("dialog#pst-search-dialog input[type=search]")
    field.wait_for(state="visible")
    field.fill("ridge")
    field.press("Enter")
    visit.page.locator("#search-results li a").first.wait_for()
