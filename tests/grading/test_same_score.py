"""The split grader decides as the tests do in one process: on seeded mistakes and right answers.

    python -m tests.grading.test_same_score     all of them, with a count

Run by pytest, it takes every tenth.
"""

import sys

import pytest

from grading.core import Grader
from tests.exercises.kill_rate import tables
from tests.grading.sources import answers, problem_of

SECRET = "any secret will do"
EVERY = 20


def differences(every: int) -> tuple[int, list[str]]:
    """How many answers were tried, and what came out otherwise than it should."""
    tried, wrong = 0, []
    with Grader() as grader:
        for table in tables():
            problem = problem_of(table.NOTEBOOK)
            for number, (test, submission, right) in enumerate(answers(table, problem)):
                if number % every:
                    continue
                tried += 1
                result = grader.grade(problem, submission, SECRET)
                verdict = next(v for v in result.verdicts if v.grade_id == test)
                if (verdict.points == verdict.max_points) is not right:
                    wrong.append(f"{test}: {verdict}\n{submission}")
    return tried, wrong


@pytest.mark.parametrize("notebook", [table.NOTEBOOK for table in tables()])
def test_the_reference_has_all_points(notebook):
    problem = problem_of(notebook)
    own = [cell for cell in problem.cells if not hasattr(cell, "points")]
    with Grader() as grader:
        result = grader.grade(problem, own, SECRET)
    assert [v.status for v in result.verdicts] == ["passed"] * len(problem.tests), result
    assert result.points == sum(test.points for test in problem.tests)


def test_seeded_mistakes_and_right_answers_are_told_apart():
    tried, wrong = differences(EVERY)
    assert tried > 10
    assert wrong == []


if __name__ == "__main__":
    count, found = differences(1)
    print("\n".join(found))
    print(f"answers tried {count}, decided otherwise {len(found)}")
    sys.exit(1 if found else 0)
