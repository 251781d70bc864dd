"""Write the students' versions of the assignments with nbgrader, and prove what they must not have.

    python -m tools.assignments                 all assignments
    python -m tools.assignments task2-memory    one

A release appears in exercises/release only if it holds no solution, no hidden test and no secret,
if every test fails in it, saying that the function is still to be written, if the source, with its
solutions, passes every test, and if every test can be graded apart from the student's work.
Otherwise it is removed again.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from exercises.course import SECRET_FILE, SECRET_VARIABLE, course_secret
from exercises.feedback import hidden_lines
from grading.core import Grader
from grading.lint import lint, trial
from grading.notebooks import read_source
from tools import notebooks
from tools.kernel import ThisPython, environment
from tools.notebooks import ROOT, NotebookError, shown

COURSE = ROOT / "exercises"
MARKERS = ("BEGIN SOLUTION", "END SOLUTION", "HIDDEN TESTS", "MARK SCHEME", "Rubric")
CELL_TIMEOUT_SECONDS = 60
# A shorter line, such as a bracket or `return answer`, is no solution.
TELLING_LENGTH = 16


class AssignmentError(ValueError):
    """An assignment that cannot be released, with the reason in one or more lines."""


def release(course: Path, assignment: str) -> list[Path]:
    """Generate the students' version of an assignment and check it; returns its notebooks.

    Raises AssignmentError, and leaves no release behind, when nbgrader or a check objects.
    """
    sources = sorted((course / "source" / assignment).glob("*.ipynb"))
    if not sources:
        known = ", ".join(assignments(course)) or "none"
        raise AssignmentError(f"no notebook in source/{assignment}; the assignments are: {known}")
    folder = course / "release" / assignment
    try:
        _nbgrader_generate(course, assignment)
        for source in sources:
            _say(f"    {source.name}: checking")
            problems = list(_problems(source, folder / source.name))
            if problems:
                listed = "\n".join(f"  - {problem}" for problem in problems)
                raise AssignmentError(f"{assignment}/{source.name} is not released:\n{listed}")
    except (AssignmentError, NotebookError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise AssignmentError(str(error)) from None
    return [folder / source.name for source in sources]


def assignments(course: Path) -> list[str]:
    """The names of all assignments: the folders of exercises/source with a notebook in them."""
    return sorted({path.parent.name for path in (course / "source").glob("*/*.ipynb")})


def _nbgrader_generate(course: Path, assignment: str) -> None:
    command = [sys.executable, "-m", "nbgrader", "generate_assignment", assignment]
    options = [f"--course-dir={course.absolute()}", "--force", "--create"]
    done = subprocess.run(
        [*command, *options], cwd=COURSE, capture_output=True, text=True, check=False
    )
    if done.returncode:
        log = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
        complaints = [line for line in log.splitlines() if "ERROR" in line] or log.splitlines()
        listed = "\n".join(f"  {line}" for line in complaints[-12:])
        raise AssignmentError(f"nbgrader could not release {assignment}:\n{listed}")


def _problems(source_path: Path, release_path: Path) -> Iterator[str]:
    """Everything that speaks against handing a release to students."""
    if not release_path.exists():
        yield f"nbgrader wrote no {release_path.name}"
        return
    source, released = notebooks.read(source_path), notebooks.read(release_path)
    yield from _leaks(source, released)
    yield from _ungradable(source_path)
    yield from _failures_of_source(_execute(source, source_path, {"PYTHONPATH": str(ROOT)}))
    yield from _failures_of_release(_execute(released, release_path, {"PYTHONPATH": ""}))


def _ungradable(path: Path) -> Iterator[str]:
    """What the grader could not run in a process apart from the student's, and the rewrite."""
    source = read_source(path)
    refusals = lint(source)
    yield from map(str, refusals)
    if not refusals:
        # Nothing of a student's runs here: no walls are needed, and not every author has them.
        with Grader(unsafe=True) as grader:
            yield from trial(grader, source, course_secret())


def _leaks(source: NotebookNode, released: NotebookNode) -> Iterator[str]:
    """What students must not see, in any text of the release, its metadata included."""
    everything = notebooks.dumps(released)
    lines = {line.strip() for cell in released.cells for line in cell.source.split("\n")}
    for marker in MARKERS:
        if marker in everything:
            yield f"the release says {marker!r}"
    if course_secret() in everything:
        yield "the release holds the course's secret"
    for cell in source.cells:
        for line in _not_for_students(cell):
            if line in lines:
                yield f"the release shows a line of cell {cell.id!r} that it must not: {line}"


