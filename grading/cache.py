"""Verdicts kept between runs: a test is run again only if something that it depends on has changed.

A verdict's key covers the student's cells, the locked cells, the test, every module of this
repository that the test imports, the secret, the packages, and whether there was a sandbox.
"""

import ast
import contextlib
import hashlib
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

from grading.core import Cell, Problem, Result, TestCell, Verdict

ROOT = Path(__file__).resolve().parent.parent
GRADER = ("core", "student", "trusted", "wire", "sandbox", "worker", "zygote")


def test_keys(problem: Problem, cells: Sequence[Cell], secret: str, unsafe: bool) -> dict[str, str]:
    """For each test of a problem the key of its verdict on these cells."""
    own = [(cell.cell_id, cell.kind, cell.source) for cell in cells]
    locked = [
        (cell.cell_id, cell.kind, cell.source if cell.kind != "student" else "")
        for cell in problem.cells
        if isinstance(cell, Cell)
    ]
    shared = _digest([own, locked, secret, unsafe, environment_key()])
    return {
        test.grade_id: _digest([shared, asdict(test), _modules_key(test.source)])
        for test in problem.tests
    }


test_keys.__test__ = False  # not for pytest


@cache
def environment_key() -> str:
    """The packages, the Python and the grader's own code."""
    files = [ROOT / "requirements.lock", *(ROOT / f"grading/{name}.py" for name in GRADER)]
    return _digest([sys.version, *(path.read_text() for path in files if path.exists())])


@cache
def _modules_key(source: str) -> str:
    """The text of every module of the repository that a cell imports, and what those import."""
    seen: set[Path] = set()
    waiting = list(_imported(source))
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            waiting += _imported(path.read_text(encoding="utf-8"))
    return _digest([[str(path), path.read_text(encoding="utf-8")] for path in sorted(seen)])


def _imported(source: str) -> Iterable[Path]:
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            path = ROOT.joinpath(*name.split("."))
            yield from (p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file())


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()


class Kept:
    """The verdicts on one student's notebook, in a file, or nowhere if `path` is None."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.content = {"verdicts": {}}
        with contextlib.suppress(OSError, ValueError):
            self.content = json.loads(path.read_text(encoding="utf-8")) if path else self.content

    def missing(self, problem: Problem, keys: dict[str, str]) -> Problem:
        """The problem with only those tests that have to be run."""
        known = self.content["verdicts"]
        cells = tuple(
            cell
            for cell in problem.cells
            if not isinstance(cell, TestCell) or keys[cell.grade_id] not in known
        )
        return replace(problem, cells=cells)

    def complete(self, problem: Problem, keys: dict[str, str], new: Result | None) -> Result:
        """Old and new verdicts together, in the problem's order; written to the file."""
        known = dict(self.content["verdicts"])
        about = {k: self.content.get(k) for k in ("tier", "unsafe", "notes", "seconds")}
        if new:
            known |= {keys[v.grade_id]: _packed(v) for v in new.verdicts}
            fields = ("tier", "unsafe", "notes", "seconds")
            about = {name: getattr(new, name) for name in fields}
        wanted = {key: known[key] for key in keys.values()}
        if new:
            self._write({"verdicts": wanted, **about})
        verdicts = tuple(_unpacked(wanted[keys[test.grade_id]]) for test in problem.tests)
        notes = tuple(about["notes"] or ())
        return Result(verdicts, about["tier"], about["unsafe"], notes, about["seconds"] or 0.0)

    def _write(self, content: dict) -> None:
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".writing")
        temporary.write_text(json.dumps(content), encoding="utf-8")
        temporary.replace(self.path)
        self.content = content


def _packed(verdict: Verdict) -> dict:
    return {**asdict(verdict), "plots": [plot.hex() for plot in verdict.plots]}


def _unpacked(row: dict) -> Verdict:
    return Verdict(**{**row, "plots": tuple(bytes.fromhex(plot) for plot in row["plots"])})
