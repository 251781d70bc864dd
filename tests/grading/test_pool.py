"""Workers share two parents and nothing else: what one grades does not touch what another does."""

import os
import signal

import pytest

from grading.core import Cell, Grader, Parents, Problem, TestCell
from grading.pool import GradingTask, grade_here
from tests.grading.attacks.__main__ import HONEST, LIMITS, SECRET
from tests.grading.attacks.corpus import ATTACKS, PROBLEM

FAMILIES = (
    "loops, memory, processes", "left for the next student", "early exit and crashes",
    "network and escapes", "escape probes",
)  # fmt: skip
DOUBLE = Problem("p", (Cell("", "answer"), TestCell("t", "assert f(2) == 4", 1.0)))
RIGHT, WRONG = ["def f(x): return 2 * x"], ["def f(x): return x"]


@pytest.fixture
def parents():
    shared = Parents(LIMITS)
    yield shared
    shared.close()


def points(grader: Grader, cells: list[str]) -> float:
    return grader.grade(DOUBLE, cells, "secret").points


def test_two_graders_on_the_same_parents(parents):
    """A problem that one has brought along is no news to the other, and both are right."""
    with Grader(LIMITS, parents=parents) as one, Grader(LIMITS, parents=parents) as two:
        other = Problem("q", (Cell("", "answer"), TestCell("t", "assert f(3) == 9", 1.0)))
        assert [points(one, RIGHT), points(two, WRONG), points(two, RIGHT)] == [1.0, 0.0, 1.0]
        assert two.grade(other, ["def f(x): return x * x"], "secret").points == 1.0
        assert one.grade(other, ["def f(x): return x * x"], "secret").points == 1.0
        assert (one.alive(), two.alive()) == (0, 0)
        one.close()
        assert points(two, RIGHT) == 1.0


def test_a_copy_that_is_killed_is_made_again(parents):
    with Grader(LIMITS, parents=parents) as one, Grader(LIMITS, parents=parents) as two:
        assert points(one, RIGHT) == points(two, RIGHT) == 1.0
        for side in one._sides.values():
            os.kill(side.pid, signal.SIGKILL)
        assert points(one, RIGHT) == points(two, RIGHT) == 1.0


def test_parents_that_are_killed_are_started_again(parents):
    with Grader(LIMITS, parents=parents) as one, Grader(LIMITS, parents=parents) as two:
        assert points(one, RIGHT) == points(two, RIGHT) == 1.0
        for parent in parents._roles.values():
            os.killpg(parent.process.pid, signal.SIGKILL)
        assert points(one, RIGHT) == 1.0 and points(one, WRONG) == 0.0
        assert points(two, RIGHT) == 1.0 and points(two, WRONG) == 0.0


def test_an_honest_student_beside_a_hostile_one():
    """Three workers at once, and what devours memory, processes and time is next door."""
    hostile = [attack for attack in ATTACKS if attack.family in FAMILIES]
    assert {attack.family for attack in hostile} == set(FAMILIES)
    tasks = []
    for attack in hostile:
        tasks += [GradingTask(attack.name, PROBLEM, attack.submission, SECRET)]
        tasks += [GradingTask(f"beside {attack.name}", PROBLEM, HONEST, SECRET)] * 2
    results = list(grade_here(tasks, workers=3, limits=LIMITS))
    best = sum(test.points for test in PROBLEM.tests)
    wrong = [
        (key, result.points, result.verdicts)
        for key, result in results
        if result.points != (best if key.startswith("beside ") else 0)
    ]
    assert len(results) == len(tasks) and wrong == []
