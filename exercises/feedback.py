"""Feedback pages that keep hidden tests hidden and show a student's work as text.

nbgrader restores the hidden tests before it grades, and its feedback shows the graded notebook:
the hidden tests themselves, and tracebacks that quote them. What follows goes between the two.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bleach
from jinja2 import pass_context
from nbconvert.exporters import HTMLExporter
from nbformat import NotebookNode
from nbgrader.preprocessors import NbGraderPreprocessor
from nbgrader.utils import is_grade, is_locked
from traitlets import List

BEGIN, END = "BEGIN HIDDEN TESTS", "END HIDDEN TESTS"
REMOVED = "[a line of the hidden tests was here]"
HIDDEN_TEST = "A hidden test says:"
VISIBLE_TEST = "The test says:"
YOUR_CODE = "In your code:"

ANSI = re.compile(r"\x1b\[[0-9;]*m")
CELL_FRAME = re.compile(r"\s*Cell In\[(\d+)\], line (\d+)")
FILE_FRAME = re.compile(r"\s*File (.+?):(\d+)(.*)")
FRAME_LINE = re.compile(r"\s*(?:-+>\s*)?(\d+)\b")

# A shorter line, such as a bracket, says nothing, and students write the same.
TELLING_LENGTH = 12


class FeedbackPreprocessor(NbGraderPreprocessor):
    """A step between the graded notebook and the page."""

    # Exporters set this for all preprocessors, and nbgrader's warn of what they do not know.
    display_data_priority = List().tag(config=True)


class HideHiddenTests(FeedbackPreprocessor):
    """Take the hidden tests out of test cells, tracebacks, and whatever was printed."""

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        nb.cells = [cell for cell in nb.cells if not (is_locked(cell) and not is_grade(cell))]
        code = [cell for cell in nb.cells if cell.cell_type == "code"]
        telling = {line for cell in code for line in _telling_lines(cell)}
        ran = {cell.execution_count: cell for cell in code}
        for cell in code:
            for output in cell.outputs:
                if output.output_type == "error":
                    output.traceback = _traceback(output, cell, ran)
                _scrub(output, telling)
        for cell in code:
            cell.source = _visible(cell.source)
        return nb, resources


class ShowStudentWorkAsText(FeedbackPreprocessor):
    """Keep of each output its text and its pictures: HTML and scripts could be anybody's."""

    def preprocess_cell(
        self, cell: NotebookNode, resources: dict, index: int
    ) -> tuple[NotebookNode, dict]:
        cell.metadata = NotebookNode({k: v for k, v in cell.metadata.items() if k == "nbgrader"})
        cell.pop("attachments", None)
        if cell.cell_type == "raw":
            cell.cell_type = "markdown"
        for output in cell.get("outputs", []):
            if "data" in output:
                output.data = NotebookNode(_plain(output.data))
                output.metadata = NotebookNode()
        return cell, resources


class FeedbackExporter(HTMLExporter):
    """HTML of a notebook whose Markdown cannot bring scripts along."""

    @pass_context
    def markdown2html(self, context: Any, source: str) -> str:
        """The HTML of a Markdown cell, with nothing in it but text, tables, lists and images."""
        html = super().markdown2html(context, source)
        return bleach.clean(html, tags=TAGS, attributes=ATTRIBUTES, protocols={"https", "mailto"})


