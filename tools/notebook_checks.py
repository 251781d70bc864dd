"""What a stored notebook must be, checked without running it: one function per rule.

    python -m tools.notebook_checks [notebooks or folders]

nbval executes a notebook and compares; it lets through what was never run, what was cleared, what
is skipped and what is a picture. These rules and `tools.compare` close those holes.
"""

import argparse
import ast
import copy
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

from tools import notebooks, setup_cell
from tools.kernel import IGNORED, WIDGET_VIEW, fingerprint, is_ignored
from tools.notebooks import ROOT, NotebookError, Problem, shown

Found = Iterator[tuple[int | None, str]]

LONGEST_CELL = 25
MAGICS = ("time", "timeit")
REASONS = ("timing",)

NBVAL_COMMENT = re.compile(r"^\s*#\s*(?:NBVAL_\w+|PYTEST_VALIDATE_IGNORE_OUTPUT)\s*$", re.MULTILINE)
ADDRESS = re.compile(r"<?[\w. ]+ at 0x[0-9a-fA-F]{6,}>?")
STRAY_REPR = re.compile(r"<(?:matplotlib\.|Axes|Figure|BarContainer)|^\[?Text\(")
FOLDERS = r"(?:home|Users|root|tmp|mnt|opt|srv|usr|var|content|private)"
NO_ALT = re.compile(r"!\[\s*\]\(\s*([^)\s]+)")
DIRECTIVE = re.compile(r"(?:```+|:::+)\{(?:figure|image)\} *(\S+)((?:\n:.*)*)")


def _code(notebook: NotebookNode) -> Iterator[tuple[int, NotebookNode]]:
    """The code cells, each with its place among all cells, counted from 1."""
    numbered = enumerate(notebook.cells, start=1)
    return ((number, cell) for number, cell in numbered if cell.cell_type == "code")


def _outputs(notebook: NotebookNode) -> Iterator[tuple[int, NotebookNode]]:
    return ((number, output) for number, cell in _code(notebook) for output in cell.outputs)


def _texts(output: NotebookNode) -> Iterator[str]:
    """What an output says in words: streams, errors and the text among its MIME types."""
    yield output.get("text", "")
    yield output.get("evalue", "")
    yield from output.get("traceback", [])
    for mime, content in output.get("data", {}).items():
        if isinstance(content, str) and mime.startswith("text/"):
            yield content


def set_up_cell(notebook: NotebookNode) -> Found:
    """The hidden cell is the same everywhere."""
    if not setup_cell.in_place(notebook):
        yield None, "the first code cell is not the template's; run tools.setup_cell --update"


def kernelspec(notebook: NotebookNode) -> Found:
    """A kernel that every machine has."""
    name = notebook.metadata.get("kernelspec", {}).get("name")
    if name != "python3":
        yield None, f"python3 was expected, {name!r} is stored"


def language_info(notebook: NotebookNode) -> Found:
    """Without it GitHub and the site colour no code."""
    if notebook.metadata.get("language_info", {}).get("name") != "python":
        yield None, "metadata.language_info for Python is missing"


def never_run(notebook: NotebookNode) -> Found:
    """nbval passes a cell that has no execution count, whatever it does."""
    for number, cell in _code(notebook):
        if cell.execution_count is None:
            empty = "is empty" if not cell.source.strip() else "was never run"
            yield number, f"the cell {empty}"


def run_order(notebook: NotebookNode) -> Found:
    """Executed once, from top to bottom."""
    counts = [(number, cell.execution_count) for number, cell in _code(notebook)]
    for expected, (number, count) in enumerate(counts, start=1):
        if count is not None and count != expected:
            yield number, f"[{expected}] was expected, [{count}] is stored"
            return


def stored_error(notebook: NotebookNode) -> Found:
    """An error is shown only where the cell says that it means to."""
    for number, cell in _code(notebook):
        names = [output.ename for output in cell.outputs if output.output_type == "error"]
        meant = "raises-exception" in cell.metadata.get("tags", [])
        if names and not meant:
            yield number, f"{names[0]} is stored, and the cell is not tagged raises-exception"
        if meant and not names and cell.execution_count is not None:
            yield number, "tagged raises-exception, and no error is stored"


