"""The grader against nbgrader and otter-grader, taking turns: `python -m tests.bench.grading`.

    python -m tests.bench.grading [SUBMISSIONS] [--otter PYTHON]

All grade the same right submissions of task2-memory; nbgrader and we write a gradebook and feedback
pages too. PYTHON is that of an environment with otter-grader 7.0.0; without it, otter is left out.
Each run is timed by the clock and by the CPU time of all its processes, sandbox and start included.
A peer grades one submission and then three, which gives its start and what one more costs; a class
of as many as ours is reckoned from that. Needs root and cgroup v1, for the CPU time.
"""

import argparse
import atexit
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

from grading.core import Cell, Grader
from grading.notebooks import read_source
from grading.worker import CGROUPS

ROOT = Path(__file__).resolve().parents[2]
ASSIGNMENT, NAME = "task2-memory", "arithmetic-intensity"
SOURCE = ROOT / f"exercises/source/{ASSIGNMENT}/{NAME}.ipynb"
FEW, MORE, TURNS = 1, 3, 3
OTTER = """
import sys
from otter.api import grade_submission
for path in sys.argv[2:]:
    assert float(grade_submission(path, sys.argv[1], quiet=True).total) == 36
"""


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


def main() -> None:
    """Print each turn, then the median of the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("submissions", type=int, nargs="?", default=1000)
    parser.add_argument("--otter", type=Path, help="a Python with otter-grader")
    options = parser.parse_args()
    ratios: dict[str, list[float]] = {}
    for turn in range(1, TURNS + 1):
        for name, ratio in _turn(turn, options.submissions, options.otter):
            ratios.setdefault(name, []).append(ratio)
    for name, values in ratios.items():
        print(f"{name:44} {statistics.median(values):6.1f}   of {[f'{v:.1f}' for v in values]}")


def _turn(turn: int, count: int, otter: Path | None) -> Iterator[tuple[str, float]]:
    with _course(count) as course:
        few, many = _nbgrader(FEW), _nbgrader(MORE)
        stock, autograde = _peer(few[0], many[0]), _peer(few[1], many[1])
        one, two = (_cost(workers(course, number)) for number in (1, 2))
        narrow = _cost(workers(course, 1, cores=1))
    alone, overhead = _alone()
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
        theirs = _peer(_otter(FEW, otter), _otter(MORE, otter))
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


def _nbgrader(count: int) -> tuple[Costs, Costs]:
    """Both of nbgrader's commands for a fresh course, and the first one of them."""
    with _course(count) as course:
        each = [
            _cost(lambda c=command: _run(course, "nbgrader", c, f"--course-dir={course}"))
            for command in ("autograde", "generate_feedback")
        ]
    return Costs(sum(c.clock for c in each), sum(c.cpu for c in each)), each[0]


def workers(course: Path, number: int, cores: int | None = None) -> Callable[[], None]:
    """Our one command with so many workers, on so many cores, into a fresh gradebook."""

    def run() -> None:
        for made in ("graded", "autograded", "feedback"):
            shutil.rmtree(course / made, ignore_errors=True)
        (course / "gradebook.db").unlink(missing_ok=True)
        here = os.sched_getaffinity(0)
        os.sched_setaffinity(0, sorted(here)[:cores])
        try:
            _run(course, "grading", "grade", f"--course={course}", f"--workers={number}")
        finally:
            os.sched_setaffinity(0, here)

    return run


def _otter(count: int, python: Path) -> Costs:
    """otter-grader through its own function, in one process for all submissions."""
    content = json.loads(SOURCE.read_text())
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
        grade = [python, "-c", OTTER, "tests.zip", *papers]
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


def _alone() -> tuple[Costs, list[float]]:
    """The grader without gradebook or feedback, and its overhead over the notebook's own computing.

    That is what cells and tests take in one process, forked from one that has run them before.
    """
    problem = read_source(SOURCE).problem
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
    os.environ["COURSE_SECRET"] = secret
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
def _course(students: int) -> Iterator[Path]:
    """A fresh course with so many submissions."""
    with tempfile.TemporaryDirectory() as folder:
        course = Path(folder)
        shutil.copytree(ROOT / "exercises/source", course / "source")
        content = json.loads(SOURCE.read_text())
        _run(course, "nbgrader", "generate_assignment", f"--course-dir={course}")
        for number in range(students):
            content["cells"].append(_own(number))
            path = course / f"submitted/s{number}/{ASSIGNMENT}/{NAME}.ipynb"
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


def _run(course: Path, module: str, command: str, *options: str) -> None:
    subprocess.run(
        [sys.executable, "-m", module, command, *options, ASSIGNMENT],
        cwd=ROOT / "exercises",
        env=_environment(Path(sys.executable).parent),
        capture_output=True,
        check=True,
    )


if __name__ == "__main__":
    main()
