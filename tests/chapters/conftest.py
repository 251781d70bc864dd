"""Small notebooks to break: built in code, executed the way chapters are."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from tools import notebooks, setup_cell
from tools.kernel import run

TIMING = {"tags": ["nbval-ignore-output"], "reason": "timing"}
RAISES = {"tags": ["raises-exception"]}
ALT = {"mystnb": {"image": {"alt": "A line that rises from 1 to 3."}}}

NUMBERS = {
    "title": ("# Bytes\n\nWhat a loop reads.", None),
    "sum": ("reads = 2 * 3\nprint(reads, 'bytes read')\nreads / 4", {}),
    "timing": ("import time\nprint(time.perf_counter())", TIMING),
    "error": ("raise ValueError('head_dim must divide 64, got 3')", RAISES),
}
PICTURES = {
    "title": ("# Pictures\n\nOne that stands and one that moves.", None),
    "plot": ("from matplotlib import pyplot as plt\nplt.plot([1, 2, 3])\nplt.show()", ALT),
    "explore": (
        "from lib.show import explore, new_figure\n\n"
        "def plot(batch):\n"
        "    figure, axes = new_figure()\n"
        "    axes.bar(['bytes'], [batch])\n"
        "    return figure\n\n"
        "explore(plot, alt='A bar as high as the batch.', batch=[1, 8],\n"
        "        describe=lambda batch: f'{batch} bytes are read.')",
        {},
    ),
}


def build(cells: dict[str, tuple[str, dict | None]]) -> NotebookNode:
    """A notebook that was never run. Metadata None makes a cell of text."""
    made = [
        nbformat.v4.new_markdown_cell(source, id=name)
        if metadata is None
        else nbformat.v4.new_code_cell(source, id=name, metadata=metadata)
        for name, (source, metadata) in cells.items()
    ]
    notebook = nbformat.v4.new_notebook(cells=made)
    setup_cell.put(notebook)
    return notebooks.normalise(notebook)


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside the repository in which notebooks find `lib` and nbval its kernel."""
    folder = tmp_path_factory.mktemp("shelf")
    shutil.copytree(notebooks.ROOT / "lib", folder / "lib")
    shutil.copy(notebooks.ROOT / "chapters" / "conftest.py", folder)
    return folder


@pytest.fixture
def write(shelf: Path, request: pytest.FixtureRequest) -> Callable[..., Path]:
    """Writes a notebook made of `name=(source, metadata)` and returns its path."""

    def make(**cells: tuple[str, dict | None]) -> Path:
        path = shelf / (re.sub(r"\W+", "-", request.node.name) + ".ipynb")
        notebooks.write(path, build(cells))
        return path

    return make


@pytest.fixture(scope="session")
def good(shelf: Path) -> dict[str, NotebookNode]:
    """Two executed notebooks without a fault: one of numbers, one of pictures."""
    executed = {}
    for name, cells in {"numbers": NUMBERS, "pictures": PICTURES}.items():
        path = shelf / f"good-{name}.ipynb"
        notebooks.write(path, build(cells))
        executed[name] = run(path).notebook
        notebooks.write(path, executed[name])
    return executed
