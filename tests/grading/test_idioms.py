"""Tests as instructors write them: right work gets its points, wrong work does not."""

import pytest

from grading.core import Cell, Grader, Problem, TestCell
from tests.grading.idioms import IDIOMS


@pytest.fixture(scope="module")
def grader():
    with Grader() as grader:
        yield grader


@pytest.mark.parametrize(("name", "right", "wrong", "test"), IDIOMS, ids=[row[0] for row in IDIOMS])
def test_idiom(grader, name, right, wrong, test):
    problem = Problem(name, (Cell(right), TestCell("t", test, 2.0)))
    (good,) = grader.grade(problem, [right], "secret").verdicts
    (bad,) = grader.grade(problem, [wrong], "secret").verdicts
    assert (good.status, good.points) == ("passed", 2.0), good.message
    assert bad.status in ("failed", "error") and bad.points == 0.0, bad


def test_there_are_enough():
    assert len({row[0] for row in IDIOMS}) == len(IDIOMS) >= 60
