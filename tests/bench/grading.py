"""The grader against nbgrader and otter-grader, taking turns: `python -m tests.bench.grading`.

    python -m tests.bench.grading [SUBMISSIONS] [--work NAME] [--otter PYTHON]

All grade the same right submissions: of task2-memory, with 12 tests of plain numbers, or of a small
notebook with two tests of tensors, for which nbgrader and otter load torch each time. nbgrader and
we write a gradebook and feedback pages too. PYTHON is that of an environment with otter-grader
7.0.0; without it, otter is left out.
Each run is timed by the clock and by the CPU time of all its processes, sandbox and start
included. A peer grades one submission and then three, which gives its start and what one more
costs; a class of as many as ours is reckoned from that. Needs root and cgroup v1, for the CPU time.
"""

import argparse
import atexit
import copy
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from functools import cache
from io import StringIO
from pathlib import Path

from grading.core import Cell, Grader, Problem
from grading.notebooks import read_source
from grading.worker import CGROUPS

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "exercises/source/task2-memory/arithmetic-intensity.ipynb"
FEW, MORE, TURNS = 1, 3, 3
OTTER = """
import sys
from otter.api import grade_submission
for path in sys.argv[3:]:
    assert float(grade_submission(path, sys.argv[1], quiet=True).total) == float(sys.argv[2])
"""
SOFTMAX, ATTENTION = (
    """
def softmax(x):
    ### BEGIN SOLUTION
    e = torch.exp(x - x.amax(-1, keepdim=True))
    return e / e.sum(-1, keepdim=True)
    ### END SOLUTION
""",
    """
def attention(q, k, v):
    ### BEGIN SOLUTION
    return softmax(q @ k.mT / q.shape[-1] ** 0.5) @ v
    ### END SOLUTION
""",
)
TEST_SOFTMAX, TEST_ATTENTION = (
    """
x = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
torch.testing.assert_close(softmax(x).sum(-1), torch.ones(2))
### BEGIN HIDDEN TESTS
for shape in [(3,), (2, 5), (4, 1, 6)]:
    y = 100 * torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))
    torch.testing.assert_close(softmax(y), torch.softmax(y, -1))
### END HIDDEN TESTS
""",
    """
q, k, v = torch.randn(3, 2, 4, 8, generator=torch.Generator().manual_seed(0))
assert attention(q, k, v).shape == q.shape
### BEGIN HIDDEN TESTS
expected = torch.nn.functional.scaled_dot_product_attention(q, k, v)
torch.testing.assert_close(attention(q, k, v), expected)
### END HIDDEN TESTS
""",
)


@dataclass(frozen=True)
class Costs:
    """Seconds by the clock, and of CPU."""

    clock: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.clock:7.3f} s, CPU {self.cpu:7.3f} s"


@dataclass(frozen=True)
class Peer:
    """What one submission takes alone, and what one more takes."""

    first: Costs
    more: Costs

    def whole(self, count: int) -> Costs:
        """A class of so many."""
        clock = self.first.clock + (count - 1) * self.more.clock
        return Costs(clock, self.first.cpu + (count - 1) * self.more.cpu)


@dataclass(frozen=True)
class Work:
    """What is graded: an assignment of one notebook, with its source."""

    assignment: str
    notebook: str
    source: dict

    def write(self, folder: Path) -> Path:
        """The source in a folder of its own, as in a course."""
        path = folder / self.assignment / f"{self.notebook}.ipynb"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(self.source))
        return path

    def problem(self) -> Problem:
        """The source as the grader has it."""
        with tempfile.TemporaryDirectory() as folder:
            return read_source(self.write(Path(folder))).problem


def _small_notebook() -> dict:
    """Two functions of tensors, each with a test."""
    parts = [("import torch", "imports", 0, False), (SOFTMAX, "softmax", 0, True)]
    parts += [(TEST_SOFTMAX, "test-softmax", 2, False), (ATTENTION, "attention", 0, True)]
    parts += [(TEST_ATTENTION, "test-attention", 2, False)]
    cells = []
    for source, name, points, solution in parts:
        graded = {"grade_id": name, "schema_version": 3, "task": False, "locked": not solution}
        graded |= {"grade": points > 0, "solution": solution}
        graded |= {"points": points} if points else {}
        cells.append({**_own(0), "id": name, "source": source.strip()})
        cells[-1]["metadata"] = {"nbgrader": graded}
    about = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return {"cells": cells, "metadata": about, "nbformat": 4, "nbformat_minor": 5}


def work(name: str) -> Work:
    """One of the two by its name."""
    if name == "attention":
        return Work("small", "attention", _small_notebook())
    return Work("task2-memory", SOURCE.stem, json.loads(SOURCE.read_text()))