def stderr(notebook: NotebookNode) -> Found:
    """Warnings do not belong on a page."""
    for number, output in _outputs(notebook):
        if output.get("name") == "stderr":
            yield number, f"stderr is stored: {output.text.strip()[:100]!r}"


def bad_magic(notebook: NotebookNode) -> Found:
    """A magic that is unknown somewhere swallows the rest of its cell."""
    for number, cell in _code(notebook):
        for name in _magics(cell.source):
            if name not in MAGICS:
                allowed = ", ".join(f"%{magic}" for magic in MAGICS)
                yield number, f"{name!r} is not Python; the only magics allowed are {allowed}"


def _magics(source: str) -> Iterator[str]:
    """Names of the magics that a cell calls; `system` and `getoutput` for a shell's commands."""
    try:
        tree = ast.parse(TransformerManager().transform_cell(source))
    except SyntaxError:
        return
    for call in ast.walk(tree):
        match call:
            case ast.Call(
                func=ast.Attribute(value=ast.Call(func=ast.Name(id="get_ipython")), attr=method),
                args=[ast.Constant(value=argument), *_],
            ):
                yield argument if method.endswith("_magic") else method


def live_widget(notebook: NotebookNode) -> Found:
    """A widget without a kernel is a blank space, and its state loads scripts from elsewhere."""
    if "widgets" in notebook.metadata:
        yield None, "widget state is stored in metadata.widgets"
    for number, output in _outputs(notebook):
        if WIDGET_VIEW in output.get("data", {}):
            yield number, "a widget view is stored; use lib.show.explore"


def machine_path(notebook: NotebookNode) -> Found:
    """Nobody else has this machine's folders."""
    here = (str(ROOT), str(Path.home()), tempfile.gettempdir(), sys.prefix)
    folders = "|".join(re.escape(folder.strip("/")) for folder in here if folder.strip("/"))
    unix, windows = rf"/(?:{FOLDERS}/[\w.-]+|(?:{folders})(?![\w-]))", r"\b[A-Z]:\\\w+\\\w+"
    pattern = re.compile(rf"(?<![\w.:/+-]){unix}|{windows}")
    for number, cell in enumerate(notebook.cells, start=1):
        texts = [cell.source, *(text for out in cell.get("outputs", []) for text in _texts(out))]
        if found := next(filter(None, map(pattern.search, texts)), None):
            yield number, f"a path of one machine: {found[0]!r}"


def object_address(notebook: NotebookNode) -> Found:
    """An address differs in every run."""
    for number, output in _outputs(notebook):
        if found := next(filter(None, map(ADDRESS.search, _texts(output))), None):
            yield number, f"{found[0].strip()!r} is stored"


def stray_repr(notebook: NotebookNode) -> Found:
    """What a plotting call returns is no part of the text: end the cell with plt.show()."""
    for number, output in _outputs(notebook):
        data = output.get("data", {})
        drawn = any(mime.startswith("image/") for mime in data)
        if not drawn and STRAY_REPR.search(data.get("text/plain", "")):
            yield number, f"{data['text/plain'][:60]!r} is stored; end the cell with plt.show()"


def uncompared(notebook: NotebookNode) -> Found:
    """Every cell is executed; its output goes uncompared only for a stated reason."""
    for number, cell in _code(notebook):
        if is_ignored(cell) and cell.metadata.get("reason") not in REASONS:
            wanted = " or ".join(f'"{reason}"' for reason in REASONS)
            yield number, f'{IGNORED} without "reason": {wanted} in the cell\'s metadata'
        if "nbval-skip" in cell.metadata.get("tags", []):
            yield number, "tagged nbval-skip: every cell must run everywhere"
        if comment := NBVAL_COMMENT.search(cell.source):
            yield number, f"{comment[0].strip()!r}: use a tag, which needs a reason"


