"""Grade submissions, each in a sandbox.

python -m grading grade ASSIGNMENT --from FOLDER|ZIP|exchange    a class, into the gradebook
python -m grading run SOURCE.ipynb FOLDER --csv F --feedback D   one notebook, without a course
python -m grading check NOTEBOOK.ipynb [--watch]                 the visible tests, for oneself
python -m grading doctor                                         what this machine's sandbox holds
"""

import argparse
import contextlib
import functools
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from exercises.course import course_secret
from grading.batch import Cohort, Outcome, Run, in_order
from grading.core import Grader
from grading.course import Course, grade_course, write_feedback
from grading.feedback import write_page
from grading.intake import collect
from grading.notebooks import (
    IntakeError,
    read_source,
    read_submission,
    source_of,
    unsolved,
    visible,
)
from grading.pool import grade_here
from grading.report import grades_csv, grades_json
from grading.sandbox import NoSandboxError

EXERCISES = Path(__file__).resolve().parent.parent / "exercises"
EXCHANGE = Path("/usr/local/share/nbgrader/exchange")
WATCH_SECONDS = 0.2
COURSE_ID = "where-the-bytes-go"


def runner(options: argparse.Namespace) -> Run:
    """What grades tasks: this machine's cores, or a Dask scheduler's workers."""
    if getattr(options, "scheduler", None):
        from grading.cluster import grade_on_cluster

        return functools.partial(grade_on_cluster, address=options.scheduler, unsafe=options.unsafe)
    return functools.partial(grade_here, workers=options.workers, unsafe=options.unsafe)


def grade(options: argparse.Namespace) -> int:
    """A class, from what was handed in to gradebook, report, table and feedback pages."""
    folder = options.course.resolve()
    db_url = options.db or f"sqlite:///{folder / 'gradebook.db'}"
    course = Course(folder, options.assignment, db_url)
    sources = course.sources()
    place = _place(options, folder)
    handed_in = collect(place, list(sources), course.work / "quarantine", options.assignment)
    outcomes = grade_course(course, handed_in, course_secret(), runner(options), options.unsafe)
    _say(outcomes)
    for what, path in (
        ("report", course.work / "report.html"),
        ("table", course.work / "grades.csv"),
        ("feedback", folder / "feedback"),
    ):
        print(f"{what}: {path}")
    return 0


def _place(options: argparse.Namespace, folder: Path) -> Path:
    if options.place is None:
        return folder / "submitted"
    if str(options.place) == "exchange":
        return options.exchange / COURSE_ID / "inbound"
    return options.place


def run_notebook(options: argparse.Namespace) -> int:
    """One source notebook against a folder or zip of submissions, with no nbgrader course."""
    source = read_source(options.source)
    name = source.problem.name
    with tempfile.TemporaryDirectory() as quarantine:
        handed_in = collect(options.submissions, [name], Path(quarantine))
        cohort = Cohort(
            {name: source}, handed_in, course_secret(), runner(options), None, options.unsafe
        )
        done = []
        for outcome in cohort.outcomes():
            if options.feedback:
                write_feedback(options.feedback, {name: source}, outcome)
            outcome.shorten()
            done.append(outcome)
        outcomes = in_order(done)
    if options.csv:
        write_page(options.csv, grades_csv(outcomes, source.max_points))
    if options.json:
        write_page(options.json, grades_json(outcomes))
    _say(outcomes)
    return 0


def _say(outcomes: Sequence[Outcome]) -> None:
    decided = sum(bool(outcome.results) for outcome in outcomes)
    print(f"{len(outcomes)} students: {decided} graded, {len(outcomes) - decided} with a reason")
    for outcome in outcomes:
        for notebook, reason in outcome.reasons.items():
            print(f"  {outcome.student}: {notebook}: {reason}")


def check(options: argparse.Namespace) -> int:
    """The visible tests of a notebook, on the answers in it; 0 if all pass."""
    status = 0
    with Grader(unsafe=options.unsafe) as grader:
        try:
            for data in saved(options.notebook, options.watch):
                status = _check(grader, options.notebook, data)
        except KeyboardInterrupt:  # how a watch ends
            if not options.watch:
                raise
            return 0
    return status


def saved(path: Path, watch: bool = False) -> Iterator[bytes]:
    """What is in a file and, if it is to be watched, what is in it whenever it is saved again."""
    seen = path.read_bytes()
    yield seen
    while watch:
        time.sleep(WATCH_SECONDS)
        with contextlib.suppress(FileNotFoundError):  # an editor may put a new file in its place
            data = path.read_bytes()
            if data != seen:
                seen = data
                yield data


def _check(grader: Grader, notebook: Path, data: bytes) -> int:
    try:
        source = unsolved(visible(source_of(data, notebook.stem)))
        submission = read_submission(data, source)
    except (IntakeError, ValueError, KeyError, TypeError) as error:
        print(f"{notebook} cannot be checked: {error}", file=sys.stderr, flush=True)
        return 2
    result = grader.grade(source.problem, submission.cells, "")
    for verdict in result.verdicts:
        print(f"{verdict.status:8} {verdict.points:g}/{verdict.max_points:g}  {verdict.grade_id}")
        if verdict.status != "passed":
            print("         " + verdict.message.replace("\n", "\n         "))
    print(f"{result.points:g} points by the visible tests, in {result.seconds:.2f} s", flush=True)
    return int(any(verdict.status != "passed" for verdict in result.verdicts))


def doctor(options: argparse.Namespace) -> int:
    """What this machine's sandbox holds."""
    from grading import doctor as probes

    return probes.main([])


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="grading", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = top.add_subparsers(required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--unsafe", action="store_true", help="no sandbox; noted on every score")
    many = argparse.ArgumentParser(add_help=False, parents=[shared])
    many.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="default: all cores")
    many.add_argument("--scheduler", help="a Dask scheduler, such as tcp://10.0.0.1:8786")
    one = commands.add_parser("grade", parents=[many], help="a class, into the gradebook")
    one.add_argument("assignment")
    one.add_argument("--from", dest="place", type=Path, help="folder, zip or the word exchange")
    one.add_argument("--course", type=Path, default=EXERCISES, help="a folder with source/ in it")
    one.add_argument("--db", help="the gradebook's address: sqlite:///... or postgresql://...")
    one.add_argument("--exchange", type=Path, default=EXCHANGE, help="the exchange's folder")
    one.set_defaults(do=grade)
    two = commands.add_parser("run", parents=[many], help="one notebook, without a course")
    two.add_argument("source", type=Path)
    two.add_argument("submissions", type=Path)
    for name in ("json", "csv", "feedback"):
        two.add_argument(f"--{name}", type=Path)
    two.set_defaults(do=run_notebook)
    three = commands.add_parser("check", parents=[shared], help="the visible tests, for oneself")
    three.add_argument("notebook", type=Path)
    three.add_argument("--watch", action="store_true", help="check whenever the file is saved")
    three.set_defaults(do=check)
    commands.add_parser("doctor", help="what this machine's sandbox holds").set_defaults(do=doctor)
    return top


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 unless it could not be done. What a submission does never ends it."""
    options = parser().parse_args(arguments)
    try:
        return options.do(options)
    except (NoSandboxError, ValueError, OSError) as error:
        print(f"grading: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
