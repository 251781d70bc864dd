"""A class made up from a seed: honest, careless, hostile, and three in ten malformed.

    python -m tests.grading.synthetic_class                        1,000 submissions
    python -m tests.grading.synthetic_class --number 300 --regrade 300 --json class.json

What each of them has to get is known. It ends with how many were decided as expected; with
`--regrade` the submissions are graded again, and a verdict that differs is a flip.
"""

import argparse
import csv
import io
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from grading.batch import Cohort, Outcome
from grading.core import Grader, Result
from grading.course import write_feedback
from grading.intake import collect
from grading.notebooks import SourceNotebook, read_source
from grading.pool import GradingTask, graded
from grading.report import grades_csv
from grading.sandbox import MIB, Limits
from tests.grading.attacks.__main__ import SECRET, Silent
from tests.grading.attacks.corpus import ATTACKS, PROBLEM
from tests.grading.attacks.files import (
    FILE_ATTACKS,
    NAME,
    code_cell,
    handed_in,
    released,
    source_notebook,
    write,
)

LIMITS = Limits(
    cell_seconds=8, test_seconds=8, submission_seconds=30, cpu_seconds=20, memory=400 * MIB
)
SLOW = ("loops, memory, processes", "timing", "callbacks", "files, disk, output")
SLOW_NAMES = ("half a message", "flood", "ignored signals", "forged callback", "stack overflow")
# For each function: ways to write it right, and mistakes that people make.
FUNCTIONS = {
    "test-softmax": (
        4.0,
        [
            "def softmax(x):\n    e = (x - x.max(-1, keepdim=True).values).exp()\n"
            "    return e / e.sum(-1, keepdim=True)",
            "def softmax(x):\n    return torch.softmax(x, dim=-1)",
            "softmax = lambda x: x.exp() / x.exp().sum(-1, keepdim=True)",
        ],
        [
            "def softmax(x):\n    return x.exp() / x.exp().sum()",
            "def softmax(x):\n    return torch.softmax(x, 0)",
            "def softmax(x):\n    return x / x.sum(-1, keepdim=True)",
            "def softmax(x): raise NotImplementedError",
            "def soft_max(x):\n    return torch.softmax(x, -1)",
        ],
    ),
    "test-flops": (
        3.0,
        [
            "def flops(n):\n    return {'flops': 2 * n, 'bound': 'memory'}",
            "def flops(n):\n    return dict(bound='memory', flops=n + n)",
        ],
        [
            "def flops(n):\n    return {'flops': n, 'bound': 'memory'}",
            "def flops(n):\n    print({'flops': 2 * n, 'bound': 'memory'})",
            "def flops(n):\n    return 2 * n, 'memory'",
            "def flops(n):\n    return {'flops': 2 * m, 'bound': 'memory'}",
        ],
    ),
    "test-twice": (
        2.0,
        ["def twice(g, x):\n    return g(g(x))", "def twice(g, x):\n    y = g(x)\n    return g(y)"],
        [
            "def twice(g, x):\n    return g(x)",
            "def twice(g, x):\n    return 2 * g(x)",
            "def twice(g, x):\n    g(g(x))",
        ],
    ),
    "test-model": (
        1.0,
        [
            "class Model(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
            "        self.w = torch.nn.Parameter(torch.ones(3))\n"
            "    def forward(self, x):\n        return x * self.w",
        ],
        [
            "class Model(torch.nn.Module):\n    def __init__(self):\n"
            "        self.w = torch.nn.Parameter(torch.ones(3))\n"
            "    def forward(self, x):\n        return x * self.w",
            "class Model(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
            "        self.w = torch.ones(3)\n    def forward(self, x):\n        return x * self.w",
            "class Model:\n    def __call__(self, x): return x",
        ],
    ),
}
HABITS = ["", "print('hello')", "x = 1 / 0", "%matplotlib inline", "import numpy as np", "1 +"]


@dataclass(frozen=True)
class Made:
    """One made-up student: the case, and the points; None where there has to be a reason."""

    kind: str
    case: str
    points: float | None


def answer(draw: random.Random, right: float) -> tuple[str, float]:
    """All four functions, each right with a probability; and what they are worth."""
    parts, points = ["import torch"], 0.0
    for worth, good, bad in FUNCTIONS.values():
        fine = draw.random() < right
        parts.append(draw.choice(good if fine else bad))
        points += worth if fine else 0.0
    return "\n".join(parts), points


