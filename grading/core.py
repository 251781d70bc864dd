"""Grade one submission: the student's cells in one sandbox, the tests in another.

    with Grader() as grader:
        result = grader.grade(problem, student_cells, secret)

`grade` never raises for a bad submission. A test without a verdict has no points.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["student", "locked", "test", "markdown"]
Status = Literal["passed", "failed", "error", "timeout", "lost"]


@dataclass(frozen=True)
class Cell:
    """A cell that is no test: the student's own, or a locked one that comes from the source.

    `cell_id` is nbgrader's grade_id where there is one. In a submission a cell with the id of a
    locked cell or of a test marks only the place: what runs there is the source's version.
    """

    source: str
    cell_id: str | None = None
    kind: Kind = "student"


@dataclass(frozen=True)
class TestCell:
    """A locked test of the source notebook, hidden tests included."""

    grade_id: str
    source: str
    points: float

    __test__ = False  # the name is no invitation to pytest


@dataclass(frozen=True)
class Problem:
    """A source notebook: its cells in order, as `Cell` (with solutions) and `TestCell`."""

    name: str
    cells: tuple[Cell | TestCell, ...]

    @property
    def tests(self) -> tuple[TestCell, ...]:
        """The tests, in order."""
        return tuple(cell for cell in self.cells if isinstance(cell, TestCell))


@dataclass(frozen=True)
class Verdict:
    """What became of one test. `message` and `student_output` are bounded, and not yet escaped."""

    grade_id: str
    points: float
    max_points: float
    status: Status
    message: str = ""
    student_output: str = ""
    seconds: float = 0.0
    plots: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Result:
    """The verdicts on a submission, one for each test of the problem, in its order."""

    verdicts: tuple[Verdict, ...]
    tier: str
    unsafe: bool
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def points(self) -> float:
        """The sum over all tests."""
        return sum(verdict.points for verdict in self.verdicts)


def steps(problem: Problem, student_cells: Sequence[Cell | str]) -> Iterator[Cell | TestCell]:
    """What runs, in order: the student's cells, and the source's locked cells and tests.

    A `Cell` whose id is that of a locked cell or a test marks where the source's version runs.
    Those run in the source's order, each once, whatever a submission does to them: one that is
    missing runs before the next one, or at the end. Plain strings have no marks: they take the
    places of the source's own student cells, and those that are too many come with the last.
    """
    fixed = [cell for cell in problem.cells if not _is_students(cell)]
    if all(isinstance(cell, str) for cell in student_cells):
        yield from _by_place(problem, [Cell(source) for source in student_cells])
        return
    places = {_identity(cell): place for place, cell in enumerate(fixed)}
    done = 0
    for cell in student_cells:
        cell = Cell(cell) if isinstance(cell, str) else cell
        place = places.get(_identity(cell)) if _identity(cell) else None
        if place is not None:
            yield from fixed[done : place + 1]
            done = max(done, place + 1)
        elif cell.kind == "student":
            yield cell
    yield from fixed[done:]


def _by_place(problem: Problem, own: list[Cell]) -> Iterator[Cell | TestCell]:
    slots = sum(map(_is_students, problem.cells))
    if not slots:
        yield from own
    for cell in problem.cells:
        if not _is_students(cell):
            yield cell
            continue
        slots -= 1
        taken = own[:1] if slots else own
        own = own[len(taken) :]
        yield from taken


def _is_students(cell: Cell | TestCell) -> bool:
    return isinstance(cell, Cell) and cell.kind == "student"


def _identity(cell: Cell | TestCell) -> str | None:
    return cell.grade_id if isinstance(cell, TestCell) else cell.cell_id