def main() -> None:
    """Print each turn, then the median of the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("submissions", type=int, nargs="?", default=1000)
    names = ["task2-memory", "attention"]
    parser.add_argument("--work", choices=names, default=names[0])
    parser.add_argument("--otter", type=Path, help="a Python with otter-grader")
    options = parser.parse_args()
    ratios: dict[str, list[float]] = {}
    for turn in range(1, TURNS + 1):
        for name, ratio in _turn(turn, work(options.work), options.submissions, options.otter):
            ratios.setdefault(name, []).append(ratio)
    for name, values in ratios.items():
        print(f"{name:44} {statistics.median(values):6.1f}   of {[f'{v:.1f}' for v in values]}")


def _turn(turn: int, what: Work, count: int, otter: Path | None) -> Iterator[tuple[str, float]]:
    with _course(what, count) as course:
        few, many = _nbgrader(what, FEW), _nbgrader(what, MORE)
        stock, autograde = _peer(few[0], many[0]), _peer(few[1], many[1])
        one, two = (_cost(workers(what, course, number)) for number in (1, 2))
        narrow = _cost(workers(what, course, 1, cores=1))
    alone, overhead = _alone(what.problem())
    for name, peer in (("nbgrader", stock), ("autograde alone", autograde)):
        print(f"turn {turn}: {name:16} first {peer.first}; one more {peer.more}", flush=True)
    print(f"turn {turn}: {count} by one worker {one}; by two {two}; load {os.getloadavg()[0]:.1f}")
    print(f"turn {turn}: {count} by one worker on a single core {narrow}")
    print(f"turn {turn}: the grader alone {alone}", flush=True)
    whole = stock.whole(count)
    yield "whole run, nbgrader / ours, by the clock", whole.clock / one.clock
    yield "whole run, nbgrader / ours, by CPU", whole.cpu / one.cpu
    yield "alone, nbgrader autograde / ours, clock", autograde.more.clock / alone.clock
    yield "alone, nbgrader autograde / ours, CPU", autograde.more.cpu / alone.cpu
    if otter:
        theirs = _peer(_otter(what, FEW, otter), _otter(what, MORE, otter))
        print(f"turn {turn}: otter            first {theirs.first}; one more {theirs.more}")
        yield "whole run, otter / ours, by the clock", theirs.whole(count).clock / one.clock
        yield "whole run, otter / ours, by CPU", theirs.whole(count).cpu / one.cpu
    yield "one worker / two workers, by the clock", one.clock / two.clock
    yield "one on one core / two on two, by the clock", narrow.clock / two.clock
    yield "overhead in ms, median", 1000 * overhead[len(overhead) // 2]
    yield "overhead in ms, 95th of 100", 1000 * overhead[int(0.95 * len(overhead))]


def _peer(few: Costs, many: Costs) -> Peer:
    more = (many.clock - few.clock) / (MORE - FEW), (many.cpu - few.cpu) / (MORE - FEW)
    return Peer(few, Costs(*more))


def _cost(run: Callable[[], object]) -> Costs:
    started, used = time.monotonic(), _cpu_seconds()
    run()
    return Costs(time.monotonic() - started, _cpu_seconds() - used)


def _nbgrader(what: Work, count: int) -> tuple[Costs, Costs]:
    """Both of nbgrader's commands for a fresh course, and the first one of them."""
    with _course(what, count) as course:
        each = [
            _cost(lambda c=command: _run(what, course, "nbgrader", c, f"--course-dir={course}"))
            for command in ("autograde", "generate_feedback")
        ]
    return Costs(sum(c.clock for c in each), sum(c.cpu for c in each)), each[0]


def workers(what: Work, course: Path, number: int, cores: int | None = None) -> Callable[[], None]:
    """Our one command with so many workers, on so many cores, into a fresh gradebook."""

    def run() -> None:
        for made in ("graded", "autograded", "feedback"):
            shutil.rmtree(course / made, ignore_errors=True)
        (course / "gradebook.db").unlink(missing_ok=True)
        here = os.sched_getaffinity(0)
        os.sched_setaffinity(0, sorted(here)[:cores])
        try:
            _run(what, course, "grading", "grade", f"--course={course}", f"--workers={number}")
        finally:
            os.sched_setaffinity(0, here)

    return run


def _otter(what: Work, count: int, python: Path) -> Costs:
    """otter-grader through its own function, in one process for all submissions."""
    content = copy.deepcopy(what.source)
    points = str(sum(test.points for test in what.problem().tests))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tests").mkdir()
        for cell in [cell for cell in content["cells"] if _is_test(cell)]:
            content["cells"].remove(cell)
            test = _in_otters_form(cell)
            (folder / f"tests/{test['name'].replace('-', '_')}.py").write_text(
                f"OK_FORMAT = True\ntest = {test!r}\n"
            )
        for number in range(count):
            (folder / f"s{number}.ipynb").write_text(json.dumps(content))
        environment = _environment(python.parent)
        make = [python, "-m", "otter", "generate", "-t", "tests", "-o", "tests.zip"]
        subprocess.run(make, cwd=folder, env=environment, capture_output=True, check=True)
        papers = [f"s{number}.ipynb" for number in range(count)]
        grade = [python, "-c", OTTER, "tests.zip", points, *papers]
        return _cost(
            lambda: subprocess.run(
                grade, cwd=folder, env=environment, capture_output=True, check=True
            )
        )