def _not_for_students(cell: NotebookNode) -> Iterator[str]:
    """The telling lines of solutions and hidden tests."""
    solution = re.findall(r"BEGIN SOLUTION.*?\n(.*?)\n[^\n]*END SOLUTION", cell.source, re.DOTALL)
    hidden = [line for _, line in hidden_lines(cell.source)]
    lines = [*hidden, *(line for part in solution for line in part.split("\n"))]
    if cell.metadata.get("nbgrader", {}).get("solution") and not solution:
        lines = cell.source.split("\n")
    yield from (line.strip() for line in lines if len(line.strip()) >= TELLING_LENGTH)


def _execute(notebook: NotebookNode, path: Path, variables: dict[str, str]) -> NotebookNode:
    """Run all cells, going on after errors. Raises AssignmentError when the kernel gives up."""
    client = NotebookClient(
        notebook,
        km=AsyncKernelManager(kernel_spec_manager=ThisPython()),
        resources={"metadata": {"path": str(path.absolute().parent)}},
        timeout=CELL_TIMEOUT_SECONDS,
        allow_errors=True,
        extra_arguments=["--log-level=ERROR"],
    )
    try:
        return client.execute(env={**environment(), **variables}, cleanup_kc=True)
    except CellTimeoutError as error:
        first = str(error).splitlines()[0]
        raise AssignmentError(f"{shown(path)}: a cell ran for too long: {first}") from None
    except DeadKernelError:
        raise AssignmentError(f"{shown(path)}: a cell ended the kernel") from None


def _failures_of_source(notebook: NotebookNode) -> Iterator[str]:
    for cell in _code(notebook):
        for output in cell.outputs:
            if output.output_type == "error":
                yield f"with the solutions, cell {cell.id!r} fails: {_message(output)}"
            # nbgrader gives no points where a test prints a warning.
            elif output.get("name") == "stderr" and _is_test(cell):
                yield f"with the solutions, test {cell.id!r} prints: {output.text.strip()}"


def _failures_of_release(notebook: NotebookNode) -> Iterator[str]:
    """Every test fails, and every other cell runs but for what is left to the student."""
    for cell in _code(notebook):
        errors = [output for output in cell.outputs if output.output_type == "error"]
        untouched = all(error.ename == "NotImplementedError" for error in errors)
        if _is_test(cell) and not errors:
            yield f"test {cell.id!r} passes before anything is answered"
        elif not untouched:
            yield f"in the release, cell {cell.id!r} fails: {_message(errors[0])}"


def _code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _is_test(cell: NotebookNode) -> bool:
    graded = cell.metadata.get("nbgrader", {})
    return bool(graded.get("grade")) and not graded.get("solution")


def _message(error: NotebookNode) -> str:
    return f"{error.ename}: {error.evalue}".replace("\n", "\n      ")


def _say(text: str) -> None:
    print(text, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """The command; returns 0, or 1 when an assignment could not be released."""
    parser = argparse.ArgumentParser(prog="tools.assignments", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="assignments; all if none")
    parser.add_argument("--course", type=Path, default=COURSE, help="a folder with source/ in it")
    options = parser.parse_args(arguments)
    if SECRET_VARIABLE not in os.environ and not SECRET_FILE.exists():
        course_secret()
        _say(f"wrote {shown(SECRET_FILE)}: hidden tests draw from it. Keep it, and keep it secret.")
    names = options.names or assignments(options.course)
    if not names:
        print(f"tools.assignments: no assignment in {shown(options.course)}", file=sys.stderr)
        return 1
    failures = 0
    for number, name in enumerate(names, start=1):
        _say(f"[{number}/{len(names)}] {name}: nbgrader generate_assignment")
        try:
            written = release(options.course, name)
        except AssignmentError as error:
            print(f"tools.assignments: {error}", file=sys.stderr, flush=True)
            failures += 1
        else:
            place = shown(written[0].parent)
            _say(f"    no solution, hidden test or secret in it; ready in {place}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
