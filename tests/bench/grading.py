"""The grader against stock nbgrader, the two taking turns: `python -m tests.bench.grading [N]`.

Both grade the same right submissions of task2-memory into a gradebook with feedback. What counts
is the CPU time of all processes of a run, sandbox and start included, since it depends less than
the clock on what else the machine does; the seconds by the clock stand beside it. A run of few
submissions beside one of many gives what one more costs, without the start.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from grading.worker import CGROUPS

ROOT = Path(__file__).resolve().parents[2]
ASSIGNMENT, NAME = "task2-memory", "arithmetic-intensity"
FEW, STOCK, TURNS = 1, 3, 2
Costs = tuple[float, float]


def main() -> None:
    """Print each turn, then the median of the ratios."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    ratios: dict[str, list[float]] = {"whole run": [], "one more": [], "two workers": []}
    for turn in range(1, TURNS + 1):
        theirs, their_more = _timed(turn, "nbgrader autograde, feedback", STOCK, stock)
        ours, our_more = _timed(turn, "grading grade, 1 worker", count, workers(1))
        two = _cost(count, workers(2))
        _say(turn, "grading grade, 2 workers", count, two)
        ratios["whole run"].append((theirs[1] / STOCK) / (ours[1] / count))
        ratios["one more"].append(their_more / our_more)
        ratios["two workers"].append(ours[0] / two[0])
    for name, values in ratios.items():
        print(f"{name:12} {statistics.median(values):6.1f} x   of {[f'{v:.1f}' for v in values]}")


def _timed(turn: int, name: str, count: int, run: Callable[[Path], None]) -> tuple[Costs, float]:
    """What a run takes, and the CPU seconds of one more submission."""
    few, many = _cost(FEW, run), _cost(count, run)
    _say(turn, name, FEW, few)
    _say(turn, name, count, many)
    more = (many[1] - few[1]) / (count - FEW)
    print(f"turn {turn}: {name:30} one more takes {1000 * more:.0f} ms of CPU", flush=True)
    return many, more


def _say(turn: int, name: str, count: int, costs: Costs) -> None:
    wall, cpu = costs
    text = f"turn {turn}: {name:30} {count:4} in {wall:6.1f} s, CPU {cpu:6.1f} s"
    rate = f"{60 * count / cpu:7.1f} per CPU minute"
    print(f"{text}, {rate}, load {os.getloadavg()[0]:.1f}", flush=True)


def _cost(students: int, run: Callable[[Path], None]) -> Costs:
    """Seconds and CPU seconds for a fresh course with so many submissions."""
    with tempfile.TemporaryDirectory() as folder:
        course = Path(folder)
        shutil.copytree(ROOT / "exercises/source", course / "source")
        content = json.loads((course / f"source/{ASSIGNMENT}/{NAME}.ipynb").read_text())
        _run(course, "nbgrader", "generate_assignment", f"--course-dir={course}", ASSIGNMENT)
        for number in range(students):
            content["cells"].append(_own(number))
            path = course / f"submitted/s{number}/{ASSIGNMENT}/{NAME}.ipynb"
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(content))
            content["cells"].pop()
        started, used = time.monotonic(), _cpu_seconds()
        run(course)
        return time.monotonic() - started, _cpu_seconds() - used


def _own(number: int) -> dict:
    about = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    return {**about, "id": "own", "source": f"my_number = {number}"}


def stock(course: Path) -> None:
    """nbgrader's two commands."""
    for command in ("autograde", "generate_feedback"):
        _run(course, "nbgrader", command, f"--course-dir={course}", ASSIGNMENT)


def workers(count: int) -> Callable[[Path], None]:
    """Our one command with so many workers."""
    options = ["--workers", str(count)]

    def run(course: Path) -> None:
        _run(course, "grading", "grade", ASSIGNMENT, "--course", str(course), *options)

    return run


def _cpu_seconds() -> float:
    """What all processes of this bench have used: sandboxed ones are nobody's children."""
    return int((_group() / "cpuacct.usage").read_text()) / 1e9


def _group() -> Path:
    """A control group for this process and all that it starts. Needs root and cgroup v1."""
    folder = CGROUPS / "cpuacct" / f"bench-{os.getpid()}"
    if not folder.is_dir():
        folder.mkdir()
        (folder / "cgroup.procs").write_text(str(os.getpid()))
    return folder


def _run(course: Path, module: str, *arguments: str) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = {"PATH": path, "PYTHONPATH": str(ROOT), "COURSE_SECRET": "of the race"}
    subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT / "exercises",
        env={**os.environ, **variables, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=True,
    )


if __name__ == "__main__":
    main()
