"""Stock `nbgrader autograde` with our two preprocessors: forged and broken notebooks included."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from grading.course import Course
from tests.grading.test_class import (
    ASSIGNMENT,
    NAME,
    POINTS,
    ROOT,
    hand_in,
    right,
    scores,
    sums,
    without,
)

FORGED = "get_ipython().displayhook(5.0)"


def nbgrader(course: Path, *arguments: str) -> str:
    """One of nbgrader's commands on a course, in the sandboxed setting."""
    variables = {"SPLIT_GRADING": "1", "COURSE_SECRET": "of the test", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", arguments[0], f"--course-dir={course}", *arguments[1:]],
        cwd=ROOT / "exercises",
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Course:
    folder = tmp_path_factory.mktemp("course")
    (folder / "source").symlink_to(ROOT / "exercises/source")
    nbgrader(folder, "generate_assignment", ASSIGNMENT)
    for student, content in handed_in().items():
        hand_in(folder / "submitted", f"{student}/{ASSIGNMENT}", content)
    nbgrader(folder, "autograde", ASSIGNMENT)
    nbgrader(folder, "generate_feedback", ASSIGNMENT)
    return Course(folder, ASSIGNMENT, f"sqlite:///{folder / 'gradebook.db'}")


def handed_in() -> dict[str, dict]:
    forged, skipped, twice, gone = without("linear-cost"), without("linear-cost"), right(), right()
    for cell in forged["cells"]:
        if cell["metadata"].get("nbgrader", {}).get("grade_id") == "linear-cost":
            cell["source"] = f"def linear_cost(**sizes):\n    {FORGED}\n    raise ValueError"
    for cell in skipped["cells"]:
        cell["metadata"]["tags"] = ["skip-execution"]
    tests = [c for c in twice["cells"] if c["metadata"].get("nbgrader", {}).get("grade")]
    twice["cells"].append({**tests[0], "id": "again"})
    gone["cells"] = [
        c for c in gone["cells"] if not c["metadata"].get("nbgrader", {}).get("locked")
    ]
    partial = without("linear-cost")
    return dict(
        right=right(), partial=partial, forged=forged, skipped=skipped, twice=twice, gone=gone
    )


def test_points(course: Course) -> None:
    mistaken = dict.fromkeys(["partial", "forged", "skipped"], sums(course)["partial"])
    assert sums(course) == {"right": POINTS, "twice": POINTS, "gone": POINTS, **mistaken}
    assert sums(course)["partial"] < POINTS
    assert scores(course)["forged"]["test-linear-cost"] == (0, False)


def test_feedback_is_nbgraders(course: Course) -> None:
    page = course.folder / f"feedback/partial/{ASSIGNMENT}/{NAME}.html"
    text = page.read_text()
    assert "still to be written" in text and "_hidden.check" not in text