def _stripped(content: dict) -> None:
    for cell in content["cells"]:
        cell["metadata"] = {}


def _tests(content: dict) -> list[dict]:
    return [c for c in content["cells"] if c["metadata"].get("nbgrader", {}).get("grade")]


def _without_tests(content: dict) -> None:
    content["cells"] = [cell for cell in content["cells"] if cell not in _tests(content)]


def _tests_first(content: dict) -> None:
    content["cells"].sort(key=lambda cell: not cell["metadata"]["nbgrader"]["grade"])


def _tests_twice(content: dict) -> None:
    content["cells"] += _tests(content)


def _as_text(content: dict) -> None:
    for cell in content["cells"]:
        if cell["metadata"]["nbgrader"]["solution"]:
            cell["cell_type"] = "markdown"


def _version_3(content: dict) -> None:
    cells = [{**cell, "input": cell["source"]} for cell in content.pop("cells")]
    content |= {"nbformat": 3, "worksheets": [{"cells": cells}]}


def _version_5(content: dict) -> None:
    content["nbformat"] = 5


def _junk(content: dict) -> None:
    content["cells"] += [None, 3, {}, {"cell_type": "code", "source": "\ud800"}]


def _own_points(content: dict) -> None:
    for cell in _tests(content):
        cell["metadata"]["nbgrader"]["points"] = 100
        cell["metadata"]["tags"] = ["skip-execution"]


def _large_outputs(content: dict) -> None:
    stream = {"output_type": "stream", "name": "stdout", "text": "x" * 1_000_000}
    for cell in content["cells"]:
        cell["outputs"] = [stream]


MENDED = [_stripped, _without_tests, _tests_first, _tests_twice, _as_text, _version_3, _version_5,
          _junk, _own_points, _large_outputs]  # fmt: skip
ENCODED: dict[str, Callable[[bytes], bytes]] = {
    "UTF-16": lambda data: data.decode().encode("utf-16"),
    "with a mark of its order": lambda data: b"\xef\xbb\xbf" + data,
    "indented": lambda data: json.dumps(json.loads(data), indent=8).encode(),
}
REFUSED: dict[str, Callable[[bytes], bytes | None]] = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "no JSON": lambda data: b"# my homework\n" + data,
    "a list": lambda data: b"[1, 2]",
    "no cells": lambda data: b'{"cells": null, "nbformat": 4}',
    "a picture": lambda data: b"\x89PNG\r\n\x1a\n\xff" + data,
    "deep": lambda data: b"[" * 50_000,
    "a pickle": lambda data: b"cos\nsystem\n(S'true'\ntR.",
    "missing": lambda data: None,
}


def make(folder: Path, number: int, seed: int, slow: bool = True) -> dict[str, Made]:
    """Write the class; returns what each student has to get."""
    draw, made = random.Random(seed), {}
    hostile = [*ATTACKS, *(a for a in FILE_ATTACKS if a.family != "links")]
    quick = [a for a in hostile if a.family not in SLOW and a.name not in SLOW_NAMES]
    for place in range(number):
        student = f"s{place:05}"
        (folder / student).mkdir(parents=True)
        kind = draw.choices(["honest", "careless", "hostile", "malformed"], [30, 25, 15, 30])[0]
        if kind == "hostile":
            attack = draw.choice(hostile if slow and draw.random() < 0.02 else quick)
            if hasattr(attack, "make"):
                attack.make(folder / student)
            else:
                write(folder / student, handed_in(attack))
            made[student] = Made(kind, f"{attack.family}: {attack.name}", 0.0)
        else:
            made[student] = _write(folder / student, kind, draw)
    return made


def _write(folder: Path, kind: str, draw: random.Random) -> Made:
    text, points = answer(draw, 1.0 if kind == "honest" else 0.6)
    content, name = released(text), f"{NAME}.ipynb"
    case = "in good order"
    if kind == "careless":
        content["cells"].insert(draw.randrange(5), code_cell(draw.choice(HABITS)))
    if kind != "malformed":
        write(folder, content)
        return Made(kind, case, points)
    way = draw.randrange(4)
    if way == 0:
        change = draw.choice(MENDED)
        change(content)
        write(folder, content)
        return Made(kind, change.__name__.strip("_"), points)
    data = json.dumps(content).encode()
    if way == 1:
        name = draw.choice([f"{NAME} (1).ipynb", f"Copy of {NAME}.ipynb", f"{NAME.upper()}.ipynb"])
        case, data = draw.choice([*ENCODED]), data
        write(folder, ENCODED[case](data), name)
        return Made(kind, case, points)
    case = draw.choice([*REFUSED])
    broken = REFUSED[case](data)
    if broken is not None:
        write(folder, broken)
    return Made(kind, case, None)


