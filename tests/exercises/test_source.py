"""The contract of assignments: what a test cell may use, so that it can run in another process."""

import ast
import builtins
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "exercises" / "source").glob("*/*.ipynb"))
FORBIDDEN = {"inspect", "mock", "unittest", "eval", "exec", "globals", "get_ipython", "In", "Out"}


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def cells(request: pytest.FixtureRequest) -> list[NotebookNode]:
    return nbformat.read(request.param, as_version=4).cells


def kind(cell: NotebookNode) -> str:
    graded = cell.metadata.get("nbgrader", {})
    if graded.get("grade") and not graded["solution"]:
        return "test"
    return "solution" if graded.get("solution") else "locked" if graded.get("locked") else "text"


def code(cells: list[NotebookNode], wanted: str) -> Iterator[ast.Module]:
    for cell in cells:
        if cell.cell_type == "code" and kind(cell) == wanted:
            yield ast.parse(cell.source)


def defined(tree: ast.Module) -> set[str]:
    """Names that a cell binds at its top level, and loop variables."""
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and _stores(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
    return names


def used(tree: ast.Module) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and not _stores(node)}


def _stores(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Store)


def test_there_are_assignments() -> None:
    assert NOTEBOOKS


def test_tests_use_only_locked_names_imports_and_the_students_functions(cells) -> None:
    functions = {
        node.name for tree in code(cells, "solution") for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }  # fmt: skip
    known = functions.union(dir(builtins), *map(defined, code(cells, "locked")))
    for tree in code(cells, "test"):
        assert used(tree) - known - defined(tree) == set()


def test_tests_leave_the_students_names_alone(cells) -> None:
    """A test that binds a student's name would change what the next cells call."""
    students = set().union(*map(defined, code(cells, "solution")))
    for tree in code(cells, "test"):
        assert not defined(tree) & students


def test_tests_do_not_look_into_functions(cells) -> None:
    for tree in code(cells, "test"):
        assert not (used(tree) | defined(tree)) & FORBIDDEN
        assert not any(isinstance(node, ast.Is | ast.IsNot) for node in ast.walk(tree))


def test_every_code_cell_has_a_role_and_every_test_a_hidden_part(cells) -> None:
    for cell in cells:
        if cell.cell_type == "code":
            assert kind(cell) != "text", cell.id
        if kind(cell) == "test" and cell.cell_type == "code":
            assert "### BEGIN HIDDEN TESTS" in cell.source, cell.id
            assert cell.metadata.nbgrader.points > 0


def test_solutions_do_not_call_the_library(cells) -> None:
    for tree in code(cells, "solution"):
        modules = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
        assert not modules


def test_cells_carry_no_outputs_and_their_own_ids(cells) -> None:
    for cell in cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None
        assert cell.metadata.get("nbgrader", {}).get("grade_id", cell.id) == cell.id
