"""Every page of the site, opened in a browser that cannot reach the network."""

import gzip
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from docutils import nodes
from playwright.sync_api import Page

from tests.site.looking import CODE_COLOURS, CUT_OFF, IMAGES, TEX_FAULTS, contrast
from tests.site.pages import DOCUMENTS, NOTEBOOKS, PAGES
from tests.site.visiting import Visit

MAX_PAGE = 450 * 1024
MAX_SHARED = 110 * 1024
PACKED_ALREADY = (".woff", ".woff2", ".png", ".jpg")

RAW_TEX = re.compile(r"\\\(|\\\[|\\begin\{|\\frac|\\text\{|\\sqrt|\$\$")

visited: dict[str, Visit] = {}


@pytest.fixture
def visit_of(visit: Callable[..., Visit], http_base: str) -> Callable[[str], Visit]:
    """A page over HTTP on a desktop screen, opened once for all tests."""

    def get(page: str) -> Visit:
        if page not in visited:
            visited[page] = visit(http_base + page)
        return visited[page]

    return get


def test_the_site_has_these_pages_and_no_others(site: Path) -> None:
    built = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    assert built == {*PAGES, "index.html"}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_asks_for_nothing_outside_and_logs_no_problem(visit_of, page: str) -> None:
    visit = visit_of(page)
    assert visit.outside == []
    assert visit.problems == []


def test_a_visit_notices_what_a_page_must_not_do(visit, serve, tmp_path: Path) -> None:
    images = "<img src='https://example.org/a.png'><img src='missing.png'>"
    script = "<script>console.error('no'); nothing()</script>"
    (tmp_path / "bad.html").write_text(images + script)
    noticed = visit(serve(tmp_path) + "bad.html")
    assert noticed.outside == ["https://example.org/a.png"]
    for problem in ("console error: no", "nothing is not defined", "404: "):
        assert any(problem in text for text in noticed.problems), noticed.problems


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_light(visit_of, page: str) -> None:
    sizes = {}
    for response in visit_of(page).responses:
        name = response.url.split("?")[0].split("/book/")[-1]
        if not response.url.startswith("data:"):
            body = response.body()
            packed = body if name.endswith(PACKED_ALREADY) else gzip.compress(body, 6)
            sizes[name] = len(packed)
    assert page in sizes, sizes
    assert sum(sizes.values()) < MAX_PAGE, sizes
    assert sum(sizes.values()) - sizes[page] < MAX_SHARED, sizes


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_formula_of_the_source_is_typeset(visit_of, site: Path, document: str) -> None:
    page = visit_of(f"{document}.html").page
    doctree = pickle.loads((site.parent / ".doctrees" / f"{document}.doctree").read_bytes())
    written = len(list(doctree.findall(nodes.math))) + len(list(doctree.findall(nodes.math_block)))
    shown = page.locator("article .math > mjx-container")
    assert shown.count() == written
    assert page.locator("article .math").count() == written
    assert all(size > 0 for size in shown.evaluate_all("all => all.map(f => f.offsetWidth)"))
    assert page.evaluate(TEX_FAULTS) == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_sign_of_a_formula_is_drawn(visit_of, document: str) -> None:
    """Each sign is the content of a rule in math.css; without its rule there is a gap."""
    page = visit_of(f"{document}.html").page
    blank = page.evaluate(
        """() => [...document.querySelectorAll("mjx-c")]
            .filter(c => ["none", "normal"].includes(getComputedStyle(c, "::before").content))
            .map(c => c.className)"""
    )
    assert blank == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_tex_is_left_in_the_text(visit_of, document: str) -> None:
    text = visit_of(f"{document}.html").page.evaluate(
        """() => { const copy = document.querySelector("article").cloneNode(true);
        copy.querySelectorAll("pre, code, script, style").forEach(e => e.remove());
        return copy.textContent; }"""
    )
    assert RAW_TEX.findall(text) == []


