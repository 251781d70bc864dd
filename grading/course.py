"""An nbgrader course graded whole: gradebook, report, table, feedback; safe to kill at any point.

Everything that a run makes lies in `graded/ASSIGNMENT/` of the course, beside nbgrader's own
`gradebook.db`, `autograded/` and `feedback/`. A student's scores are written in one transaction,
and only then a mark that says so: whoever was interrupted is done again.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from grading import gradebook
from grading.batch import Cohort, Outcome, Run, in_order
from grading.feedback import feedback_page, write_page
from grading.intake import HandedIn
from grading.notebooks import SourceNotebook, read_source
from grading.report import grades_csv, report_page


@dataclass(frozen=True)
class Course:
    """Where an assignment of an nbgrader course lives."""

    folder: Path
    assignment: str
    db_url: str

    @property
    def work(self) -> Path:
        """What our own runs leave: quarantine, verdicts, marks, report."""
        return self.folder / "graded" / self.assignment

    def sources(self) -> dict[str, SourceNotebook]:
        """The assignment's notebooks by name. Raises `ValueError` if there is none."""
        paths = sorted((self.folder / "source" / self.assignment).glob("*.ipynb"))
        if not paths:
            known = sorted({path.parent.name for path in self.folder.glob("source/*/*.ipynb")})
            raise ValueError(
                f"no notebook in {self.folder}/source/{self.assignment}; "
                f"the assignments are: {', '.join(known) or 'none'}"
            )
        return {path.stem: read_source(path) for path in paths}


def grade_course(
    course: Course, handed_in: Mapping[str, HandedIn], secret: str, run: Run, unsafe: bool
) -> list[Outcome]:
    """Grade everybody into the gradebook; returns the outcomes, students in order."""
    sources = course.sources()
    cohort = Cohort(sources, handed_in, secret, run, course.work / "verdicts", unsafe)
    outcomes, done = cohort.outcomes(), []  # the sandbox starts while nbgrader is loaded
    with gradebook.opened(course.db_url) as book:
        entered = gradebook.register(book, course.assignment, list(sources.values()))
        for outcome in outcomes:
            _record(course, book, entered, sources, outcome)
            outcome.shorten()
            done.append(outcome)
    ordered = in_order(done)
    most = sum(source.max_points for source in sources.values())
    seconds = cohort.progress.seconds
    title = f"{course.assignment}: report"
    write_page(course.work / "report.html", report_page(title, ordered, seconds, cohort.graded))
    write_page(course.work / "grades.csv", grades_csv(ordered, most))
    return ordered


def _record(
    course: Course,
    book: Any,
    entered: gradebook.EnteredAssignment,
    sources: Mapping[str, SourceNotebook],
    outcome: Outcome,
) -> None:
    """Gradebook, formgrader's notebook and feedback page, unless they are there already."""
    mark = course.work / "recorded" / f"{outcome.student}.json"
    content = json.dumps([entered.id, _digest(outcome)])
    if mark.is_file() and mark.read_text(encoding="utf-8") == content:
        return
    each = {
        name: (sources[name], outcome.submissions.get(name), outcome.results.get(name))
        for name in sources
    }
    for name, (source, work, result) in each.items():
        place = Path(outcome.student) / course.assignment
        path = course.folder / "autograded" / place / f"{name}.ipynb"
        gradebook.write_graded_notebook(path, source, work, result)
        text = student_page(name, source, outcome)
        write_page(course.folder / "feedback" / place / f"{name}.html", text)
    gradebook.record(book, entered, outcome.student, each, outcome.when)
    write_page(mark, content)


def _digest(outcome: Outcome) -> str:
    verdicts = [
        (name, v.grade_id, v.points, v.status, v.message)
        for name, result in sorted(outcome.results.items())
        for v in result.verdicts
    ]
    answers = {name: dict(each.answers) for name, each in outcome.submissions.items()}
    content = [verdicts, answers, outcome.reasons, outcome.when]
    return sha256(json.dumps(content).encode()).hexdigest()


def student_page(name: str, source: SourceNotebook, outcome: Outcome) -> str:
    """The feedback page of one student's notebook."""
    reason = outcome.reasons.get(name)
    notes = [f"This notebook was not graded: {reason}."] if reason else []
    work = outcome.submissions.get(name)
    notes += work.notes if work else ()
    answers = work.answers if work else {}
    waiting = {each.grade_id: each.points for each in source.written if each.grade_id in answers}
    return feedback_page(name, outcome.results.get(name), notes, waiting)


def write_feedback(folder: Path, sources: Mapping[str, SourceNotebook], outcome: Outcome) -> None:
    """A page for each notebook of a student: FOLDER/STUDENT/NOTEBOOK.html."""
    for name, source in sources.items():
        path = folder / outcome.student / f"{name}.html"
        write_page(path, student_page(name, source, outcome))