class Graded:
    """A class through intake, sandbox, table and pages, with a grader that is given."""

    def __init__(self, folder: Path, grader: Grader) -> None:
        self.folder, self.grader = folder, grader
        path = folder / f"{NAME}.ipynb"
        path.write_text(json.dumps(source_notebook()))
        self.source: SourceNotebook = read_source(path)
        self.tasks: list[GradingTask] = []
        self.results: dict[str, Result] = {}

    def outcomes(self) -> dict[str, Outcome]:
        """Everybody's outcome."""
        handed = collect(self.folder / "submitted", [NAME], self.folder / "quarantine")
        cohort = Cohort({NAME: self.source}, handed, SECRET, self._run, log=Silent())
        return {outcome.student: outcome for outcome in cohort.outcomes()}

    def _run(self, tasks: Iterator[GradingTask]) -> Iterator:
        for task in tasks:
            self.tasks.append(task)
            self.results[task.key[0]] = graded(self.grader, task)
            yield task.key, self.results[task.key[0]]

    def flips(self, number: int) -> list[str]:
        """Grade that many again; what came out otherwise than before."""
        found = []
        for place in range(number):
            task = self.tasks[place % len(self.tasks)]
            before, again = (
                [(v.grade_id, v.points, v.status) for v in result.verdicts]
                for result in (self.results[task.key[0]], graded(self.grader, task))
            )
            if before != again:
                found.append(f"{task.key[0]}: {before} and then {again}")
        return found


def surprises(graded_class: Graded, made: dict[str, Made], folder: Path) -> Iterator[str]:
    """Everything that is otherwise than it has to be."""
    outcomes = graded_class.outcomes()
    if set(outcomes) != set(made):
        yield f"lost or invented: {sorted(set(outcomes) ^ set(made))[:5]}"
    for student, outcome in outcomes.items():
        wanted = made[student]
        if wanted.points is None:
            fine = not outcome.results and outcome.reasons.get(NAME)
        else:
            fine = outcome.points == wanted.points and outcome.complete
            hostile = wanted.kind == "hostile"
            fine = fine and (hostile or not outcome.reasons)
        if not fine:
            said = [
                (v.grade_id, v.status, v.message[:80])
                for r in outcome.results.values()
                for v in r.verdicts
            ]
            yield f"{student}: {wanted}: {outcome.points:g} points, {outcome.reasons}, {said}"
    most = sum(test.points for test in PROBLEM.tests)
    rows = csv.DictReader(io.StringIO(grades_csv(list(outcomes.values()), most)))
    table = {row["student"]: float(row["points"]) for row in rows}
    if table != {student: outcome.points for student, outcome in outcomes.items()}:
        yield "the table says something else than the outcomes"
    for outcome in outcomes.values():
        write_feedback(folder / "feedback", {NAME: graded_class.source}, outcome)
    if len(list((folder / "feedback").rglob("*.html"))) != len(made):
        yield "not everybody has a page"


def main(arguments: list[str] | None = None) -> int:
    """Make, grade and check a class; 1 if something was not as expected."""
    parser = argparse.ArgumentParser(prog="tests.grading.synthetic_class", description=__doc__)
    parser.add_argument("--number", type=int, default=1000)
    parser.add_argument("--regrade", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name, Grader(LIMITS) as grader:
        folder = Path(name)
        made = make(folder / "submitted", options.number, options.seed)
        whole = Graded(folder, grader)
        found = list(surprises(whole, made, folder))
        seconds = time.monotonic() - started
        flips = whole.flips(options.regrade)
    print("\n".join([*found, *flips]))
    about = {
        "submissions": options.number, "seed": options.seed, "surprises": len(found),
        "kinds": dict(Counter(each.kind for each in made.values())), "seconds": round(seconds, 1),
        "regrades": options.regrade, "flips": len(flips),
    }  # fmt: skip
    print(json.dumps(about))
    if options.json:
        options.json.write_text(json.dumps(about, indent=1) + "\n")
    return 1 if found or flips else 0


if __name__ == "__main__":
    sys.exit(main())