def stale_timing(notebook: NotebookNode) -> Found:
    """An uncompared output was measured with the source that stands above it."""
    for number, cell in _code(notebook):
        if is_ignored(cell) and cell.metadata.get("measured") != fingerprint(cell.source):
            yield number, "the source has changed since it was measured; run tools.execute"


def long_cell(notebook: NotebookNode) -> Found:
    """A cell fits on a screen."""
    for number, cell in _code(notebook):
        lines = len(cell.source.splitlines())
        if lines > LONGEST_CELL:
            yield number, f"{lines} lines of code, at most {LONGEST_CELL} expected"


def missing_alt(notebook: NotebookNode) -> Found:
    """Every picture says in words what it shows."""
    for number, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type == "markdown":
            for address in (*_unnamed_in_markdown(cell.source), *_unnamed(cell.source)):
                yield number, f"the image {address!r} has no alt text"
        elif cell.cell_type == "code":
            yield from ((number, message) for message in _missing_alt_of_outputs(cell))


def _missing_alt_of_outputs(cell: NotebookNode) -> Iterator[str]:
    """HTML brings its own alt text; a picture has what the cell's metadata say."""
    data = [output.get("data", {}) for output in cell.outputs]
    for html in (each["text/html"] for each in data if "text/html" in each):
        yield from (f"the image {address!r} has no alt text" for address in _unnamed(html))
    images = [each for each in data if "text/html" not in each and "image/" in " ".join(each)]
    alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
    if images and not alt.strip():
        yield "the picture has no metadata.mystnb.image.alt"
    if len(images) > 1:
        yield f"{len(images)} pictures share one alt text: give each a cell"


def _unnamed_in_markdown(text: str) -> list[str]:
    directives = ((found[1], found[2]) for found in DIRECTIVE.finditer(text))
    return NO_ALT.findall(text) + [name for name, lines in directives if ":alt: " not in lines]


class _Images(HTMLParser):
    """Collects the sources of images, and the drawings, that have no text for those who listen."""

    def __init__(self) -> None:
        super().__init__()
        self.unnamed: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        words = given.get("alt") or given.get("aria-label") or given.get("aria-labelledby") or ""
        if tag in ("img", "svg") and given.get("aria-hidden") != "true" and not words.strip():
            self.unnamed.append((given.get("src") or tag)[:40])


def _unnamed(html: str) -> list[str]:
    images = _Images()
    images.feed(html)
    return images.unnamed


RULES: tuple[Callable[[NotebookNode], Found], ...] = (
    *(set_up_cell, kernelspec, language_info),
    *(never_run, run_order, stored_error, stderr, bad_magic, uncompared, stale_timing),
    *(live_widget, machine_path, object_address, stray_repr),
    *(long_cell, missing_alt),
)


def check(path: Path) -> list[Problem]:
    """All problems of a notebook file that can be seen without running it."""
    try:
        notebook = notebooks.read(path)
    except NotebookError as error:
        return [Problem("unreadable", None, str(error))]
    problems = [
        Problem(rule.__name__.replace("_", "-"), cell, message)
        for rule in RULES
        for cell, message in rule(notebook)
    ]
    normal = notebooks.dumps(notebooks.normalise(copy.deepcopy(notebook)))
    if not problems and path.read_bytes() != normal.encode():
        message = "the file is not as tools.execute writes it; run it"
        problems.append(Problem("not-normalised", None, message))
    return problems


def main(arguments: list[str] | None = None) -> int:
    """The command; returns 0, 1 when there is a problem, 2 when there is no notebook."""
    parser = argparse.ArgumentParser(
        prog="tools.notebook_checks", description=__doc__.splitlines()[0]
    )
    parser.add_argument("paths", nargs="*", help="notebooks or folders; every chapter if none")
    try:
        paths = notebooks.find_notebooks(parser.parse_args(arguments).paths)
    except NotebookError as error:
        print(f"tools.notebook_checks: {error}", file=sys.stderr)
        return 2
    problems = {path: check(path) for path in paths}
    for path, found in problems.items():
        print(f"{shown(path)}: {len(found) or 'no'} problem{'' if len(found) == 1 else 's'}")
        for problem in found:
            print(f"    {problem}")
    return 1 if any(problems.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
