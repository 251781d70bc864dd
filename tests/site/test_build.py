"""The build refuses what a reader would stumble over; without these, `-W` would prove nothing."""

import subprocess
from pathlib import Path

import pytest

from tests.site.building import build, small_book
from tests.site.looking import TEX_FAULTS

SOUND = """A formula, $\\frac{P}{\\beta}$, and a source, {cite:t}`williams2009`.

```{bibliography}
```"""
FAULTS = {
    "reference": ("See {ref}`no-such-place`.", "no-such-place"),
    "link": ("See [this](nowhere.md).", "nowhere.md"),
    "citation": ("As in {cite:t}`nobody1900`.", "nobody1900"),
    "image": ("![A picture of nothing](missing.png)", "missing.png"),
    "macro": ("The peak is $\\badmacro{3}$.", "Undefined control sequence \\badmacro"),
    "brace": ("$$\n\\frac{1}{2\n$$", "Missing close brace"),
    "letter": ("$\\text{a snowman: ☃}$", "the math fonts have no"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faulty")


@pytest.fixture(scope="module")
def faulty(folder: Path) -> subprocess.CompletedProcess:
    """The build of a book with one page for each fault, and a sound one."""
    pages = {"sound": SOUND} | {name: text for name, (text, _) in FAULTS.items()}
    return build(small_book(folder / "book", pages), folder, "-W", "--keep-going")


def test_a_book_with_faults_is_not_built(faulty: subprocess.CompletedProcess) -> None:
    assert faulty.returncode != 0


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_its_page(faulty: subprocess.CompletedProcess, fault: str) -> None:
    warnings = [line for line in faulty.stderr.splitlines() if "WARNING" in line]
    assert any(f"{fault}.md" in line and FAULTS[fault][1] in line for line in warnings), warnings


def test_a_sound_page_is_not_named(faulty: subprocess.CompletedProcess) -> None:
    assert "sound.md" not in faulty.stderr


def test_the_detector_of_red_tex_sees_what_the_build_refused(
    faulty: subprocess.CompletedProcess, folder: Path, visit, serve
) -> None:
    assert faulty.returncode != 0
    base = serve(folder / "_build" / "html")
    for name, is_faulty in {"macro": True, "brace": True, "letter": True, "sound": False}.items():
        page = visit(f"{base}{name}.html").page
        assert bool(page.evaluate(TEX_FAULTS)) == is_faulty, name
