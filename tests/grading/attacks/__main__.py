"""Run every attack: `python -m tests.grading.attacks` ends with `attacks tried N, gained 0`.

It fails on a point gained, a byte of a canary read, a process that is alive afterwards, or a
changed verdict of the honest student who comes after.
"""

import argparse
import sys
from collections.abc import Iterator

from grading.core import Cell, Grader, Result
from grading.sandbox import MIB, Limits
from tests.grading.attacks.corpus import ATTACKS, CANARY, PROBLEM, RIGHT, Attack

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
    for word in (CANARY, SECRET):
        if word in _everything(result):
            yield f"read {word}"
    if alive := grader.alive():
        yield f"{alive} processes are alive afterwards"


def honest(grader: Grader) -> Iterator[str]:
    """The honest student who comes next has all points."""
    result = grader.grade(PROBLEM, HONEST, SECRET)
    if result.points != sum(test.points for test in PROBLEM.tests):
        yield f"the next student has {result.points:g} points: {result.verdicts}"


def _everything(result: Result) -> str:
    return repr([(v.message, v.student_output, v.plots) for v in result.verdicts])


def main(arguments: list[str] | None = None) -> int:
    """Try all; 1 if one achieved anything."""
    parser = argparse.ArgumentParser(prog="tests.grading.attacks", description=__doc__)
    parser.add_argument("--family", default="", help="only families with this in their name")
    parser.add_argument("-v", "--verbose", action="store_true")
    options = parser.parse_args(arguments)
    chosen = [attack for attack in ATTACKS if options.family in attack.family]
    gained = 0
    with Grader(LIMITS) as grader:
        for attack in chosen:
            found = [*faults(grader, attack), *honest(grader)]
            gained += bool(found)
            for fault in found:
                print(f"{attack.family} / {attack.name}: {fault}", flush=True)
            if options.verbose and not found:
                print(f"{attack.family} / {attack.name}: nothing", flush=True)
    print(f"attacks tried {len(chosen)}, gained {gained}")
    return 1 if gained else 0


if __name__ == "__main__":
    sys.exit(main())
