"""The hidden first code cell of every notebook: it makes `lib` importable, wherever it runs.

python -m tools.setup_cell             name the notebooks whose cell differs, and fail
python -m tools.setup_cell --update    write the cell into all of them
"""

import argparse
import sys
from pathlib import Path

import nbformat
import yaml
from nbformat import NotebookNode

from tools import notebooks
from tools.notebooks import ROOT, NotebookError, shown

TAGS = ["remove-cell", "setup"]

# In JupyterLab, on Binder and in the tests the library lies in a folder above the notebook; where a
# course is graded it is on the path already; on Colab the notebook is alone. What the cell needs
# stays inside the function, so that it gives the notebook no names.
TEMPLATE = '''\
def open_book(url="{url}"):
    """Make `lib` importable, from a folder above, an installation, or (on Colab) a clone."""
    import importlib.util, os, pathlib, re, subprocess, sys, tomllib
    here, url = pathlib.Path.cwd(), os.environ.get("BOOK_URL", url)
    places = [here, *here.parents, *map(pathlib.Path, sys.path)]
    book = next((p for p in places if (p / "lib/memory").is_dir()), here / "book")
    if not (book / "lib/memory").is_dir():
        if subprocess.call(["git", "clone", "--quiet", "--depth=1", url, str(book)]):
            raise RuntimeError(f"The book could not be cloned from {{url}}. Is there a network?")
    if book == here / "book":
        needs = tomllib.loads((book / "pyproject.toml").read_text())["project"]["dependencies"]
        for need in [n for n in needs if not importlib.util.find_spec(re.match(r"\\w+", n)[0])]:
            subprocess.check_call([sys.executable, "-m", "pip", "install", "--quiet", need])
    if str(book) not in sys.path:
        sys.path.insert(0, str(book))
open_book()'''


def source() -> str:
    """The cell's code, with the repository's address from `_config.yml`."""
    config = ROOT / "_config.yml"
    try:
        url = yaml.safe_load(config.read_text(encoding="utf-8"))["repository"]["url"]
    except (OSError, KeyError, TypeError) as error:
        raise NotebookError(f"{shown(config)}: repository.url was expected ({error!r})") from None
    return TEMPLATE.format(url=url)


def in_place(notebook: NotebookNode) -> bool:
    """Whether the set-up cell, unchanged, is the first code cell and the only one so tagged."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    right = [cell.source == source() and cell.metadata.get("tags") == TAGS for cell in code]
    return right[:1] == [True] and len(_tagged(notebook)) == 1


def put(notebook: NotebookNode) -> None:
    """Write the cell into a notebook, below its title: the old one rewritten, or a new one."""
    old = _tagged(notebook)
    cell = old[0] if old else nbformat.v4.new_code_cell(id="setup")
    cell.source, cell.metadata["tags"] = source(), list(TAGS)
    others = [each for each in notebook.cells if each not in old]
    below_title = int(bool(others) and others[0].cell_type == "markdown")
    notebook.cells = [*others[:below_title], cell, *others[below_title:]]


def _tagged(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if "setup" in cell.metadata.get("tags", [])]


def every_notebook() -> list[Path]:
    """All chapters and all exercises; each of the two folders may still be missing."""
    folders = [ROOT / "chapters", ROOT / "exercises" / "source"]
    return notebooks.find_notebooks(folder for folder in folders if any(folder.rglob("*.ipynb")))


def main(arguments: list[str] | None = None) -> int:
    """The command; returns 0, 1 when a cell differs, 2 for what is no notebook."""
    parser = argparse.ArgumentParser("tools.setup_cell", description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", help="notebooks or folders; all if none")
    parser.add_argument("--update", action="store_true", help="write the cell where it differs")
    options = parser.parse_args(arguments)
    try:
        paths = notebooks.find_notebooks(options.paths) if options.paths else every_notebook()
        read = {path: notebooks.read(path) for path in paths}
    except NotebookError as error:
        print(f"tools.setup_cell: {error}", file=sys.stderr)
        return 2
    differ = {path: notebook for path, notebook in read.items() if not in_place(notebook)}
    for path, notebook in differ.items():
        print(f"{shown(path)}: the set-up cell {'written' if options.update else 'differs'}")
        if options.update:
            put(notebook)
            notebooks.write(path, notebook)
    return 0 if options.update or not differ else 1


if __name__ == "__main__":
    sys.exit(main())
