"""`make assignments`: what it releases, and what it refuses to."""

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools import assignments

ROOT = Path(__file__).resolve().parents[2]

SOLUTION = """def double(x):
    ### BEGIN SOLUTION
    twice_of_x = x + x
    return twice_of_x
    ### END SOLUTION"""
TEST = """### BEGIN HIDDEN TESTS
assert double(1234) == 2468
### END HIDDEN TESTS
assert double(1) == 2"""


def metadata(name: str, **role: object) -> dict:
    roles = {"grade": False, "locked": False, "solution": False, "task": False, **role}
    return {"nbgrader": {**roles, "grade_id": name, "schema_version": 3}}


def course(folder: Path, solution: str = SOLUTION, test: str = TEST, extra: str = "1 + 1") -> Path:
    """A course with one small assignment."""
    graded = metadata("test-double", grade=True, locked=True, points=1)
    cells = [
        new_markdown_cell("# Doubling", id="title"),
        new_code_cell(solution, id="double", metadata=metadata("double", solution=True)),
        new_code_cell(test, id="test-double", metadata=graded),
        new_code_cell(extra, id="extra"),
    ]
    path = folder / "source" / "small" / "double.ipynb"
    path.parent.mkdir(parents=True)
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), path)
    return folder


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_SECRET", "a-canary-for-the-release")


def test_the_real_assignments(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "source").symlink_to(ROOT / "exercises" / "source")
    (tmp_path / "lib").symlink_to(ROOT / "lib")
    status = assignments.main(["--course", str(tmp_path)])
    assert status == 0, capsys.readouterr().err
    assert "no solution, hidden test or secret in it" in capsys.readouterr().out
    for source in (ROOT / "exercises" / "source").glob("*/*.ipynb"):
        assert (tmp_path / "release" / source.parent.name / source.name).exists()


def test_what_is_wrong_is_named_and_no_release_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """One course with several faults, as nbgrader takes seconds for each."""
    solution = SOLUTION.replace("x + x", "x + x + 1")
    extra = "import undefined_module\nsecret = 'a-canary-for-the-release'\n# twice_of_x = x + x"
    extra += "\n    # assert double(1234) == 2468\nassert double(1234) == 2468"
    folder = course(tmp_path, solution, "### BEGIN HIDDEN TESTS\nassert double(1234) == 2468"
                    "\n### END HIDDEN TESTS\nassert callable(double)", extra)  # fmt: skip
    assert assignments.main(["--course", str(folder)]) == 1
    problems = capsys.readouterr().err
    assert "the release holds the course's secret" in problems
    assert "shows a line of cell 'test-double' that it must not: assert double(1234)" in problems
    assert "with the solutions, cell 'test-double' fails: AssertionError" in problems
    assert "test 'test-double' passes before anything is answered" in problems
    assert "cell 'extra' fails: ModuleNotFoundError" in problems
    assert not (folder / "release" / "small").exists()


def test_nbgraders_own_complaint_is_passed_on(tmp_path: Path, capsys) -> None:
    folder = course(tmp_path, extra="### BEGIN HIDDEN TESTS\n1\n### END HIDDEN TESTS")
    assert assignments.main(["small", "--course", str(folder)]) == 1
    assert "nbgrader could not release small" in capsys.readouterr().err


def test_an_unknown_assignment_and_an_empty_course(tmp_path: Path, capsys) -> None:
    assert assignments.main(["large", "--course", str(course(tmp_path / "a"))]) == 1
    assert "no notebook in source/large; the assignments are: small" in capsys.readouterr().err
    assert assignments.main(["--course", str(tmp_path)]) == 1
    assert "no assignment in" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "{", "[]", '{"nbformat": 3}'])
def test_a_release_that_is_no_notebook(tmp_path: Path, content: str) -> None:
    folder = course(tmp_path)
    (folder / "broken.ipynb").write_text(content)
    with pytest.raises(ValueError, match=r"broken.ipynb"):
        list(assignments._problems(folder / "source/small/double.ipynb", folder / "broken.ipynb"))


def test_warnings_in_tests_are_found(tmp_path: Path) -> None:
    """nbgrader gives 0 points where a test writes to stderr."""
    noisy = f"import sys\nprint('careful', file=sys.stderr)\n{TEST}"
    path = course(tmp_path, test=noisy) / "source/small/double.ipynb"
    notebook = nbformat.read(path, as_version=4)
    ran = assignments._execute(notebook, path, {})
    found = list(assignments._failures_of_source(ran))
    assert found == ["with the solutions, test 'test-double' prints: careful"]


def test_what_cannot_be_graded_apart_is_refused_with_what_to_write(tmp_path: Path) -> None:
    path = course(tmp_path, test="assert double(1) is double(1)") / "source/small/double.ipynb"
    (said,) = assignments._ungradable(path)
    assert said.startswith("double, cell 'test-double', line 1: same object")
    assert "write student_side('a is b')" in said


def test_what_the_grader_trips_over_is_found_by_trying(tmp_path: Path) -> None:
    """An object that no rule can see: the solution itself loses the point."""
    test = "from types import SimpleNamespace\nassert double(SimpleNamespace()) == 2"
    (said,) = assignments._ungradable(course(tmp_path, test=test) / "source/small/double.ipynb")
    assert "cell 'test-double', graded apart: ValueError: a SimpleNamespace cannot be" in said
