"""The whole round through nbgrader's own commands: release, submit, autograde, feedback."""

import base64
import html
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell
from nbgrader.api import Gradebook

from exercises.feedback import HIDDEN_TEST, REMOVED, ShowStudentWorkAsText, hidden_lines
from tests.exercises.mutants import task2_memory_arithmetic_intensity as table

ROOT = Path(__file__).resolve().parents[2]
ASSIGNMENT, NOTEBOOK = "task2-memory", "arithmetic-intensity"
SECRET = "canary-of-the-course-secret"
FUNCTIONS = [name for functions in table.PROBLEMS.values() for name in functions]
WORDS = "why-batching-does-not-help"
AUTOMATIC, BY_HAND = 36, 4


def nbgrader(course: Path, command: str, *arguments: str) -> str:
    """One of nbgrader's commands, run as an instructor would, but with a bare PATH."""
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", command, f"--course-dir={course}", *arguments],
        cwd=ROOT / "exercises",
        env={**os.environ, "PATH": os.defpath, "COURSE_SECRET": SECRET, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        timeout=600,
    )
    log = done.stdout + done.stderr
    assert done.returncode == 0, log
    return log


def cell(notebook: NotebookNode, grade_id: str) -> NotebookNode:
    cells = {c.metadata.nbgrader.grade_id: c for c in notebook.cells if "nbgrader" in c.metadata}
    return cells[grade_id]


def reference(function: str) -> str:
    source = nbformat.read(ROOT / f"exercises/source/{ASSIGNMENT}/{NOTEBOOK}.ipynb", as_version=4)
    return cell(source, function.replace("_", "-")).source


def answer(notebook: NotebookNode, solutions: dict[str, str]) -> None:
    """Write solutions into a released notebook."""
    for function, source in solutions.items():
        cell(notebook, function.replace("_", "-")).source = source


def right(notebook: NotebookNode) -> None:
    answer(notebook, {function: reference(function) for function in FUNCTIONS})
    cell(notebook, WORDS).source = "Each sequence has **keys of its own**."


def half_right(notebook: NotebookNode) -> None:
    """The first two problems; the others are not touched."""
    first_two = [*table.PROBLEMS["1 linear map"], *table.PROBLEMS["2 attention"]]
    answer(notebook, {function: reference(function) for function in first_two})


def wrong(notebook: NotebookNode) -> None:
    """The first seeded mistake in every function."""
    for function in FUNCTIONS:
        _, old, new = table.MISTAKES[function][0]
        mistaken = new if old is None else reference(function).replace(old, new)
        answer(notebook, {function: alone(function, mistaken)})


def alone(function: str, source: str) -> str:
    """A function that calls the right versions of all others, whatever the notebook has."""
    everything = "\n\n".join([*map(reference, FUNCTIONS), source])
    return f"def make():\n{indent(everything, '    ')}\n    return {function}\n{function} = make()"


def untouched(notebook: NotebookNode) -> None:
    """What a student gets."""


def crashing(notebook: NotebookNode) -> None:
    """Right, but for one function that divides by zero and one cell that is not Python."""
    right(notebook)
    broken = reference("roofline").replace("bytes_moved / bandwidth", "bytes_moved / 0")
    answer(notebook, {"roofline": broken, "linear_limits": "def linear_limits(:"})


def agreeable(notebook: NotebookNode) -> None:
    """Everything is an object that is equal to everything and says that it is a float."""
    body = "(**sizes):\n    return Everything()\n"
    answer(notebook, {name: f"{table.EVERYTHING}\ndef {name}{body}" for name in FUNCTIONS})


SPY = """
import base64
from IPython.display import display, HTML
for source in In:
    print(source)
print(repr(In))
open("notes.txt", "w").write("\\n".join(In))
open("page.html", "w").write("\\n".join(In))
display(HTML("<script>alert('from html')</script>"))
display({"image/png": 'x" onerror="alert(1)'}, raw=True)
print("<script>alert('from text')</script>")
raise ValueError("<script>alert('from an error')</script>" + In[-2])
"""
MARKDOWN = """
<script>alert('from markdown')</script> <img src=x onerror="alert('from an image')">

[a link](javascript:alert('from a link'))
"""