def _is_test(cell: dict) -> bool:
    about = cell["metadata"].get("nbgrader", {})
    return bool(about.get("grade")) and not about.get("solution") and cell["cell_type"] == "code"


def _in_otters_form(cell: dict) -> dict:
    about = cell["metadata"]["nbgrader"]
    case = {"code": f">>> exec({''.join(cell['source'])!r})", "hidden": False, "locked": False}
    suite = {"type": "doctest", "scored": True, "setup": "", "teardown": "", "cases": [case]}
    return {"name": about["grade_id"], "points": about["points"], "suites": [suite]}


def _alone(problem: Problem) -> tuple[Costs, list[float]]:
    """The grader without gradebook or feedback, and its overhead over the notebook's own computing.

    That is what cells and tests take in one process, forked from one that has run them before.
    """
    cells = [cell for cell in problem.cells if isinstance(cell, Cell)]
    secret = "of the race"
    took = []
    with Grader() as grader:
        for _ in range(40):  # more than it takes until memory is gathered
            grader.grade(problem, cells, secret)

        def grade() -> None:
            for _ in range(100):
                started = time.monotonic()
                result = grader.grade(problem, cells, secret)
                took.append(time.monotonic() - started)
                assert all(verdict.status == "passed" for verdict in result.verdicts)

        costs = _cost(grade)
    own = _own_computing([cell.source for cell in problem.cells], secret)
    return Costs(costs.clock / 100, costs.cpu / 100), sorted(seconds - own for seconds in took)


def _own_computing(sources: list[str], secret: str) -> float:
    """Seconds for the cells in a fork of a process that has run them before."""
    import torch

    os.environ["COURSE_SECRET"] = secret
    torch.set_num_threads(1)  # what has threads does not survive a fork
    codes = [compile(source, "cell", "exec") for source in sources]

    def play() -> float:
        names: dict = {"__name__": "__main__"}
        started = time.monotonic()
        with redirect_stdout(StringIO()):
            for code in codes:
                exec(code, names)
        return time.monotonic() - started

    play()
    seconds = []
    for _ in range(20):
        end, start = os.pipe()
        if os.fork() == 0:
            os.write(start, repr(play()).encode())
            os._exit(0)
        os.wait()
        seconds.append(float(os.read(end, 100)))
        os.close(end)
        os.close(start)
    return statistics.median(seconds)


@contextmanager
def _course(what: Work, students: int) -> Iterator[Path]:
    """A fresh course with so many submissions."""
    with tempfile.TemporaryDirectory() as folder:
        course = Path(folder)
        what.write(course / "source")
        content = copy.deepcopy(what.source)
        _run(what, course, "nbgrader", "generate_assignment", f"--course-dir={course}")
        for number in range(students):
            content["cells"].append(_own(number))
            path = course / f"submitted/s{number}/{what.assignment}/{what.notebook}.ipynb"
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(content))
            content["cells"].pop()
        yield course


def _own(number: int) -> dict:
    about = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    return {**about, "id": "own", "source": f"my_number = {number}"}


def _cpu_seconds() -> float:
    """What all processes of this bench have used: sandboxed ones are nobody's children."""
    return int((_group() / "cpuacct.usage").read_text()) / 1e9


@cache
def _group() -> Path:
    """A control group for this process and all that it starts. Needs root and cgroup v1."""
    folder = CGROUPS / "cpuacct" / f"bench-{os.getpid()}"
    folder.mkdir(exist_ok=True)
    (folder / "cgroup.procs").write_text(str(os.getpid()))
    atexit.register(_leave, folder)
    return folder


def _leave(folder: Path) -> None:
    with suppress(OSError):
        (folder.parent / "cgroup.procs").write_text(str(os.getpid()))
        folder.rmdir()


def _environment(programs: Path) -> dict[str, str]:
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    variables = {"PATH": path, "PYTHONPATH": str(ROOT), "COURSE_SECRET": "of the race"}
    return {**os.environ, **variables, "OMP_NUM_THREADS": "1"}


def _run(what: Work, course: Path, module: str, command: str, *options: str) -> None:
    subprocess.run(
        [sys.executable, "-m", module, command, *options, what.assignment],
        cwd=ROOT / "exercises",
        env=_environment(Path(sys.executable).parent),
        capture_output=True,
        check=True,
    )


if __name__ == "__main__":
    main()
