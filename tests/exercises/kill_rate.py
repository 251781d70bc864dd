"""How good are the hidden tests? Seeded mistakes against them, and correct alternatives.

python -m tests.exercises.kill_rate [--messages]
"""

import argparse
import importlib
import os
import pkgutil
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import nbformat

import tests.exercises.mutants
from tests.exercises.mechanical import mechanical_mistakes

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "exercises" / "source"
BEGIN_HIDDEN, END_HIDDEN = "### BEGIN HIDDEN TESTS", "### END HIDDEN TESTS"


class Notebook:
    """A source notebook whose cells run in this process, with any function exchanged."""

    def __init__(self, path: Path) -> None:
        cells = nbformat.read(path, as_version=4).cells
        code = [cell for cell in cells if cell.cell_type == "code" and cell.id != "setup"]
        self._cells = {cell.id: cell.source for cell in code}
        self._namespace: dict = {}
        for name, source in self._cells.items():
            if not name.startswith("test-"):
                exec(compile(source, name, "exec"), self._namespace)

    def solution(self, function: str) -> str:
        return self._cells[function.replace("_", "-")]

    def edited(self, function: str, old: str | None, new: str) -> str:
        """The source of a function with a mistake; where `old` is None, `new` is all of it."""
        solution = self.solution(function)
        if old is None:
            return new
        if old not in solution:
            raise ValueError(f"{function}: {old!r} is not in the reference solution")
        return solution.replace(old, new)

    def failure(self, function: str, source: str, visible_only: bool = False) -> Exception | None:
        """What the test cell of a function raises when the function is this one."""
        namespace = dict(self._namespace)
        exec(compile(source, function, "exec"), namespace)
        test = self._cells[f"test-{function.replace('_', '-')}"]
        try:
            exec(compile(visible(test) if visible_only else test, "test", "exec"), namespace)
        except Exception as error:
            return error
        return None


def visible(test: str) -> str:
    """A test cell as students see it."""
    before, _, rest = test.partition(BEGIN_HIDDEN)
    return before + rest.partition(END_HIDDEN)[2]


@dataclass(frozen=True)
class Outcome:
    """What became of a seeded mistake."""

    problem: str
    function: str
    wanted: str
    source: str
    message: str | None
    caught_by_visible: bool

    @property
    def killed(self) -> bool:
        return self.message is not None

    @property
    def named(self) -> bool:
        return self.killed and self.wanted in self.message


def tables() -> Iterator[ModuleType]:
    """Every table of mistakes."""
    for found in pkgutil.iter_modules(tests.exercises.mutants.__path__):
        yield importlib.import_module(f"tests.exercises.mutants.{found.name}")


def mistakes(table: ModuleType) -> Iterator[Outcome]:
    notebook = Notebook(SOURCE / table.NOTEBOOK)
    for problem, functions in table.PROBLEMS.items():
        for function in functions:
            for wanted, old, new in table.MISTAKES[function]:
                source = table.EVERYTHING + notebook.edited(function, old, new)
                error = notebook.failure(function, source)
                seen = notebook.failure(function, source, visible_only=True)
                message = None if error is None else f"{type(error).__name__}: {error}"
                yield Outcome(problem, function, wanted, source, message, seen is not None)


def alternatives(table: ModuleType) -> Iterator[tuple[str, str, str, Exception | None]]:
    """Problem, function, source, and what was raised against a correct alternative."""
    notebook = Notebook(SOURCE / table.NOTEBOOK)
    for problem, functions in table.PROBLEMS.items():
        for function in functions:
            for source in (notebook.solution(function), *table.ALTERNATIVES[function]):
                yield problem, function, source, notebook.failure(function, source)


def mechanical(table: ModuleType) -> Iterator[Outcome]:
    """Mechanical edits of the reference solutions, but for those that change nothing."""
    notebook = Notebook(SOURCE / table.NOTEBOOK)
    for problem, functions in table.PROBLEMS.items():
        for function in functions:
            same = "|".join(table.EQUIVALENT.get(function, ())) or r"\Z."
            for source in sorted(mechanical_mistakes(notebook.solution(function))):
                if not re.search(same, source):
                    error = notebook.failure(function, source)
                    message = None if error is None else str(error)
                    yield Outcome(problem, function, "", source, message, False)


@dataclass(frozen=True)
class Report:
    """All that is known of one table."""

    table: ModuleType
    outcomes: list[Outcome]
    edits: list[Outcome]
    answers: list[tuple[str, str, str, Exception | None]]

    def __str__(self) -> str:
        """The kill rate by problem, as a table in Markdown."""
        head = (
            "| problem | mistakes | killed | named in the message | killed by visible tests alone "
            "| mechanical edits | killed | correct answers | rejected |"
        )
        rows = [self._row(problem) for problem in (*self.table.PROBLEMS, "all")]
        return "\n".join([self.table.NOTEBOOK, head, "| --- " * 9 + "|", *rows])

    def _row(self, problem: str) -> str:
        mine = [each for each in self.outcomes if problem in (each.problem, "all")]
        edits = [each for each in self.edits if problem in (each.problem, "all")]
        answers = [each for each in self.answers if problem in (each[0], "all")]
        cells = [
            problem,
            len(mine),
            _share(mine, "killed"),
            _share(mine, "named"),
            _share(mine, "caught_by_visible"),
            len(edits),
            _share(edits, "killed"),
            len(answers),
            sum(error is not None for *_, error in answers),
        ]
        return f"| {' | '.join(map(str, cells))} |"


def _share(outcomes: list[Outcome], quality: str) -> str:
    count = sum(getattr(outcome, quality) for outcome in outcomes)
    return f"{count} ({count / len(outcomes):.0%})"


def measure(table: ModuleType) -> Report:
    """Run everything against the hidden tests."""
    mine = list(mistakes(table)), list(mechanical(table)), list(alternatives(table))
    return Report(table, *mine)


def main() -> int:
    """Print the table of kill rates; 1 if a mistake survives or a right answer is rejected."""
    parser = argparse.ArgumentParser(prog="tests.exercises.kill_rate", description=__doc__)
    parser.add_argument("--messages", action="store_true", help="print every message")
    options = parser.parse_args()
    os.environ.setdefault("COURSE_SECRET", "kill rate")
    good = True
    for table in tables():
        report = measure(table)
        print(report)
        for outcome in report.outcomes:
            if options.messages or not outcome.named:
                print(f"\n{outcome.function}, wanted {outcome.wanted!r}:\n{outcome.message}")
        good &= all(outcome.killed for outcome in (*report.outcomes, *report.edits))
        good &= all(error is None for *_, error in report.answers)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
