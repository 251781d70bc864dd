"""Split grading inside nbgrader: `nbgrader autograde` with two preprocessors of ours, no patch.

    from grading.plugin import configure
    configure(get_config())

Everything else stays nbgrader's: gradebook, formgrader, feedback, exporters. What it cannot mend
from there is what nbgrader does with files before a notebook is read: `python -m grading grade`
copies them without following links.
"""

import atexit
import json
from functools import cache
from typing import Any

from nbformat import NotebookNode, from_dict
from nbgrader.api import Gradebook
from nbgrader.preprocessors import (
    AssignLatePenalties,
    CheckCellMetadata,
    ClearOutput,
    DeduplicateIds,
    LimitOutput,
    NbGraderPreprocessor,
    OverwriteCells,
    OverwriteKernelspec,
    SaveAutoGrades,
)

from exercises.course import course_secret
from grading.core import Cell, Grader, Problem, TestCell
from grading.gradebook import outputs_of
from grading.notebooks import IntakeError, SourceNotebook, Written, read_submission
from grading.pool import lost


def configure(c: Any) -> None:
    """Set nbgrader's two lists of preprocessors for `nbgrader autograde`."""
    c.Autograde.sanitize_preprocessors = [
        *(RebuildMetadata, ClearOutput, DeduplicateIds),
        *(OverwriteKernelspec, OverwriteCells, CheckCellMetadata),
    ]
    c.Autograde.autograde_preprocessors = [
        *(SplitExecute, LimitOutput, SaveAutoGrades, AssignLatePenalties, CheckCellMetadata)
    ]


class RebuildMetadata(NbGraderPreprocessor):
    """Give a submission the metadata of the gradebook, and put back the cells that it lacks."""

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        rows = _rows(resources["nbgrader"])
        seen: set[str] = set()
        for cell in nb.cells:
            graded = cell.metadata.get("nbgrader")
            name = graded.get("grade_id") if isinstance(graded, dict) else None
            cell.metadata = NotebookNode()
            if isinstance(name, str) and name in rows and name not in seen:
                seen.add(name)
                cell.metadata.nbgrader = from_dict(rows[name]["nbgrader"])
        for name, row in rows.items():
            if name not in seen:
                nb.cells.append(_cell(row))
        return nb, resources


class SplitExecute(NbGraderPreprocessor):
    """Grade in the sandbox; a test that passed shows its points, every other one an error."""

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        place = resources["nbgrader"]
        source = _source(place["notebook"], _rows(place))
        try:
            submission = read_submission(json.dumps(nb).encode(), source)
            result = _grader().grade(source.problem, submission.cells, course_secret())
        except IntakeError as error:
            result = lost(source.problem, str(error), unsafe=False)
        verdicts = {verdict.grade_id: verdict for verdict in result.verdicts}
        for cell in nb.cells:
            if cell.cell_type == "code":
                name = cell.metadata.get("nbgrader", {}).get("grade_id")
                outputs = outputs_of(verdicts[name]) if name in verdicts else []
                cell.outputs = [from_dict(output) for output in outputs]
        return nb, resources


@cache
def _grader() -> Grader:
    grader = Grader().__enter__()
    atexit.register(grader.close)
    return grader


def _rows(place: dict) -> dict[str, dict]:
    """The source's cells by id, in order, with the metadata that nbgrader gives them."""
    with Gradebook(place["db_url"]) as gradebook:
        notebook = gradebook.find_notebook(place["notebook"], place["assignment"])
        points = {
            cell.name: cell.max_score for cell in (*notebook.grade_cells, *notebook.task_cells)
        }
        grades, tasks = ({c.name for c in s} for s in (notebook.grade_cells, notebook.task_cells))
        solutions = {cell.name for cell in notebook.solution_cells}
        return {
            cell.name: {
                "cell_type": cell.cell_type,
                "source": cell.source,
                "nbgrader": {
                    "grade_id": cell.name,
                    "grade": cell.name in grades,
                    "solution": cell.name in solutions,
                    "task": cell.name in tasks,
                    "locked": bool(cell.locked),
                    "schema_version": 3,
                    "cell_type": cell.cell_type,
                    "checksum": cell.checksum,
                    **({"points": points[cell.name]} if cell.name in points else {}),
                },
            }
            for cell in notebook.source_cells
        }


def _cell(row: dict) -> NotebookNode:
    about = {"outputs": [], "execution_count": None} if row["cell_type"] == "code" else {}
    metadata = {"nbgrader": dict(row["nbgrader"])}
    cell = {"cell_type": row["cell_type"], "source": row["source"], "metadata": metadata, **about}
    return from_dict({**cell, "id": row["nbgrader"]["grade_id"][:64]})


def _source(name: str, rows: dict[str, dict]) -> SourceNotebook:
    cells: list[Cell | TestCell] = []
    written = []
    for grade_id, row in rows.items():
        graded, text = row["nbgrader"], row["source"]
        if graded["task"] or (graded["grade"] and graded["solution"]):
            written.append(Written(grade_id, graded["points"], text, row["cell_type"]))
        if row["cell_type"] != "code":
            continue
        if graded["grade"] and not graded["solution"]:
            cells.append(TestCell(grade_id, text, graded["points"]))
        else:
            locked = graded["locked"] and not graded["solution"]
            cells.append(Cell(text, grade_id, "locked" if locked else "student"))
    content = {"cells": [_cell(row) for row in rows.values()]}
    return SourceNotebook(Problem(name, tuple(cells)), tuple(written), content)
