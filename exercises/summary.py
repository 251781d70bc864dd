"""The table at the top of a feedback page: part by part, the points and what the tests said."""

import html
import re
from collections.abc import Iterator

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell
from nbgrader.api import Gradebook
from nbgrader.utils import is_grade, is_solution

from exercises.feedback import ANSI, FeedbackPreprocessor

HEADING = re.compile(r"^#{2,}\s+(.+?)\s*(?:\([^()]*points?[^()]*\))?\s*$", re.MULTILINE)
HEAD = "<tr><th>Part</th><th>Points</th><th>What the tests said</th></tr>"


STYLE = """
.ansi-bold { font-weight: bold; }
.ansi-red-fg, .ansi-red-intense-fg { color: #b3261e; }
div.output pre { white-space: pre-wrap; overflow-wrap: anywhere; }
.rendered_html table { margin-bottom: 1.5em; }
.rendered_html th, .rendered_html td { padding: 0.3em 0.8em 0.3em 0; vertical-align: top; }
.rendered_html tr + tr { border-top: 1px solid #ddd; }
"""
# The table says it better than nbgrader's list, which names a late penalty besides.
NO_LIST = "#toc { display: none; }"


class Summarise(FeedbackPreprocessor):
    """Put a table of all graded cells below the title, and a style into the page.

    It wants to come after `GetGrades` and `CSSHTMLHeaderPreprocessor`.
    """

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        late = resources["nbgrader"].get("late_penalty")
        resources["inlining"]["css"].append(STYLE if late else STYLE + NO_LIST)
        waiting = _unread(resources["nbgrader"])
        rows = [_row(title, cell, waiting) for title, cell in _parts(nb)]
        table = f"## Summary\n\n<table>{HEAD}{''.join(rows)}</table>"
        nb.cells.insert(1, new_markdown_cell(table))
        return nb, resources


def _unread(place: dict) -> set[str]:
    """The cells that wait for a person to read them."""
    with Gradebook(place["db_url"]) as gradebook:
        names = place["notebook"], place["assignment"], place["student"]
        grades = gradebook.find_submission_notebook(*names).grades
        return {grade.name for grade in grades if grade.needs_manual_grade}


def _parts(nb: NotebookNode) -> Iterator[tuple[str, NotebookNode]]:
    """Each graded cell below the heading that it belongs to."""
    title = ""
    for cell in nb.cells:
        if is_grade(cell):
            yield title, cell
        elif cell.cell_type == "markdown" and not is_solution(cell):
            title = next(reversed(HEADING.findall(cell.source)), title)


def _row(title: str, cell: NotebookNode, waiting: set[str]) -> str:
    graded = cell.metadata.nbgrader
    link = f'<a href="#{html.escape(graded.grade_id)}">{html.escape(title)}</a>'
    unread = graded.grade_id in waiting
    points = f"{'' if unread else f'{graded.score:g}'} / {graded.points:g}"
    said = "waits to be read" if unread else _said(cell)
    return f"<tr><td>{link}</td><td>{points}</td><td>{html.escape(said)}</td></tr>"


def _said(cell: NotebookNode) -> str:
    """The mistakes that a message names; its first line if it names none."""
    if is_solution(cell):
        return "" if cell.metadata.nbgrader.score else "no answer"
    outputs = cell.get("outputs", [])
    messages = [output for output in outputs if output.output_type == "error"]
    if not messages:
        noise = any(output.get("name") == "stderr" for output in outputs)
        return "the test printed warnings, see below" if noise else "right"
    lines = ANSI.sub("", messages[0].traceback[1]).split("\n")
    return " ".join(line[2:] for line in lines if line.startswith("- ")) or lines[0]
