"""The grader against stock nbgrader: `python -m tests.bench.grading [N]`, the two taking turns.

Both grade the same right submissions of task2-memory with gradebook and feedback, start included;
one worker against nbgrader's one process, then two workers. Figures depend on the machine's load.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ASSIGNMENT, NAME = "task2-memory", "arithmetic-intensity"
SHARE = 8


def main() -> None:
    """Print seconds and submissions a minute of each, in turns."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    for turn in (1, 2):
        for name, students, do in (
            ("nbgrader autograde + generate_feedback", max(2, count // SHARE), stock),
            ("python -m grading grade, 1 worker", count, one_worker),
            ("python -m grading grade, 2 workers", count, two_workers),
        ):
            seconds = timed(students, do)
            rate = 60 * students / seconds
            text = f"turn {turn}: {name:40} {students:4} in {seconds:6.1f} s, {rate:7.1f}/min"
            print(f"{text}, load {os.getloadavg()[0]:.1f}", flush=True)


def timed(students: int, do) -> float:
    """Seconds for a fresh course with so many submissions."""
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
        started = time.monotonic()
        do(course)
        return time.monotonic() - started


def _own(number: int) -> dict:
    about = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    return {**about, "id": "own", "source": f"my_number = {number}"}


def stock(course: Path) -> None:
    """nbgrader's two commands."""
    for command in ("autograde", "generate_feedback"):
        _run(course, "nbgrader", command, f"--course-dir={course}", ASSIGNMENT)


def one_worker(course: Path) -> None:
    """Our one command on one core's worth of workers."""
    _run(course, "grading", "grade", ASSIGNMENT, "--course", str(course), "--workers", "1")


def two_workers(course: Path) -> None:
    """The same with two."""
    _run(course, "grading", "grade", ASSIGNMENT, "--course", str(course), "--workers", "2")


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
