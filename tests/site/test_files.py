"""What the built files say: links, addresses, launch buttons, no trace of the machine."""

import re
import sys
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup
from fontTools.ttLib import TTFont

from lib.memory import device, linear, roofline
from tests.site.pages import CONFIG, NOTEBOOKS, PAGES, ROOT

FETCHED = {
    "audio": ["src"], "embed": ["src"], "iframe": ["src"], "image": ["href", "xlink:href"],
    "img": ["src", "srcset"], "input": ["src"], "link": ["href"], "object": ["data"],
    "script": ["src"], "source": ["src", "srcset"], "use": ["href", "xlink:href"],
    "video": ["src", "poster"],
}  # fmt: skip
NOT_FETCHED = {"canonical", "index", "search", "next", "prev", "author", "help", "copyright"}


@cache
def soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text("utf-8"), "html.parser")


def is_outside(address: str) -> bool:
    return bool(re.match(r"(https?:)?//", address.strip()))


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_no_third_party_that_a_browser_would_fetch(site: Path, page: str) -> None:
    for tag, attributes in FETCHED.items():
        for element in soup(site / page).find_all(tag):
            if tag == "link" and set(element.get("rel", [])) <= NOT_FETCHED:
                continue
            for attribute in attributes:
                assert not is_outside(element.get(attribute, "")), element


def test_no_stylesheet_names_a_third_party(site: Path) -> None:
    for path in site.rglob("*.css"):
        css = path.read_text("utf-8")
        addresses = re.findall(r"url\(\s*['\"]?([^)'\"]+)|@import\s+['\"]([^'\"]+)", css)
        assert not any(is_outside(part) for address in addresses for part in address), path


@pytest.mark.parametrize("page", PAGES)
def test_every_link_inside_the_site_leads_somewhere(site: Path, page: str) -> None:
    for element in soup(site / page).find_all(["a", "link", "script", "img"]):
        address = urlsplit(element.get("href") or element.get("src") or "")
        if address.scheme or address.netloc or not (address.path or address.fragment):
            continue
        path = unquote(address.path).removeprefix("/book/")
        target = ((site / page).parent / path).resolve() if path else site / page
        if address.path.startswith("/book/"):
            target = site / path
        assert target.is_file(), element
        if address.fragment:
            assert soup(target).find(id=unquote(address.fragment)), element


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_a_notebook_page_opens_on_binder_and_colab(site: Path, notebook: str) -> None:
    owner = urlsplit(CONFIG["repository"]["url"]).path.strip("/")
    branch = CONFIG["repository"]["branch"]
    links = {a.get("href") for a in soup(site / f"{notebook}.html").find_all("a")}
    binder = f"https://mybinder.org/v2/gh/{owner}/{branch}?urlpath=lab/tree/{notebook}.ipynb"
    colab = f"https://colab.research.google.com/github/{owner}/blob/{branch}/{notebook}.ipynb"
    assert {binder, colab} <= links


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_the_notebook_can_be_downloaded(site: Path, notebook: str) -> None:
    source = site / "_sources" / f"{notebook}.ipynb"
    assert source.read_bytes() == (ROOT / f"{notebook}.ipynb").read_bytes()


def test_no_file_names_the_machine_it_was_built_on(site: Path) -> None:
    folders = {str(ROOT), str(site), sys.prefix, sys.base_prefix, str(Path.home())}
    traces = [f"{folder}/" for folder in folders if len(folder) > 4]
    for path in site.rglob("*"):
        if path.suffix in {".html", ".js", ".css", ".ipynb", ".md", ".txt", ".xml", ".svg"}:
            text = path.read_text("utf-8")
            assert not [trace for trace in traces if trace in text], path


def test_icons_that_pages_use_are_in_the_fonts(site: Path) -> None:
    fonts = (site / "_static").rglob("webfonts/*.woff")
    glyphs = {code for font in fonts for code in TTFont(font).getBestCmap()}
    css = "".join(path.read_text("utf-8") for path in site.rglob("pydata-sphinx-theme.css"))
    drawn = dict(re.findall(r'\.(fa-[a-z0-9-]+):{1,2}before[^{}]*\{content:\s*"(\\?[^"]+)"', css))
    html = "".join((site / page).read_text("utf-8") for page in PAGES)
    used = {name: drawn[name] for name in re.findall(r"\bfa-[a-z-]+", html) if name in drawn}
    assert {"fa-rocket", "fa-magnifying-glass", "fa-download"} <= set(used)
    for name, content in used.items():
        code = int(content[1:], 16) if content.startswith("\\") else ord(content)
        assert code in glyphs, name


def test_the_front_page_says_what_the_library_computes(site: Path) -> None:
    h100 = device("H100")
    ridge = roofline.ridge_point(h100, "bfloat16")
    one, many = [linear(rows=n, d_in=4096, d_out=4096).intensity for n in (1, 2048)]
    writing, reading = [roofline.attainable_flops(i, h100, "bfloat16") for i in (one, many)]
    text = soup(site / "intro.html").find("svg", class_="book-opening").get_text(" ", strip=True)
    for part in (
        f"writing one token: {writing / 1e12:.2f} TFLOP/s",
        f"reading 2,048 tokens: {reading / 1e12:.0f} TFLOP/s",
        f"{ridge:.0f} FLOPs per byte",
    ):
        assert part in text
    assert round(1000 * writing / reading) == 3  # "three in a thousand"
