"""Scores in nbgrader's own gradebook, through its API: SQLite, or PostgreSQL by its address."""

import json
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import create_engine, insert, inspect, select, text, update

from grading.core import Result
from grading.notebooks import SourceNotebook, Submission


@dataclass(frozen=True)
class CellIds:
    """The ids that a gradebook gives to a notebook and, by name, to its graded and other cells."""

    notebook: str
    grades: Mapping[str, str]
    comments: Mapping[str, str]


@dataclass(frozen=True)
class EnteredAssignment:
    """An assignment that is in a gradebook: its id there, and those of its notebooks' cells."""

    id: str
    notebooks: Mapping[str, CellIds]


@contextmanager
def opened(db_url: str) -> Iterator[Any]:
    """nbgrader's gradebook at an address, such as `sqlite:///gradebook.db` or `postgresql://...`.

    A psycopg address needs no other driver than the one in the `grading` group of packages.
    """
    if db_url.startswith(("postgresql://", "postgres://")):
        db_url = "postgresql+psycopg://" + db_url.split("://", 1)[1]
    with _without_uri_grammar():
        from nbgrader.api import Gradebook
    _mark_version(db_url)
    # nbgrader builds its rows in an order that SQLAlchemy remarks on, line after line.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Object of type .* not in session")
        with Gradebook(db_url) as gradebook:
            yield gradebook


@contextmanager
def _without_uri_grammar() -> Iterator[None]:
    """Let jsonschema do without a package whose import compiles a grammar for a second or more.

    It is for addresses of a kind that no notebook has.
    """
    name = "rfc3987_syntax"
    added = name not in sys.modules
    if added:
        sys.modules[name] = None  # an import of it raises ImportError, which is what they expect
    try:
        yield
    finally:
        if added:
            del sys.modules[name]


def _mark_version(db_url: str) -> None:
    """Write into a new gradebook which version it has, for which nbgrader starts a process."""
    import nbgrader
    from alembic.script import ScriptDirectory

    engine = create_engine(db_url)
    with engine.begin() as connection:
        if not inspect(engine).get_table_names():
            (head,) = ScriptDirectory(str(Path(nbgrader.__file__).parent / "alembic")).get_heads()
            connection.execute(
                text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
            )
            connection.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": head})
    engine.dispose()


def register(
    gradebook: Any, assignment: str, sources: Sequence[SourceNotebook]
) -> EnteredAssignment:
    """Enter an assignment's cells as `nbgrader generate_assignment` does, where they are missing.

    Points follow the source.
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
    entered = gradebook.find_assignment(assignment)
    return EnteredAssignment(str(entered.id), {n.name: _ids(n) for n in entered.notebooks})


def _ids(notebook: Any) -> CellIds:
    grades = [*notebook.grade_cells, *notebook.task_cells]
    comments = [*notebook.solution_cells, *notebook.task_cells]
    by_name = ({cell.name: str(cell.id) for cell in cells} for cells in (grades, comments))
    return CellIds(str(notebook.id), *by_name)


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
    entered: EnteredAssignment,
    student: str,
    graded: Mapping[str, tuple[SourceNotebook, Submission | None, Result | None]],
    when: str = "",
) -> None:
    """Write one student's scores, in one transaction; `when` is the moment they were handed in.

    What was graded by hand stays, and is marked for another look. The rows are those of nbgrader's
    `add_submission`, which takes six transactions and ten times as long.
    """
    from nbgrader.api import Student, SubmittedAssignment, SubmittedNotebook

    db = gradebook.db.connection()
    about = {"timestamp": moment} if (moment := _moment(when)) else {}
    _, new = _row(db, Student, {"id": student}, {})
    mine = {"assignment_id": entered.id, "student_id": student}
    submission, new = _row(db, SubmittedAssignment, mine, about, new)
    for name, (source, work, result) in graded.items():
        ids = entered.notebooks[name]
        mine = {"assignment_id": submission, "notebook_id": ids.notebook}
        notebook, fresh = _row(db, SubmittedNotebook, mine, {}, new)
        _write_grades(db, notebook, ids, _scores(source, work, result), fresh)
        _write_comments(db, notebook, ids, _remarks(source, work, result), fresh)
    gradebook.db.commit()


def _moment(when: str) -> datetime | None:
    """A time as nbgrader writes it, in UTC; None for what is none."""
    from nbgrader.utils import parse_utc

    try:
        return parse_utc(when) if when else None
    except (ValueError, OverflowError):
        return None


def _row(
    db: Any, model: Any, key: dict[str, str], about: dict[str, Any], new: bool = False
) -> tuple[str, bool]:
    """The id of the row with this key, and whether it had to be made; `new` if it cannot exist."""
    table = model.__table__
    where = [table.c[name] == value for name, value in key.items()]
    found = None if new else db.execute(select(table.c.id).where(*where)).scalar()
    if found is None:
        found = key.get("id") or uuid4().hex
        db.execute(insert(table), [{**key, "id": found, **about}])
        return found, True
    if about:
        db.execute(update(table).where(*where).values(**about))
    return found, False


def _scores(
    source: SourceNotebook, work: Submission | None, result: Result | None
) -> Callable[[str], float | None]:
    """The points of a cell by its name; None where a person has to read it."""
    points = {verdict.grade_id: verdict.points for verdict in result.verdicts} if result else {}
    answered = _answered(source, work)
    return lambda name: points.get(name, None if name in answered else 0)


def _remarks(
    source: SourceNotebook, work: Submission | None, result: Result | None
) -> Callable[[str], str | None]:
    """What stands beside a cell by its name."""
    blank = {each.grade_id for each in source.written} - _answered(source, work)
    unsafe = "Graded without a sandbox (--unsafe)." if result and result.unsafe else None
    return lambda name: "No response." if name in blank else unsafe


def _write_grades(
    db: Any, notebook: str, ids: CellIds, score: Callable[[str], float | None], new: bool
) -> None:
    from nbgrader.api import Grade

    table = Grade.__table__
    there = select(table.c.cell_id, table.c.manual_score).where(table.c.notebook_id == notebook)
    by_hand = {} if new else dict(db.execute(there).all())
    rows = []
    for name, cell in ids.grades.items():
        points = score(name)
        manual = points is None or by_hand.get(cell) is not None
        rows.append({"cell_id": cell, "auto_score": points, "needs_manual_grade": manual})
    _write(db, table, notebook, rows, set(by_hand))


def _write_comments(
    db: Any, notebook: str, ids: CellIds, remark: Callable[[str], str | None], new: bool
) -> None:
    from nbgrader.api import Comment

    table = Comment.__table__
    there = select(table.c.cell_id).where(table.c.notebook_id == notebook)
    known = set() if new else set(db.execute(there).scalars())
    rows = [{"cell_id": cell, "auto_comment": remark(name)} for name, cell in ids.comments.items()]
    _write(db, table, notebook, rows, known)


def _write(db: Any, table: Any, notebook: str, rows: list[dict], there: set[str]) -> None:
    """Insert the rows of cells that are not there, and update those that are."""
    new = [
        {**row, "id": uuid4().hex, "notebook_id": notebook}
        for row in rows
        if row["cell_id"] not in there
    ]
    if new:
        db.execute(insert(table), new)
    for row in rows:
        if row["cell_id"] in there:
            where = (table.c.notebook_id == notebook, table.c.cell_id == row["cell_id"])
            db.execute(update(table).where(*where).values(**row))


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
    temporary.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
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