@pytest.mark.parametrize("page", PAGES)
def test_every_image_says_in_words_what_it_shows(visit_of, page: str) -> None:
    for alt, name, width, source in visit_of(page).page.evaluate(IMAGES):
        if "logo__image" in name:
            continue  # The title stands beside it in words.
        assert alt, source
        assert not re.search(r"[/\\]|\.(png|svg|jpe?g|webp)$", alt.split()[-1]), alt
        assert width > 0, source


def in_scheme(page: Page, scheme: str) -> Page:
    """The page in the light or the dark theme, with colours that no longer fade."""
    page.add_style_tag(content="* { transition: none !important; }")
    page.emulate_media(color_scheme=scheme)
    page.wait_for_selector(f"html[data-theme={scheme}]")
    return page


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(visit_of, page: str, scheme: str) -> None:
    # The dark theme changes colours only. The letters of formulas are hidden from screen readers,
    # and the colours of code are looked at below, one of each kind: axe takes them one by one.
    rules = {"runOnly": ["color-contrast"]} if scheme == "dark" else {}
    result = Axe().run(
        in_scheme(visit_of(page).page, scheme),
        context={"exclude": [["mjx-math"], ["div.highlight pre span"]]},
        options={"resultTypes": ["violations"], **rules},
    )
    violations = result.response["violations"]
    assert [(v["id"], node["html"][:200]) for v in violations for node in v["nodes"]] == []


@pytest.mark.parametrize("document", NOTEBOOKS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_code_can_be_read(visit_of, document: str, scheme: str) -> None:
    colours = in_scheme(visit_of(f"{document}.html").page, scheme).evaluate(CODE_COLOURS)
    assert len(colours) > 5
    for kind, text, ground in colours:
        assert contrast(text, ground) >= 4.5, (kind, text, ground)


def test_contrast_is_measured_as_the_standard_does() -> None:
    assert contrast("rgb(0, 0, 0)", "rgb(255, 255, 255)") == pytest.approx(21)
    assert contrast("rgb(119, 119, 119)", "rgb(255, 255, 255)") == pytest.approx(4.478, abs=1e-3)


@pytest.mark.parametrize("page", PAGES)
def test_a_phone_scrolls_down_only(visit_of, page: str) -> None:
    browser_page = visit_of(page).page
    try:
        browser_page.set_viewport_size({"width": 390, "height": 844})
        width = browser_page.evaluate("document.documentElement.scrollWidth")
        cut_off = browser_page.evaluate(CUT_OFF)
    finally:
        browser_page.set_viewport_size({"width": 1280, "height": 900})
    assert width <= 390
    assert cut_off == []


@pytest.mark.parametrize("page", PAGES)
def test_the_focus_can_be_seen(visit_of, page: str) -> None:
    browser_page = visit_of(page).page
    for _ in range(4):
        browser_page.keyboard.press("Tab")
        outline = browser_page.evaluate(
            """() => { const style = getComputedStyle(document.activeElement);
            return [document.activeElement.tagName, style.outlineStyle, style.outlineWidth]; }"""
        )
        assert outline[1:] == ["solid", "3px"], outline


# Not 404.html: a server sends it, and its addresses begin at the server's root.
@pytest.mark.parametrize("page", [page for page in PAGES if page != "404.html"])
def test_a_page_opens_from_the_disk(visit, site: Path, page: str) -> None:
    visit = visit(f"file://{site / page}")
    assert visit.outside == []
    assert visit.problems == []
    visit.page.context.close()


def test_the_theme_a_reader_chooses_stays(visit, http_base: str) -> None:
    page = visit(f"{http_base}intro.html", color_scheme="light").page
    assert page.get_attribute("html", "data-theme") == "light"
    for _ in range(3):
        page.locator(".theme-switch-button:visible").first.click()
        if page.get_attribute("html", "data-theme") == "dark":
            break
    page.goto(f"{http_base}{DOCUMENTS[1]}.html")
    assert page.get_attribute("html", "data-theme") == "dark"


def test_without_javascript_a_page_has_the_light_theme(visit, http_base: str) -> None:
    page = visit(f"{http_base}intro.html", java_script_enabled=False, color_scheme="dark").page
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
