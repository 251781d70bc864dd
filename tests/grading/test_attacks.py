"""No attack is paid, reads anything, leaves anything alive, or touches the next student."""

import json
from pathlib import Path

import pytest

from grading.core import Cell, Grader
from tests.grading.attacks.__main__ import (
    LIMITS,
    SECRET,
    active_markup,
    faults,
    file_faults,
    honest,
    named,
)
from tests.grading.attacks.corpus import ATTACKS, CANARY, PROBLEM, RIGHT, Attack
from tests.grading.attacks.files import FILE_ATTACKS, FileAttack, released, write
from tests.grading.attacks.stock import RESULTS, table

ROOT = Path(__file__).resolve().parents[2]

FAMILIES = sorted({attack.family for attack in ATTACKS})
OF_FILES = sorted({attack.family for attack in FILE_ATTACKS})


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


@pytest.mark.parametrize("family", OF_FILES)
def test_family_of_files(grader, family):
    mine = [attack for attack in FILE_ATTACKS if attack.family == family]
    achieved = [(named(mine, student), fault) for student, fault in file_faults(grader, mine)]
    assert achieved == []


def test_a_point_gained_by_a_file_would_be_seen(grader):
    right = FileAttack("none", "right", lambda folder: write(folder, released(RIGHT)))
    said = FileAttack(
        "none", "said", lambda folder: write(folder, {"nbformat": CANARY, "cells": 1})
    )
    linked = FileAttack(
        "none", "linked", lambda folder: write(folder, released(f"print({CANARY!r})"))
    )
    found = list(file_faults(grader, [right, said, linked]))
    assert ("eve-0", "gained 10 points") in found
    assert {student for student, fault in found if fault == f"read {CANARY}"} == {"eve-2"}


@pytest.mark.parametrize(
    "markup", ["<script>1</script>", "<img src=x>", "<p onclick=1>", "<a href=x>", "\x00", "<base>"]
)
def test_markup_on_a_page_would_be_seen(markup):
    assert list(active_markup(f"default-src 'none'{markup}"))
    assert list(active_markup("default-src 'none' &lt;script&gt;")) == []


def test_the_corpus_is_large_enough():
    every = [*ATTACKS, *FILE_ATTACKS]
    assert len({(attack.family, attack.name) for attack in every}) == len(every) >= 300
    assert len(FAMILIES + OF_FILES) >= 20


def test_a_point_and_a_canary_would_be_seen(grader):
    right = Attack("none", "right", "", cells=(Cell(RIGHT),))
    assert any("gained" in fault for fault in faults(grader, right))
    told = Attack("none", "told", f"print({CANARY!r} + {SECRET!r})")
    assert len([fault for fault in faults(grader, told) if fault.startswith("read")]) == 2


def test_every_test_can_be_passed(grader):
    verdicts = grader.grade(PROBLEM, [Cell(RIGHT)], SECRET).verdicts
    assert [verdict.status for verdict in verdicts] == ["passed"] * len(PROBLEM.tests)


def test_the_table_in_the_book_is_that_of_the_run_on_both_graders():
    rows = json.loads(RESULTS.read_text())["attacks"]
    ran = {(row["family"], row["name"]) for row in rows if row["family"] != "controls"}
    every = {(attack.family, attack.name) for attack in [*ATTACKS, *FILE_ATTACKS]}
    assert ran == every
    assert "\n".join(table(rows)) in (ROOT / "chapters/back/grading.md").read_text()
    controls = {row["name"]: row["points"] for row in rows if row["family"] == "controls"}
    assert controls == {"right": 10.0, "wrong": 0.0}
    assert not any(row["gained_here"] for row in rows)
