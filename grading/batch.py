"""A class from what was handed in to scores: intake, grading, one outcome for each student."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

from grading.cache import Kept, test_keys
from grading.core import Result
from grading.intake import HandedIn
from grading.notebooks import IntakeError, SourceNotebook, Submission, read_submission
from grading.pool import GradingTask

SHORT = 1_000
Run = Callable[[Iterable[GradingTask]], Iterator[tuple[tuple[str, str], Result]]]


@dataclass
class Outcome:
    """One student: the result of each notebook, or the reason why there is none."""

    student: str
    expected: tuple[str, ...]
    tested: float
    when: str = ""
    results: dict[str, Result] = field(default_factory=dict)
    submissions: dict[str, Submission] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    fresh: set[str] = field(default_factory=set)

    @property
    def points(self) -> float:
        """The points of all tests."""
        return sum(result.points for result in self.results.values())

    @property
    def waiting(self) -> int:
        """How many written answers a person has to read."""
        return sum(len(submission.answers) for submission in self.submissions.values())

    @property
    def complete(self) -> bool:
        """Whether every notebook has a result or a reason."""
        return set(self.results) | set(self.reasons) >= set(self.expected)

    def shorten(self) -> None:
        """Let go of what has been written to pages: a class of thousands stays in memory."""
        cut = {"student_output": "", "plots": ()}
        for name, result in self.results.items():
            verdicts = (replace(v, message=v.message[:SHORT], **cut) for v in result.verdicts)
            self.results[name] = replace(result, verdicts=tuple(verdicts))
        self.submissions = {n: replace(each, cells=()) for n, each in self.submissions.items()}

    def remarks(self) -> list[str]:
        """What an instructor should know, a line for each."""
        lines = [f"{notebook}: {reason}" for notebook, reason in self.reasons.items()] + self.notes
        for notebook, submission in self.submissions.items():
            lines += [f"{notebook}: {note}" for note in submission.notes]
        for notebook, result in self.results.items():
            lines += [f"{notebook}: {note}" for note in result.notes]
            if result.unsafe:
                lines.append(f"{notebook}: graded without a sandbox (--unsafe)")
            gone = sum(verdict.status == "lost" for verdict in result.verdicts)
            if gone:
                lines.append(f"{notebook}: {gone} tests came to no verdict, so no points")
        return lines


class Cohort:
    """Everybody's notebooks on their way to a result; `outcomes()` yields each student once."""

    def __init__(
        self,
        sources: Mapping[str, SourceNotebook],
        handed_in: Mapping[str, HandedIn],
        secret: str,
        run: Run,
        kept: Path | None = None,
        unsafe: bool = False,
        log: TextIO = sys.stderr,
    ) -> None:
        self.sources, self.handed_in, self.secret = sources, handed_in, secret
        self.run, self.kept, self.unsafe = run, kept, unsafe
        self.tested = sum(t.points for s in sources.values() for t in s.problem.tests)
        self.open: dict[str, Outcome] = {}
        self.plans: dict[tuple[str, str], tuple[Kept, dict[str, str]]] = {}
        self.ready: list[Outcome] = []
        self.progress = Progress(len(handed_in), log)
        self.graded = 0

    def outcomes(self) -> Iterator[Outcome]:
        """Each student as soon as everything of theirs is decided. The run begins at once."""
        return self._decided(self.run(self._tasks()))

    def _decided(self, results: Iterator[tuple[tuple[str, str], Result]]) -> Iterator[Outcome]:
        for (student, notebook), result in results:
            if (student, notebook) not in self.plans:
                continue  # told twice, as by a worker that was given up too early
            self.graded += 1
            outcome = self.open[student]
            kept, keys = self.plans.pop((student, notebook))
            whole = kept.complete(self.sources[notebook].problem, keys, result)
            outcome.results[notebook] = whole
            outcome.fresh.add(notebook)
            if outcome.complete:
                self.ready.append(self.open.pop(student))
            yield from self._flush()
        yield from self._flush()
        self.progress.end()

    def _flush(self) -> Iterator[Outcome]:
        while self.ready:
            outcome = self.ready.pop()
            self.progress.step()
            yield outcome

    def _tasks(self) -> Iterator[GradingTask]:
        for student, work in self.handed_in.items():
            expected, notes = tuple(self.sources), list(work.notes)
            outcome = Outcome(student, expected, self.tested, work.when, notes=notes)
            outcome.reasons |= work.reasons
            self.open[student] = outcome
            tasks = [t for n, path in work.notebooks.items() if (t := self._task(outcome, n, path))]
            if outcome.complete:
                self.ready.append(self.open.pop(student))
            yield from tasks

    def _task(self, outcome: Outcome, notebook: str, path: Path) -> GradingTask | None:
        source = self.sources[notebook]
        try:
            submission = read_submission(path.read_bytes(), source)
        except IntakeError as error:
            outcome.reasons[notebook] = str(error)
            return None
        except Exception as error:
            outcome.reasons[notebook] = f"the notebook could not be read ({type(error).__name__})"
            return None
        outcome.submissions[notebook] = submission
        keys = test_keys(source.problem, submission.cells, self.secret, self.unsafe)
        kept = Kept(self.kept / outcome.student / f"{notebook}.json" if self.kept else None)
        missing = kept.missing(source.problem, keys)
        if not missing.tests and source.problem.tests:
            outcome.results[notebook] = kept.complete(source.problem, keys, None)
            return None
        self.plans[outcome.student, notebook] = (kept, keys)
        return GradingTask((outcome.student, notebook), missing, submission.cells, self.secret)


class Progress:
    """A line that says how far a run is, how fast, and how long it still takes."""

    def __init__(self, total: int, log: TextIO) -> None:
        self.total, self.log, self.done = total, log, 0
        self.started = self.said = time.monotonic()
        self.seconds = 0.0
        self.often = 0.5 if log.isatty() else 10.0

    def step(self) -> None:
        """One more student is done."""
        self.done += 1
        now = time.monotonic()
        if now - self.said >= self.often:
            self.said = now
            self._say(now)

    def _say(self, now: float) -> None:
        rate = self.done / max(now - self.started, 1e-9)
        left = (self.total - self.done) / rate if rate else 0
        end = "\r" if self.log.isatty() else "\n"
        line = f"{self.done}/{self.total} students, {rate:.1f}/s, {left:.0f} s left"
        print(f"{line:60}", end=end, file=self.log, flush=True)

    def end(self) -> None:
        """The last line."""
        self.seconds = took = time.monotonic() - self.started
        rate = self.done / max(took, 1e-9)
        line = f"{self.done}/{self.total} students in {took:.1f} s, {rate:.1f}/s"
        print(f"{line:60}", file=self.log, flush=True)


def in_order(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Students in alphabetical order, however they came out."""
    return sorted(outcomes, key=lambda outcome: outcome.student)