def curious(notebook: NotebookNode) -> None:
    """Right, and with cells that print the hidden tests and put scripts on the page."""
    right(notebook)
    cell(notebook, WORDS).source += MARKDOWN
    notebook.cells.append(new_code_cell(SPY, id="spy"))
    notebook.cells.append(new_markdown_cell(MARKDOWN, id="script"))


STUDENTS: dict[str, tuple[Callable[[NotebookNode], None], int]] = {
    "right": (right, AUTOMATIC),
    "half-right": (half_right, 20),
    "wrong": (wrong, 0),
    "untouched": (untouched, 0),
    # Without the roofline, its own 3 points, the 3 of sequence_time that calls it, and 2 more.
    "crashing": (crashing, AUTOMATIC - 3 - 3 - 2),
    "agreeable": (agreeable, 0),
    "curious": (curious, AUTOMATIC),
}


@dataclass(frozen=True)
class Course:
    folder: Path

    def release(self) -> NotebookNode:
        path = self.folder / "release" / ASSIGNMENT / f"{NOTEBOOK}.ipynb"
        return nbformat.read(path, as_version=4)

    def scores(self, student: str) -> dict[str, tuple[float, bool]]:
        """Automatic score of each test cell, and whether a person has to look."""
        with Gradebook(f"sqlite:///{self.folder / 'gradebook.db'}") as gradebook:
            submission = gradebook.find_submission_notebook(NOTEBOOK, ASSIGNMENT, student)
            return {g.name: (g.auto_score, g.needs_manual_grade) for g in submission.grades}

    def page(self, student: str) -> str:
        folder = self.folder / "feedback" / student / ASSIGNMENT
        return (folder / f"{NOTEBOOK}.html").read_text(encoding="utf-8")

    def text(self, student: str) -> str:
        """What a feedback page says, without its markup, in one line."""
        body = re.sub(r"(?s)<(style|script)\b.*?</\1>", "", self.page(student))
        return " ".join(html.unescape(re.sub(r"<[^>]+>", "", body)).split())


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Course:
    folder = tmp_path_factory.mktemp("course")
    shutil.copytree(ROOT / "exercises" / "source", folder / "source")
    nbgrader(folder, "generate_assignment", ASSIGNMENT)
    graded = Course(folder)
    for student, (work, _) in STUDENTS.items():
        submission = graded.release()
        work(submission)
        path = folder / "submitted" / student / ASSIGNMENT / f"{NOTEBOOK}.ipynb"
        path.parent.mkdir(parents=True)
        nbformat.write(submission, path)
    nbgrader(folder, "autograde", ASSIGNMENT)
    nbgrader(folder, "generate_feedback", ASSIGNMENT)
    return graded


@pytest.mark.parametrize("student", STUDENTS)
def test_score(course: Course, student: str) -> None:
    scores = course.scores(student)
    words, needs_reading = scores.pop(WORDS)
    assert sum(score for score, _ in scores.values()) == STUDENTS[student][1], scores
    assert not any(by_hand for _, by_hand in scores.values())
    answered = student in ("right", "crashing", "curious")
    assert (words, needs_reading) == ((None, True) if answered else (0, False))


def test_maximum(course: Course) -> None:
    with Gradebook(f"sqlite:///{course.folder / 'gradebook.db'}") as gradebook:
        assert gradebook.find_assignment(ASSIGNMENT).max_score == AUTOMATIC + BY_HAND


def test_release_is_clean(course: Course) -> None:
    text = "\n".join(each.source for each in course.release().cells)
    for forbidden in ("HIDDEN", "_hidden", "exercises.", "SOLUTION", "Rubric", SECRET):
        assert forbidden not in text
    assert text.count("YOUR CODE HERE") == len(FUNCTIONS) + 1  # and once in the introduction
    assert text.count("YOUR ANSWER HERE") == 1


