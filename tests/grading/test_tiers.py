"""What a machine gives: walls for an ordinary user too, or a refusal, or a mark on every score."""

import csv
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from grading import gradebook
from grading.core import Cell, Grader, Problem, Result, TestCell, Verdict
from grading.course import Course
from grading.pool import GradingTask, grade_here
from tests.grading.test_class import ASSIGNMENT, NAME, ROOT, course, graded, hand_in, right  # noqa: F401

# Without control groups, which root could make: the watchdog has to hold.
AS_A_USER = """
import sys
from pathlib import Path
from grading import doctor, worker
worker.CGROUPS = Path("/nowhere")
chosen = [probe for probe in doctor.PROBES if probe.name in sys.argv[1:]]
with doctor.Grader(doctor.QUICK) as grader:
    print(grader.tier)
    for probe in chosen:
        print(probe.name, doctor.try_probe(grader, probe))
"""
PROBES = ["network, TCP", "other processes", "becoming root", "new namespaces", "disk", "memory"]


def test_the_walls_of_an_ordinary_user() -> None:
    """Root gives up what it is: a user namespace in which it is nobody in particular."""
    give_up = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    program = [sys.executable, "-c", AS_A_USER, *PROBES]
    done = subprocess.run(
        [*(give_up if os.geteuid() == 0 else []), *program],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    tier, *lines = done.stdout.splitlines()
    assert tier == "bubblewrap, user, watchdog"
    assert [line for line in lines if "(True," not in line] == [] and len(lines) == len(PROBES)


def test_without_bubblewrap_the_doctor_says_what_to_do(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "grading", "doctor"],
        cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert "apt install bubblewrap" in done.stderr and "--unsafe" in done.stderr


def test_without_walls_a_submission_is_graded_and_marked() -> None:
    problem = Problem("p", (Cell("", "answer"), TestCell("t", "assert f(2) == 4", 1.0)))
    with Grader(unsafe=True) as grader:
        result = grader.grade(problem, ["def f(x):\n    return 2 * x"], "secret")
    assert (result.points, result.unsafe, result.tier) == (1.0, True, "none (unsafe)")


def test_unsafe_is_written_wherever_a_score_is(course: Course, tmp_path: Path) -> None:  # noqa: F811
    def run(tasks: Iterable[GradingTask]) -> Iterator:
        for task in tasks:
            said = (Verdict(t.grade_id, t.points, t.points, "passed") for t in task.problem.tests)
            yield task.key, Result(tuple(said), "none (unsafe)", True)

    hand_in(tmp_path / "in", "ada", right())
    graded(course, tmp_path / "in", run)
    (row,) = csv.DictReader((course.work / "grades.csv").open())
    assert row["sandbox"] == "none (unsafe)" and "without a sandbox" in row["remarks"]
    assert "none (unsafe)" in (course.work / "report.html").read_text()
    page = course.folder / f"feedback/ada/{ASSIGNMENT}/{NAME}.html"
    assert "without a sandbox" in page.read_text()
    with gradebook.opened(course.db_url) as book:
        (notebook,) = book.find_submission(ASSIGNMENT, "ada").notebooks
        comments = {comment.auto_comment for comment in notebook.comments}
    assert any("without a sandbox" in (comment or "") for comment in comments)


def test_a_run_that_is_given_up_leaves_nothing_behind() -> None:
    """Workers stop when nobody takes their results any more."""
    problem = Problem("p", (Cell("", "answer"), TestCell("t", "assert f(2) == 4", 1.0)))
    tasks = (GradingTask(n, problem, [Cell("def f(x): return 2 * x")], "s") for n in range(10**6))
    before = set(threading.enumerate())
    results = grade_here(tasks, workers=1, unsafe=True)
    key, result = next(results)
    assert (key, result.points) == (0, 1.0) and set(threading.enumerate()) > before
    results.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
        assert not thread.is_alive()