TAGS = {
    *("a", "abbr", "b", "blockquote", "br", "code", "dd", "del", "div", "dl", "dt", "em"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "li", "ol", "p", "pre", "span", "strong"),
    *("sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "ul"),
}
ATTRIBUTES = {"*": ["class", "id"], "a": ["href", "title"], "th": ["align"], "td": ["align"]}


def keep_pages_only(*, notebooks: list[str], **_: Any) -> None:
    """Remove what nbgrader copies beside the pages: files that a student's code has left behind.

    They may hold the graded notebook. Called by nbgrader with the graded notebooks of a student.
    """
    pages = {f"{Path(notebook).stem}.html" for notebook in notebooks}
    for folder in {Path(notebook).parent for notebook in notebooks}:
        course, step = folder.parents[2], folder.parents[1].name
        if step == "autograded":
            beside = course / "feedback" / folder.relative_to(course / step)
            copies = [path for path in beside.rglob("*") if not path.is_dir()]
            for path in copies:
                if path.parent != beside or path.name not in pages:
                    path.unlink()


def hidden_lines(source: str) -> Iterator[tuple[int, str]]:
    """Number and text of each line of a cell that students do not see, the markers included."""
    hidden = False
    for number, line in enumerate(source.split("\n"), start=1):
        hidden = hidden or BEGIN in line
        if hidden:
            yield number, line
        hidden = hidden and END not in line


def _visible(source: str) -> str:
    hidden = {number for number, _ in hidden_lines(source)}
    lines = enumerate(source.split("\n"), start=1)
    return "\n".join(line for number, line in lines if number not in hidden)


def _telling_lines(cell: NotebookNode) -> Iterator[str]:
    """Hidden lines by which a hidden test can be recognised wherever they are printed."""
    visible = {line.strip() for line in _visible(cell.source).split("\n")}
    for _, line in hidden_lines(cell.source):
        if len(line.strip()) >= TELLING_LENGTH and line.strip() not in visible:
            yield line.strip()


def _traceback(output: NotebookNode, cell: NotebookNode, ran: dict[int, NotebookNode]) -> list[str]:
    """For a test: which one it is, its message, and the lines of the student that it went through.

    The traceback of a student's own cell stays, but for the code of libraries.
    """
    if not is_locked(cell):
        return [_shortened(frame) for frame in output.traceback]
    places = [(CELL_FRAME.match(ANSI.sub("", frame)), frame) for frame in output.traceback]
    frames = [(ran.get(int(at[1])), int(at[2]), frame) for at, frame in places if at]
    hidden = dict(hidden_lines(cell.source))
    called = [line for where, line, _ in frames if where is cell]
    title = HIDDEN_TEST if any(line in hidden for line in called) else VISIBLE_TEST
    own = [frame for where, _, frame in frames if where is not None and not is_locked(where)]
    if output.ename == "NotImplementedError":
        own = []
    return [title, _message(output), *([YOUR_CODE, *own] if own else [])]


def _message(output: NotebookNode) -> str:
    """The message in red, and what kind of error it is where the message does not tell."""
    plain = output.evalue and output.ename in ("AssertionError", "NotImplementedError")
    first, *rest = (output.evalue if plain else f"{output.ename}: {output.evalue}").split("\n")
    return "\n".join([f"\x1b[1;31m{first}\x1b[0m", *rest])


def _shortened(frame: str) -> str:
    """A frame in a library without its code and without the folders of this machine."""
    place = FILE_FRAME.match(ANSI.sub("", frame))
    if not place:
        return frame
    return f"File {place[1].replace(chr(92), '/').rsplit('/', 1)[-1]}:{place[2]}{place[3]}"


def _scrub(output: NotebookNode, telling: set[str]) -> None:
    """Replace lines of the hidden tests in all that an output says."""
    if output.output_type == "stream":
        output.text = _without(output.text, telling)
    if output.output_type == "error":
        output.evalue = _without(output.evalue, telling)
        output.traceback = [_without(frame, telling) for frame in output.traceback]
    for kind, content in output.get("data", {}).items():
        if isinstance(content, str):
            output.data[kind] = _without(content, telling)


def _without(text: str, telling: set[str]) -> str:
    lines = text.split("\n")
    found = [_tells(ANSI.sub("", line), telling) for line in lines]
    return "\n".join(REMOVED if tells else line for line, tells in zip(lines, found, strict=True))


def _tells(line: str, telling: set[str]) -> bool:
    """Whether a line quotes a hidden one, also as part of a `repr`."""
    return any(hidden in line or repr(hidden)[1:-1] in line for hidden in telling)


def _plain(data: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Of an output's forms, the picture if it is one, and otherwise the text."""
    for kind in ("image/png", "image/jpeg"):
        if _is_base64(data.get(kind)):
            yield kind, data[kind]
            return
    yield "text/plain", str(data.get("text/plain", f"[an output of type {', '.join(data)}]"))


def _is_base64(content: Any) -> bool:
    try:
        return bool(content) and bool(base64.b64decode(content.replace("\n", ""), validate=True))
    except (AttributeError, binascii.Error, ValueError):
        return False
