"""No attack is paid, reads anything, leaves anything alive, or touches the next student."""

import pytest

from grading.core import Cell, Grader
from tests.grading.attacks.__main__ import LIMITS, SECRET, faults, honest
from tests.grading.attacks.corpus import ATTACKS, CANARY, PROBLEM, RIGHT, Attack

FAMILIES = sorted({attack.family for attack in ATTACKS})


@pytest.fixture(scope="module")
def grader():
    with Grader(LIMITS) as grader:
        yield grader


@pytest.mark.parametrize("family", FAMILIES)
def test_family(grader, family):
    mine = [attack for attack in ATTACKS if attack.family == family]
    achieved = {attack.name: list(faults(grader, attack)) for attack in mine}
    assert {name: found for name, found in achieved.items() if found} == {}
    assert list(honest(grader)) == []


def test_the_corpus_is_large_enough():
    assert len({(attack.family, attack.name) for attack in ATTACKS}) == len(ATTACKS) >= 120
    assert len(FAMILIES) >= 14


def test_a_point_and_a_canary_would_be_seen(grader):
    right = Attack("none", "right", "", cells=(Cell(RIGHT),))
    assert any("gained" in fault for fault in faults(grader, right))
    told = Attack("none", "told", f"print({CANARY!r} + {SECRET!r})")
    assert len([fault for fault in faults(grader, told) if fault.startswith("read")]) == 2


def test_every_test_can_be_passed(grader):
    verdicts = grader.grade(PROBLEM, [Cell(RIGHT)], SECRET).verdicts
    assert [verdict.status for verdict in verdicts] == ["passed"] * len(PROBLEM.tests)
