"""Grade one submission: the student's cells in one sandbox, the tests in another.

    with Grader() as grader:
        result = grader.grade(problem, student_cells, secret)

`grade` never raises for a bad submission. A test without a verdict has no points.
"""

import ast
import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Literal

from grading.sandbox import Limits, NoSandboxError
from grading.worker import Cgroup, Parent, Side, Watch, WorkerError, memory_file

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


class Parents:
    """Two sandboxed parents with torch loaded, from which the graders of a machine branch off.

    They start when they are first needed. Thread-safe.
    """

    def __init__(self, limits: Limits | None = None, unsafe: bool = False) -> None:
        self.limits, self.unsafe, self.tier = limits or Limits(), unsafe, "none"
        self._lock = threading.Lock()
        self._roles: dict[str, Parent] = {}
        self._rehearsed: set[tuple[Problem, str]] = set()
        self._warm: dict[str, set[str]] = {"student": set(), "test": set()}

    def start(self) -> None:
        """Nothing if they run. Raises `NoSandboxError` where there are no walls, unless unsafe."""
        with self._lock:
            self._start()

    def close(self) -> None:
        """End both, and whatever runs below them."""
        for parent in self._roles.values():
            parent.close()
        self._roles.clear()

    def _start(self) -> None:
        if self._roles:
            return
        for role in ("student", "test"):
            self._roles[role] = Parent(role, self.limits, self.unsafe)
        try:
            for role, parent in self._roles.items():
                parent.wait_until_ready()
                parent.warm(sorted(self._warm[role]))
            self._rehearsed.clear()
        except WorkerError as error:
            self.close()
            raise NoSandboxError(f"the sandbox does not start on this machine: {error}") from None
        walls = f"bubblewrap, {_user()}, {_memory(self.limits)}"
        self.tier = "none (unsafe)" if self.unsafe else walls

    def branches(
        self, problem: Problem, secret: str, limits: Limits
    ) -> tuple[dict[str, Side], set[tuple[Problem, str]]]:
        """A student's and a test's side, and all the problems that they know, this one too.

        Parents that have ended are started anew. Raises `WorkerError` if they end again.
        """
        with self._lock:
            try:
                return self._branches(problem, secret, limits)
            except (WorkerError, OSError):
                self.close()
            return self._branches(problem, secret, limits)

    def _branches(self, problem: Problem, secret: str, limits: Limits) -> tuple[dict, set]:
        self._start()
        self._prepare(problem, secret)
        sides: dict[str, Side] = {}
        try:
            for role, parent in self._roles.items():
                sides[role] = parent.branch()
            for side in sides.values():
                side.wait_until_ready(limits)
        except BaseException:
            for side in sides.values():
                side.close()
            raise
        return sides, set(self._rehearsed)

    def _prepare(self, problem: Problem, secret: str) -> None:
        """Let the parents load what this problem's own cells import, and try its tests."""
        if (problem, secret) in self._rehearsed:
            return
        for role, parent in self._roles.items():
            cells = [c for c in problem.cells if role == "test" or isinstance(c, Cell)]
            new = {name for cell in cells for name in _modules(cell.source)} - self._warm[role]
            if new:
                parent.warm(sorted(new))
                self._warm[role] |= new
        loaded = self._roles["test"].rehearse([_about(cell) for cell in problem.cells], secret)
        self._roles["student"].warm(loaded)
        self._rehearsed.add((problem, secret))


