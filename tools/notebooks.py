"""Notebooks as files: found, read with clear errors, normalised, written whole or not at all."""

import json
import os
import re
import sysconfig
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent

KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
LANGUAGE_INFO = {
    "codemirror_mode": {"name": "ipython", "version": 3},
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "name": "python",
    "nbconvert_exporter": "python",
    "pygments_lexer": "ipython3",
}

LEFT_IN_NOTEBOOK = ("widgets", "jupytext", "colab", "vscode", "accelerator", "signature")
LEFT_IN_CELL = (
    *("execution", "ExecuteTime", "collapsed", "scrolled"),
    *("colab", "id", "outputId", "vscode", "pycharm"),
)


class NotebookError(ValueError):
    """A file that cannot be read as a notebook, or a notebook that cannot be executed."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with a notebook: the rule's name, the cell (counted from 1), and the facts."""

    rule: str
    cell: int | None
    message: str

    def __str__(self) -> str:
        place = "" if self.cell is None else f", cell {self.cell}"
        return f"{self.rule}{place}: {self.message}"


def shown(path: Path) -> str:
    """The path as messages name it: relative to the repository where it lies inside."""
    path = Path(path).absolute()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def find_notebooks(paths: Iterable[str | Path] = ()) -> list[Path]:
    """The named notebooks and those inside the named folders; by default all chapters.

    Raises NotebookError for a path that does not exist and when there is no notebook at all.
    """
    paths = [Path(path) for path in paths] or [ROOT / "chapters"]
    found = [notebook for path in paths for notebook in _notebooks_at(path)]
    if not found:
        raise NotebookError(f"{', '.join(map(shown, paths))}: no notebook (*.ipynb) in there")
    return list(dict.fromkeys(found))


def _notebooks_at(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(path.rglob("*.ipynb"))
        return [each for each in found if ".ipynb_checkpoints" not in each.parts]
    if not path.exists():
        raise NotebookError(f"{shown(path)}: no such file or folder")
    return [path]


def read(path: Path) -> NotebookNode:
    """The notebook in a file, valid and with cell ids.

    Raises NotebookError, one line that names the file, what it holds and what was expected.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise NotebookError(f"{shown(path)}: cannot be read as UTF-8 text: {error}") from None
    except json.JSONDecodeError as error:
        raise NotebookError(f"{shown(path)}: is not JSON: {error}") from None
    if wrong := _what_is_wrong(document):
        raise NotebookError(f"{shown(path)}: {wrong}")
    return nbformat.reads(json.dumps(document), as_version=nbformat.NO_CONVERT)


def _what_is_wrong(document: object) -> str | None:
    """Why a JSON document is no notebook of format 4.5, in one line; None when it is one."""
    if not isinstance(document, dict) or "nbformat" not in document:
        return f"is JSON but not a notebook: a {type(document).__name__} without nbformat"
    version = (document["nbformat"], document.get("nbformat_minor"))
    if version[0] != 4 or not isinstance(version[1], int) or version[1] < 5:
        return f"has nbformat {version[0]!r}.{version[1]!r}; 4.5, with cell ids, was expected"
    cells = document.get("cells")
    if not isinstance(cells, list) or not cells:
        return "has no cells"
    ids = [cell.get("id") if isinstance(cell, dict) else None for cell in cells]
    for number, each in enumerate(ids, start=1):
        if not isinstance(each, str) or ids.count(each) > 1:
            return f"cell {number} needs an id of its own, {each!r} given"
    try:
        nbformat.validate(document)
    except nbformat.ValidationError as error:
        place = "/".join(str(step) for step in error.absolute_path) or "the top level"
        return f"is not a valid notebook: {error.message.splitlines()[0][:200]} (at {place})"
    return None


def normalise(notebook: NotebookNode) -> NotebookNode:
    """Drop, in place, what differs between machines and editors and means nothing to a reader."""
    for key in LEFT_IN_NOTEBOOK:
        notebook.metadata.pop(key, None)
    notebook.metadata.kernelspec = NotebookNode(KERNELSPEC)
    notebook.metadata.language_info = nbformat.from_dict(LANGUAGE_INFO)
    for cell in notebook.cells:
        for key in LEFT_IN_CELL:
            cell.metadata.pop(key, None)
        if cell.cell_type == "code":
            cell.outputs = _merge_streams(cell.outputs)
            for output in cell.outputs:
                if output.output_type == "error":
                    output.traceback = [relative_paths(line) for line in output.traceback]
    return notebook


def _merge_streams(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Join neighbouring pieces of one stream: where the kernel cuts them is chance."""
    merged: list[NotebookNode] = []
    for output in outputs:
        if merged and output.get("name") and output.get("name") == merged[-1].get("name"):
            merged[-1].text += output.text
        else:
            merged.append(output)
    return merged


def relative_paths(text: str) -> str:
    """A traceback's line without this machine's folders: `lib/...`, `site-packages/...`."""
    text = re.sub(r"~?/[^\s\x1b'\"]*?site-packages/", "site-packages/", text)
    for place, short in ((str(ROOT), ""), (sysconfig.get_path("stdlib"), "python/")):
        text = text.replace(f"{place}/", short).replace(f"{_below_home(place)}/", short)
    return text


def _below_home(path: str) -> str:
    """As IPython writes a path: ~ for the user's home folder."""
    home = str(Path.home())
    return f"~{path.removeprefix(home)}" if path.startswith(f"{home}/") else path


def dumps(notebook: NotebookNode) -> str:
    """The text of a notebook file: sorted keys, indented by one, a newline at the end."""
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def write(path: Path, notebook: NotebookNode) -> bool:
    """Replace a file by a notebook in one step; False when it said the same already."""
    text = dumps(notebook)
    if path.exists() and path.read_bytes() == text.encode():
        return False
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.chmod(temporary, path.stat().st_mode & 0o777 if path.exists() else 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return True
