"""Scores in nbgrader's own gradebook, through its API: SQLite, or PostgreSQL by its address."""

import json
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from grading.core import Result
from grading.notebooks import SourceNotebook, Submission


@contextmanager
def opened(db_url: str) -> Iterator[Any]:
    """nbgrader's gradebook at an address, such as `sqlite:///gradebook.db` or `postgresql://...`.

    A psycopg address needs no other driver than the one in the `grading` group of packages.
    """
    from nbgrader.api import Gradebook

    # It calls `alembic` by its bare name.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    if db_url.startswith(("postgresql://", "postgres://")):
        db_url = "postgresql+psycopg://" + db_url.split("://", 1)[1]
    # nbgrader builds its rows in an order that SQLAlchemy remarks on, line after line.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Object of type .* not in session")
        with Gradebook(db_url) as gradebook:
            yield gradebook


def register(gradebook: Any, assignment: str, sources: Sequence[SourceNotebook]) -> str:
    """Enter an assignment's cells as `nbgrader generate_assignment` does, where they are missing.

    Points follow the source. Returns the assignment's id in this gradebook.
    """
    from nbgrader.api import MissingEntry

    try:
        known = {notebook.name for notebook in gradebook.find_assignment(assignment).notebooks}
    except MissingEntry:
        gradebook.add_assignment(assignment)
        known = set()
    for source in sources:
        if source.problem.name not in known:
            _save_cells(gradebook, assignment, source)
        _update_points(gradebook, assignment, source)
    return str(gradebook.find_assignment(assignment).id)


def _save_cells(gradebook: Any, assignment: str, source: SourceNotebook) -> None:
    from nbformat import from_dict
    from nbgrader.utils import compute_checksum

    notebook = source.problem.name
    gradebook.update_or_create_notebook(notebook, assignment)
    for raw in source.content["cells"]:
        graded = raw["metadata"].get("nbgrader") or {}
        if not graded.get("grade_id"):
            continue
        cell = from_dict({**raw, "source": "".join(raw["source"])})
        name, kind = graded["grade_id"], raw["cell_type"]
        text = {"cell_type": kind, "source": _blank(cell.source, graded)}
        cell.source = text["source"]
        locked = bool(graded.get("locked"))
        checksum = compute_checksum(cell)
        gradebook.update_or_create_source_cell(
            name, notebook, assignment, **text, locked=locked, checksum=checksum
        )
        if graded.get("grade"):
            points = float(graded["points"])
            gradebook.update_or_create_grade_cell(
                name, notebook, assignment, max_score=points, cell_type=kind
            )
        if graded.get("solution"):
            gradebook.update_or_create_solution_cell(name, notebook, assignment)
        if graded.get("task"):
            points = float(graded["points"])
            gradebook.update_or_create_task_cell(
                name, notebook, assignment, max_score=points, cell_type=kind
            )


def _blank(source: str, graded: dict) -> str:
    from grading.notebooks import SOLUTION

    return SOLUTION.sub("", source) if graded.get("solution") else source


def _update_points(gradebook: Any, assignment: str, source: SourceNotebook) -> None:
    for test in source.problem.tests:
        cell = gradebook.find_grade_cell(test.grade_id, source.problem.name, assignment)
        if cell.max_score != test.points:
            cell.max_score = test.points
    gradebook.db.commit()


def record(
    gradebook: Any,
    assignment: str,
    student: str,
    graded: dict[str, tuple[SourceNotebook, Submission | None, Result | None]],
    timestamp: datetime | None = None,
) -> None:
    """Write one student's scores. What was graded by hand stays, and is marked for another look."""
    gradebook.update_or_create_student(student)
    about = {"timestamp": timestamp} if timestamp else {}
    submission = gradebook.update_or_create_submission(assignment, student, **about)
    for notebook in submission.notebooks:
        if notebook.name not in graded:
            continue
        source, work, result = graded[notebook.name]
        verdicts = {verdict.grade_id: verdict for verdict in result.verdicts} if result else {}
        answered = _answered(source, work)
        for grade in notebook.grades:
            if grade.name in verdicts:
                grade.auto_score = verdicts[grade.name].points
            else:
                grade.auto_score = None if grade.name in answered else 0
            by_hand = grade.manual_score is not None
            grade.needs_manual_grade = by_hand or grade.auto_score is None
        for comment in notebook.comments:
            blank = comment.name in {w.grade_id for w in source.written} - answered
            unsafe = "Graded without a sandbox (--unsafe)." if result and result.unsafe else None
            comment.auto_comment = "No response." if blank else unsafe
    gradebook.db.commit()


def _answered(source: SourceNotebook, work: Submission | None) -> set[str]:
    """The written answers that are more than what students were given."""
    if work is None:
        return set()
    blank = {each.grade_id: each.blank for each in source.written}
    stub = "YOUR ANSWER HERE"
    return {
        name
        for name, text in work.answers.items()
        if text.strip() not in (blank.get(name, "").strip(), stub) and name in blank
    }


def write_graded_notebook(
    path: Path, source: SourceNotebook, work: Submission | None, result: Result | None
) -> None:
    """What formgrader shows: the source's cells, the student's answers, the verdicts."""
    own = (
        {cell.cell_id: cell.source for cell in work.cells if cell.kind == "student"} if work else {}
    )
    loose = [c.source for c in work.cells if c.kind == "student" and not c.cell_id] if work else []
    verdicts = {verdict.grade_id: verdict for verdict in result.verdicts} if result else {}
    cells = [
        _cell(raw, own, work.answers if work else {}, verdicts) for raw in source.content["cells"]
    ]
    cells += [_code(text, f"student-{number}") for number, text in enumerate(loose)]
    content = {**source.content, "cells": cells}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".writing")
    temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    temporary.replace(path)


def _code(source: str, cell_id: str) -> dict:
    about = {"cell_type": "code", "execution_count": None, "outputs": [], "metadata": {}}
    return {**about, "id": cell_id, "source": source}


def _cell(raw: dict, own: dict, answers: Any, verdicts: dict) -> dict:
    graded = raw["metadata"].get("nbgrader") or {}
    name, source = graded.get("grade_id"), "".join(raw["source"])
    cell = {**raw, "source": source}
    if graded.get("solution"):
        text = own.get(name, "# nothing was handed in here") if raw["cell_type"] == "code" else ""
        cell["source"] = answers.get(name, text)
    if raw["cell_type"] == "code":
        cell["outputs"] = outputs_of(verdicts[name]) if name in verdicts else []
    return cell


def outputs_of(verdict: Any) -> list[dict]:
    """A verdict as nbgrader reads it off a cell: points, or an error; never nothing at all."""
    printed = []
    if verdict.student_output:
        printed = [{"output_type": "stream", "name": "stdout", "text": verdict.student_output}]
    if verdict.status == "passed":
        shown = {"text/plain": f"{verdict.points:g}"}
        passed = {
            "output_type": "execute_result",
            "execution_count": 1,
            "metadata": {},
            "data": shown,
        }
        return [passed, *printed]
    name = {"failed": "AssertionError"}.get(verdict.status, verdict.status)
    lines = [name, verdict.message]
    failed = {"output_type": "error", "ename": name, "evalue": verdict.message, "traceback": lines}
    return [failed, *printed]
