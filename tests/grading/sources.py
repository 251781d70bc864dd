"""The course's own notebooks as problems, and their seeded mistakes as submissions."""

from collections.abc import Iterator
from types import ModuleType

import nbformat

from grading.core import Cell, Problem, TestCell
from tests.exercises.kill_rate import SOURCE, Notebook


def problem_of(notebook: str) -> Problem:
    """A source notebook, with its solutions and hidden tests."""
    cells: list[Cell | TestCell] = []
    for cell in nbformat.read(SOURCE / notebook, as_version=4).cells:
        about = cell.metadata.get("nbgrader", {})
        if cell.cell_type != "code":
            continue
        if about.get("grade") and not about.get("solution"):
            cells.append(TestCell(about["grade_id"], cell.source, float(about["points"])))
        else:
            kind = "locked" if about.get("locked") else "student"
            cells.append(Cell(cell.source, about.get("grade_id"), kind))
    return Problem(notebook, tuple(cells))


def answers(table: ModuleType, problem: Problem) -> Iterator[tuple[str, list[Cell], bool]]:
    """The test in question, a submission that differs in one function, whether it is right."""
    notebook = Notebook(SOURCE / table.NOTEBOOK)
    for functions in table.PROBLEMS.values():
        for function in functions:
            wrong = [
                notebook.edited(function, old, new) for _, old, new in table.MISTAKES[function]
            ]
            right = [notebook.solution(function), *table.ALTERNATIVES[function]]
            for source, is_right in [*((w, False) for w in wrong), *((r, True) for r in right)]:
                name = function.replace("_", "-")
                text = table.EVERYTHING + source
                yield f"test-{name}", list(exchanged(problem, name, text)), is_right


def exchanged(problem: Problem, name: str, source: str) -> Iterator[Cell]:
    """The source's own cells, one of them with another text, and the places of its tests."""
    for cell in problem.cells:
        if isinstance(cell, TestCell):
            yield Cell("", cell.grade_id, "test")
        else:
            yield Cell(source, name) if cell.cell_id == name else cell
