"""A small made-up class in every run of the tests; the large one is a command of its own."""

import json
from pathlib import Path

import pytest

from grading.core import Grader
from tests.grading.synthetic_class import LIMITS, Graded, Made, make, surprises

NUMBER, SEED = 48, 1


@pytest.fixture(scope="module")
def grader():
    with Grader(LIMITS) as grader:
        yield grader


def test_everybody_is_decided_as_expected_and_nobody_twice_differently(grader, tmp_path):
    made = make(tmp_path / "submitted", NUMBER, SEED, slow=False)
    whole = Graded(tmp_path, grader)
    assert list(surprises(whole, made, tmp_path)) == []
    kinds = [each.kind for each in made.values()]
    assert set(kinds) == {"honest", "careless", "hostile", "malformed"}
    assert whole.flips(12) == []


def test_a_wrong_decision_would_be_seen(grader, tmp_path):
    made = make(tmp_path / "submitted", 2, SEED, slow=False)
    one = next(iter(made))
    made[one] = Made("honest", "by mistake", 99.0)
    made["nobody"] = Made("honest", "not there", 0.0)
    found = list(surprises(Graded(tmp_path, grader), made, tmp_path))
    assert any("lost or invented" in each for each in found)
    assert any(each.startswith(one) for each in found)


def test_the_same_seed_makes_the_same_class(tmp_path):
    first, second = (make(tmp_path / name, 30, 7) for name in ("a", "b"))
    assert first == second
    written = [sorted(p.relative_to(tmp_path / n) for p in (tmp_path / n).rglob("*")) for n in "ab"]
    assert written[0] == written[1]


def test_the_large_run_was_as_expected():
    """The result that the chapter tells of."""
    about = json.loads(Path(__file__).with_name("synthetic_class.json").read_text())
    assert about["submissions"] >= 1000 and about["regrades"] >= 1000
    assert about["surprises"] == about["flips"] == 0
    assert about["kinds"]["malformed"] / about["submissions"] > 0.25
