"""Run every attack: `python -m tests.grading.attacks` ends with `attacks tried N, gained 0`.

It fails on a point gained, a byte of a canary read, a process that is alive afterwards, markup of a
student's on a page, or a changed verdict of the honest student who comes after.

    python -m tests.grading.attacks --family channel     only some
    python -m tests.grading.attacks --stock              against nbgrader's own autograde, in a jail
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path

from grading.batch import Cohort
from grading.core import Cell, Grader, Result
from grading.course import student_page
from grading.feedback import feedback_page
from grading.intake import collect
from grading.notebooks import read_source
from grading.pool import graded
from grading.report import report_page
from grading.sandbox import MIB, Limits
from tests.grading.attacks.corpus import ATTACKS, CANARY, PROBLEM, RIGHT, Attack
from tests.grading.attacks.files import (
    ADA,
    FILE_ATTACKS,
    NAME,
    FileAttack,
    released,
    source_notebook,
    write,
)

SECRET = "SECRET-51c0ffee"
LIMITS = Limits(
    cell_seconds=0.8, test_seconds=0.8, submission_seconds=4, cpu_seconds=6, memory=300 * MIB
)
# A call whose answer the test should see, and whose wrongness another attack of its table shows.
HONEST = [Cell("", "helper", "locked"), Cell(RIGHT)]


def faults(grader: Grader, attack: Attack) -> Iterator[str]:
    """What the attack achieved; nothing, if all is well."""
    result = grader.grade(PROBLEM, attack.submission, SECRET)
    if result.points:
        gained = [v.grade_id for v in result.verdicts if v.points]
        yield f"gained {result.points:g} points: {', '.join(gained)}"
    if len(result.verdicts) != len(PROBLEM.tests):
        yield "a verdict is missing"
    yield from _read(_everything(result))
    yield from active_markup(feedback_page(attack.name, result))
    if alive := grader.alive():
        yield f"{alive} processes are alive afterwards"


def _read(text: str) -> Iterator[str]:
    yield from (f"read {word}" for word in (CANARY, SECRET) if word in text)


class Active(HTMLParser):
    """Collects what a page could run or fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "iframe", "object", "embed", "base", "link", "form", "a"):
            self.found.append(tag)
        picture = tag == "img" and not (dict(attrs).get("src") or "").startswith("data:image/png")
        handlers = [name for name, _ in attrs if name.startswith("on") or name == "style"]
        self.found += handlers + (["img"] if picture else [])


def active_markup(text: str) -> Iterator[str]:
    """What of a page a browser would run or fetch, and whether the page forbids it as well."""
    parser = Active()
    parser.feed(text)
    yield from (f"the page has {what}" for what in parser.found)
    if "default-src 'none'" not in text or "\x00" in text or "\x1b" in text:
        yield "the page has no policy, or control characters"


def honest(grader: Grader) -> Iterator[str]:
    """The honest student who comes next has all points."""
    result = grader.grade(PROBLEM, HONEST, SECRET)
    if result.points != sum(test.points for test in PROBLEM.tests):
        yield f"the next student has {result.points:g} points: {result.verdicts}"


def _everything(result: Result) -> str:
    return repr([(v.message, v.student_output, v.plots) for v in result.verdicts])


def file_faults(grader: Grader, attacks: Sequence[FileAttack]) -> Iterator[tuple[str, str]]:
    """What attacks with files achieve, all in one class, with an honest student among them."""
    with tempfile.TemporaryDirectory() as name:
        source, outcomes = file_class(Path(name), attacks, grader)
        best = outcomes.pop(ADA)
        if best.points != source.max_points:
            yield ADA, f"the honest student has {best.points:g} points"
        for student, outcome in outcomes.items():
            if outcome.points:
                yield student, f"gained {outcome.points:g} points"
            if not outcome.complete:
                yield student, "neither a result nor a reason"
            pages = student_page(NAME, source, outcome), report_page("t", [outcome], 1.0, 1)
            said = "".join(outcome.remarks())
            for text in (*pages, said):
                yield from ((student, fault) for fault in _read(text))
            for text in pages:
                yield from ((student, fault) for fault in active_markup(text))
        missing = len(attacks) - len(outcomes)
        if missing:
            yield "somebody", f"{missing} students are missing"


def file_class(folder: Path, attacks: Sequence[FileAttack], grader: Grader) -> tuple:
    """The source, and an outcome for each attacker and for the honest student."""
    (folder / "source").mkdir()
    (folder / "source" / f"{NAME}.ipynb").write_text(json.dumps(source_notebook()))
    for student in (ADA, *(f"eve-{number}" for number in range(len(attacks)))):
        (folder / "submitted" / student).mkdir(parents=True)
    write(folder / "submitted" / ADA, released(RIGHT))
    for number, attack in enumerate(attacks):
        attack.make(folder / "submitted" / f"eve-{number}")
    source = read_source(folder / "source" / f"{NAME}.ipynb")
    handed_in = collect(folder / "submitted", [NAME], folder / "quarantine")

    def run(tasks: Iterator) -> Iterator:
        yield from ((task.key, graded(grader, task)) for task in tasks)

    batch = Cohort({NAME: source}, handed_in, SECRET, run, log=Silent())
    return source, {outcome.student: outcome for outcome in batch.outcomes()}


class Silent:
    """Takes the lines of progress."""

    def isatty(self) -> bool:
        return False

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        return None


def named(attacks: Sequence[FileAttack], student: str) -> str:
    """The attack behind a student's name."""
    number = student.removeprefix("eve-")
    return attacks[int(number)].name if number.isdigit() else student


def main(arguments: list[str] | None = None) -> int:
    """Try all; 1 if one achieved anything."""
    parser = argparse.ArgumentParser(prog="tests.grading.attacks", description=__doc__)
    parser.add_argument("--family", default="", help="only families with this in their name")
    parser.add_argument("--stock", action="store_true", help="against nbgrader's own autograde")
    parser.add_argument("-v", "--verbose", action="store_true")
    options = parser.parse_args(arguments)
    if options.stock:
        from tests.grading.attacks.stock import compare

        return compare(options.family)
    tried, achieved = try_all(options.family, options.verbose)
    gained = sum(bool(found) for found in achieved.values())
    print(f"attacks tried {tried}, gained {gained}")
    return 1 if gained else 0


def try_all(family: str = "", verbose: bool = False) -> tuple[int, dict[tuple[str, str], list]]:
    """How many attacks were tried, and for each of them what it achieved."""
    chosen = [attack for attack in ATTACKS if family in attack.family]
    files = [attack for attack in FILE_ATTACKS if family in attack.family]
    achieved: dict[tuple[str, str], list[str]] = {(f.family, f.name): [] for f in files}
    with Grader(LIMITS) as grader:
        for attack in chosen:
            found = [*faults(grader, attack), *honest(grader)]
            achieved[attack.family, attack.name] = found
            if found or verbose:
                print(
                    f"{attack.family} / {attack.name}: {'; '.join(found) or 'nothing'}", flush=True
                )
        for each in sorted({attack.family for attack in files}):
            mine = [attack for attack in files if attack.family == each]
            for student, fault in file_faults(grader, mine):
                achieved.setdefault((each, named(mine, student)), []).append(fault)
                print(f"{each} / {named(mine, student)}: {fault}", flush=True)
    return len(chosen) + len(files), achieved


if __name__ == "__main__":
    sys.exit(main())
