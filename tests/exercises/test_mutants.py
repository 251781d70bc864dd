"""Do the hidden tests find every mistake, say which it is, and accept every right answer?"""

import pytest

from tests.exercises.kill_rate import Report, alternatives, measure, mistakes, tables

TABLES = {table.NOTEBOOK: table for table in tables()}
MISTAKES_PER_PROBLEM, ALTERNATIVES_PER_PROBLEM = 20, 5
SHARE_NAMED = 0.8


@pytest.fixture(scope="module", params=TABLES)
def report(request: pytest.FixtureRequest) -> Report:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_SECRET", "any secret will do")
        return measure(TABLES[request.param])


def test_every_mistake_loses_points(report: Report) -> None:
    survivors = [(each.function, each.source) for each in report.outcomes if not each.killed]
    assert not survivors


def test_every_mechanical_edit_loses_points(report: Report) -> None:
    survivors = [(each.function, each.source) for each in report.edits if not each.killed]
    assert len(report.edits) > 500
    assert not survivors


def test_messages_name_the_mistake(report: Report, capsys: pytest.CaptureFixture) -> None:
    with capsys.disabled():
        print(f"\n{report}")
    unnamed = [(each.wanted, each.message) for each in report.outcomes if not each.named]
    assert len(unnamed) <= (1 - SHARE_NAMED) * len(report.outcomes), unnamed


def test_no_correct_answer_is_rejected(report: Report) -> None:
    rejected = [(source, error) for *_, source, error in report.answers if error is not None]
    assert not rejected


def test_there_are_enough_of_both(report: Report) -> None:
    for problem, functions in report.table.PROBLEMS.items():
        answers = [source for where, _, source, _ in report.answers if where == problem]
        seeded = [each.source for each in report.outcomes if each.problem == problem]
        assert len(set(answers)) - len(functions) >= ALTERNATIVES_PER_PROBLEM
        assert len(set(seeded)) >= MISTAKES_PER_PROBLEM


@pytest.mark.parametrize("secret", ["another", "one more"])
@pytest.mark.parametrize("notebook", TABLES)
def test_whatever_the_secret(notebook: str, secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_SECRET", secret)
    assert all(outcome.killed for outcome in mistakes(TABLES[notebook]))
    assert not [error for *_, error in alternatives(TABLES[notebook]) if error is not None]