class Grader:
    """What one worker grades with, one submission after the other: a branch of both parents.

    `parents` are shared with other graders; without, this one has its own. Raises `NoSandboxError`
    where there are no walls and `unsafe` was not asked for.
    """

    def __init__(
        self, limits: Limits | None = None, unsafe: bool = False, parents: Parents | None = None
    ) -> None:
        self._parents, self._shared = parents or Parents(limits, unsafe), parents is not None
        self.limits = limits or self._parents.limits
        self._sides: dict[str, Side] = {}
        self._known: set[tuple[Problem, str]] = set()

    def __enter__(self) -> "Grader":
        self._parents.start()
        return self

    @property
    def unsafe(self) -> bool:
        """Whether it grades without walls."""
        return self._parents.unsafe

    @property
    def tier(self) -> str:
        """The walls: who builds them, who one is, and who counts the memory."""
        return self._parents.tier

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End what runs for this grader; its parents too, unless they are shared."""
        self._let_go()
        if not self._shared:
            self._parents.close()

    def _let_go(self) -> None:
        for side in self._sides.values():
            side.close()
        self._sides.clear()
        self._known.clear()

    def grade(self, problem: Problem, student_cells: Sequence[Cell | str], secret: str) -> Result:
        """Run a submission; never raises for a bad one. No verdict, no points."""
        started, notes, said = time.monotonic(), [], []
        for attempt in (1, 2):
            try:
                self._prepare(problem, secret)
                said = self._run(problem, list(steps(problem, student_cells)), secret, notes)
                break
            except (WorkerError, OSError) as error:
                self._let_go()
                if attempt == 2:
                    notes.append(f"the sandbox failed twice: {error}")
        verdicts = tuple(_verdict(test, said) for test in problem.tests)
        seconds = time.monotonic() - started
        return Result(verdicts, self.tier, self.unsafe, tuple(notes), seconds)

    def alive(self) -> int:
        """How many processes of submissions there still are; 0 between two of them."""
        return sum(len(side.children()) for side in self._sides.values())

    def _prepare(self, problem: Problem, secret: str) -> None:
        """Branches of parents that know this problem."""
        if (problem, secret) not in self._known:
            self._let_go()
            self._sides, self._known = self._parents.branches(problem, secret, self.limits)

    def _run(
        self, problem: Problem, plan: list[Cell | TestCell], secret: str, notes: list[str]
    ) -> list[dict]:
        cells = [cell.source for cell in plan if isinstance(cell, Cell)]
        jobs = {"student": {"cells": cells}, "test": self._test_job(problem, plan, secret)}
        ours, theirs = socket.socketpair()
        output, printed = os.pipe()
        verdicts, told = os.pipe()
        handles = [output, verdicts]
        try:
            files = {role: memory_file(json.dumps(job).encode()) for role, job in jobs.items()}
            self._sides["student"].fork([theirs.fileno(), printed, files["student"]], self.limits)
            self._sides["test"].fork([ours.fileno(), told, files["test"]], self.limits)
            for handle in (printed, told, *files.values()):
                os.close(handle)
            ours.close()
            theirs.close()
            return self._watch(output, verdicts, notes)
        finally:
            for handle in handles:
                os.close(handle)

    def _watch(self, output: int, verdicts: int, notes: list[str]) -> list[dict]:
        student, test = self._sides["student"], self._sides["test"]
        watch = Watch(verdicts, output, self.limits.output)

        def too_large() -> bool:
            if student.limited_by_cgroup or not student.holds_more_than(self.limits.memory):
                return False
            notes.append(f"used more than {self.limits.memory >> 20} MiB of memory and was stopped")
            student.kill()
            student.ended(10)
            return False

        def check() -> bool:
            return student.forked and too_large()

        deadline = time.monotonic() + self.limits.submission_seconds
        if not watch.until(deadline, check):
            notes.append(f"stopped after {self.limits.submission_seconds:g} seconds")
        for side in (test, student):
            if side.forked:
                side.kill()
                side.ended(10)
        return watch.said()

    def _test_job(self, problem: Problem, plan: list[Cell | TestCell], secret: str) -> dict:
        return {
            "secret": secret,
            "imports": _imports(problem),
            "cell_seconds": self.limits.cell_seconds,
            "test_seconds": self.limits.test_seconds,
            "steps": [_about(cell) for cell in plan],
        }


def _user() -> str:
    return "root" if os.geteuid() == 0 else "user"


def _memory(limits: Limits) -> str:
    """What holds the limit on memory: the kernel where groups can be made, else we look."""
    group = Cgroup.make(limits)
    if group is None:
        return "watchdog"
    group.remove()
    return "cgroup"


def _about(cell: Cell | TestCell) -> dict:
    if isinstance(cell, TestCell):
        return {"kind": "test", **vars(cell)}
    return {"kind": cell.kind, "source": cell.source}


def _verdict(test: TestCell, said: list[dict]) -> Verdict:
    mine = [row for row in said if row.get("grade_id") == test.grade_id]
    if len(mine) != 1:
        return Verdict(test.grade_id, 0.0, test.points, "lost", "this test did not come to an end")
    row = mine[0]
    return Verdict(
        test.grade_id,
        row["points"] if row["status"] == "passed" else 0.0,
        test.points,
        row["status"],
        row["message"],
        row["student_output"],
        row["seconds"],
        tuple(bytes.fromhex(plot) for plot in row["plots"]),
    )


@lru_cache(maxsize=64)
def _imports(problem: Problem) -> list[str]:
    """The import statements at the top level of the source's cells."""
    found = []
    for cell in problem.cells:
        with contextlib.suppress(SyntaxError):
            body = ast.parse(cell.source).body if isinstance(cell, Cell) else ()
            found += [ast.unparse(n) for n in body if isinstance(n, ast.Import | ast.ImportFrom)]
    return found


def _modules(source: str) -> Iterator[str]:
    """Every module that a cell imports, in functions too."""
    with contextlib.suppress(SyntaxError):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
