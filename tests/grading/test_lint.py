# ruff: noqa: E501
"""What authors are told before a release: every idiom that cannot be graded, and no other.

    python -m tests.grading.test_lint     grade every refused test, to see that it does not work

Run by pytest, it grades every fifth.
"""

import sys
from pathlib import Path

import pytest

from grading.core import Cell, Grader, Problem, TestCell
from grading.lint import RULES, lint, lint_problem, main
from grading.notebooks import read_source
from tests.grading.idioms import IDIOMS
from tests.grading.refused import REFUSED

ROOT = Path(__file__).resolve().parents[2]
EVERY = 5
SOURCES = sorted((ROOT / "exercises/source").glob("*/*.ipynb"))


@pytest.fixture(scope="module")
def grader():
    with Grader() as grader:
        yield grader


def problem(right: str, *tests: str, locked: str = "") -> Problem:
    cells = [Cell(locked, "locked", "locked"), Cell(right, "answer")]
    return Problem("p", (*cells, *(TestCell(f"t{n}", t, 1.0) for n, t in enumerate(tests))))


def rules(right: str, *tests: str, **more: str) -> set[str]:
    return {refusal.rule for refusal in lint_problem(problem(right, *tests, **more))}


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: f"{row[0]}: {row[2][:30]}")
def test_refused_with_what_to_write(row):
    rule, right, test, rewritten, *_ = row
    assert rule in rules(right, test)
    assert rules(right, rewritten) == set()


@pytest.mark.parametrize(("name", "right", "wrong", "test"), IDIOMS, ids=[row[0] for row in IDIOMS])
def test_what_can_be_graded_is_accepted(name, right, wrong, test):
    assert [str(refusal) for refusal in lint_problem(problem(right, test))] == []


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_courses_own_tests_are_accepted(source):
    assert lint(read_source(source)) == []
    assert main([str(source)]) == 0


def test_every_rule_is_shown_and_tells_what_to_write():
    assert {rule.name for rule in RULES} <= {row[0] for row in REFUSED}
    assert all(rule.rewrite and rule.why for rule in RULES)
    assert len({rule.name for rule in RULES}) == len(RULES) > 40


def surprises(grader: Grader, every: int) -> list[str]:
    """Rows whose refused test works after all, or whose rewritten one does not."""
    found = []
    for rule, right, test, rewritten, *wrong in REFUSED[::every]:
        both = problem(right, test, rewritten)
        bad, good = grader.grade(both, [right], "s").verdicts
        if good.status != "passed":  # the refused one may have taken the process with it
            (good,) = grader.grade(problem(right, rewritten), [right], "s").verdicts
        if wrong:
            bad, told = grader.grade(both, wrong, "s").verdicts
            assert told.status == "failed", rule
        if good.status != "passed" or (bad.status == "passed") is not bool(wrong):
            found.append(f"{rule}: {test}: {bad.status}, {good.status}: {good.message}")
    return found


def test_refused_tests_do_not_work_and_the_rewritten_ones_do(grader):
    """The reason for each rule: graded apart, the test says something else than it should."""
    assert surprises(grader, EVERY) == []


def test_a_refusal_names_notebook_cell_line_and_rewrite():
    (found,) = lint_problem(problem("def f(): return []", "x = 1\nassert f() is f()"))
    said = str(found)
    assert said.startswith("p, cell 't0', line 2: same object: ")
    assert "write student_side('a is b')" in said


def test_names_that_are_not_there():
    assert rules("def f(): return 1", "assert g() == 1") == {"unknown name"}
    assert rules("def f(): return 1", "x = 1\nf()", "assert x == f()") == {"name of another test"}
    assert rules("def f(): return 1", "assert near(f(), 1)", locked="def near(a, b): pass") == set()
    assert rules("def f(): return 1", "for i in [1]:\n    assert [f() for f in [abs]]") == set()


def test_helpers_have_to_be_locked():
    cells = (Cell("def near(a, b): return a == b", "open"), Cell("def f(): return 1", "answer"))
    unlocked = Problem("p", (*cells, TestCell("t", "assert near(f(), 1)", 1.0)))
    (found,) = lint_problem(unlocked, frozenset({"open"}))
    assert found.rule == "unlocked helper" and '"locked": true' in found.rewrite


ACCEPTED = {
    "a constant": "assert f(1) is True and f(2) is not None",
    "a type": "import torch\nassert f(1).dtype is torch.float64 and type(f(1)) is int",
    "a tensor of its own": "import torch\nx = torch.ones(2)\nassert x.stride() == (1,) and f(x) == 1",
    "a copy of its own": "import copy\nx = [1]\ny = copy.deepcopy(x)\nassert f(y) == f(x)",
    "a total": "import torch\ntotal = 0\nwith torch.no_grad():\n    total += f(1)\nassert total == 1",
    "memory as a file": "import io, torch\nb = io.BytesIO()\ntorch.save(f(1), b)\nassert b.tell()",
    "a callable object": "class G:\n    def __call__(self, x): return x\nassert f(G()) == 1",
    "a loss": "import torch\nassert g(torch.nn.MSELoss(), 1) == 1",
    "the secret": "import os, random\nr = random.Random(os.environ['COURSE_SECRET'])\nassert f(r.random())",
    "its own second derivative": "import torch\nx = torch.ones(1, requires_grad=True)\n"
    "(y,) = torch.autograd.grad((x ** 3).sum(), x, create_graph=True)\nassert f(1) == y",
    "an argument used twice": "x = [1, 2]\na = f(x)\nb = f(x)\nassert a == b",
    "an error in words": "try:\n    f(1)\nexcept ValueError as e:\n    assert 'a' in str(e), e.args",
    "its own zip": "for a, b in zip(f(1), [1]):\n    assert a == b",
}  # fmt: skip


@pytest.mark.parametrize("test", ACCEPTED.values(), ids=ACCEPTED)
def test_what_only_looks_like_it_is_accepted(test):
    assert rules("def f(x): return x\ndef g(loss, x): return loss(x)", test) == set()


if __name__ == "__main__":
    with Grader() as whole:
        unexpected = surprises(whole, 1)
    print("\n".join(unexpected))
    print(f"refused tests graded {len(REFUSED)}, surprises {len(unexpected)}")
    sys.exit(1 if unexpected else 0)