@pytest.mark.parametrize("student", STUDENTS)
def test_feedback_is_the_page_alone(course: Course, student: str) -> None:
    folder = course.folder / "feedback" / student
    assert [path.name for path in folder.rglob("*.*")] == [f"{NOTEBOOK}.html"]


@pytest.mark.parametrize("student", STUDENTS)
def test_feedback_hides_the_hidden_tests(course: Course, student: str) -> None:
    text = course.text(student)
    hidden = [line.strip() for each in hidden_cells() for _, line in hidden_lines(each)]
    assert len(hidden) == 5 * len(FUNCTIONS)
    for line in filter(lambda line: len(line) > 8, hidden):
        assert " ".join(line.split()) not in text
    for inner in ("exercises.hidden", "exercises/", "_hidden", "check_linear", "Case(", SECRET):
        assert inner not in text
    assert str(ROOT) not in text and str(course.folder) not in text


def hidden_cells() -> list[str]:
    source = nbformat.read(ROOT / f"exercises/source/{ASSIGNMENT}/{NOTEBOOK}.ipynb", as_version=4)
    return [each.source for each in source.cells if "BEGIN HIDDEN" in each.source]


def test_stock_feedback_would_show_them(course: Course) -> None:
    """So that the tests above can fail: the graded notebook itself has all the lines."""
    graded = course.folder / "autograded" / "wrong" / ASSIGNMENT / f"{NOTEBOOK}.ipynb"
    assert all(line in graded.read_text() for line in ("BEGIN HIDDEN TESTS", "_hidden.check_"))


def test_feedback_names_every_mistake(course: Course) -> None:
    text = course.text("wrong")
    for function in FUNCTIONS:
        wanted = table.MISTAKES[function][0][0]
        assert " ".join(wanted.split()) in text, f"{function}: {wanted}"
    assert text.count(HIDDEN_TEST) == len(FUNCTIONS)


def test_feedback_shows_the_points_and_the_visible_tests(course: Course) -> None:
    text = course.text("half-right")
    assert f"{NOTEBOOK} (Score: 20.0 / {AUTOMATIC + BY_HAND}.0)" in text
    assert "expect(linear_elements(rows=1, d_in=10, d_out=1)" in text
    assert text.count("this function is still to be written") >= 6


def test_feedback_leads_a_crash_to_the_students_line(course: Course) -> None:
    text = course.text("crashing")
    assert "raised ZeroDivisionError" in text
    assert re.search(r"-> \d+ computing, moving = flops / peak_flops, bytes_moved / 0", text)
    assert "SyntaxError: invalid syntax" in text
    assert "name 'linear_limits' is not defined" in text


def test_an_object_equal_to_everything_is_told_so(course: Course) -> None:
    assert course.text("agreeable").count("of type __main__.Everything") >= len(FUNCTIONS)


def test_untouched_work_says_what_to_do(course: Course) -> None:
    """Once in the summary and once below each test."""
    unwritten = "this function is still to be written"
    text = course.text("untouched").replace(f'NotImplementedError("{unwritten}")', "")
    assert text.count(unwritten) == 2 * len(FUNCTIONS)


def test_feedback_escapes_student_work(course: Course) -> None:
    page = course.page("curious")
    for place in ("html", "text", "an error", "markdown", "an image", "a link"):
        assert f"<script>alert('from {place}" not in page
    assert not re.search(r"<[^>]*\bon(error|load|click)\s*=", page)
    assert not re.search(r"""href\s*=\s*["']?\s*javascript:""", page)
    assert html.escape("<script>alert('from text')</script>", quote=False) in page
    assert REMOVED in page
    assert "keys of its own" in page


def test_pictures_survive() -> None:
    png = base64.b64encode(b"\x89PNG").decode()
    shown = new_code_cell("plot()", outputs=[_display({"image/png": png, "text/html": "<b>"})])
    ShowStudentWorkAsText().preprocess_cell(shown, {}, 0)
    assert shown.outputs[0].data == {"image/png": png}


def _display(data: dict[str, str]) -> NotebookNode:
    return nbformat.v4.new_output("display_data", data=data)
