# ruff: noqa: E501
"""Attacks with files: links, shapes of notebooks, names. Each writes what EVE hands in.

ADA's right work lies beside it. Nothing in EVE's own cells earns a point.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from grading.core import TestCell
from grading.notebooks import HIDDEN
from tests.grading.attacks.corpus import PROBLEM, RIGHT, WRONG, Attack

NAME = PROBLEM.name
ADA, EVE = "ada", "eve"


def source_notebook() -> dict:
    """The attacked problem as the instructor's notebook."""
    cells = []
    for cell in PROBLEM.cells:
        test = isinstance(cell, TestCell)
        grade_id = cell.grade_id if test else cell.cell_id
        roles = {"grade": test, "solution": cell.source == RIGHT, "task": False}
        about = {**roles, "grade_id": grade_id, "locked": not roles["solution"]}
        about |= {"schema_version": 3, "cell_type": "code"} | (
            {"points": cell.points} if test else {}
        )
        source = f"### BEGIN SOLUTION{RIGHT}### END SOLUTION" if roles["solution"] else cell.source
        cells.append(code_cell(source, about))
    return notebook_of(cells)


def code_cell(source: str, graded: dict | None = None, **more: object) -> dict:
    """A code cell of a notebook, with nbgrader's metadata."""
    metadata = {"nbgrader": graded} if graded else {}
    about = {"cell_type": "code", "metadata": metadata, "outputs": [], "execution_count": None}
    return {**about, "source": source, **more}


def notebook_of(cells: list[dict], **more: object) -> dict:
    """A notebook of these cells."""
    cells = [{"id": f"c{number}", **cell} for number, cell in enumerate(cells)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    about = {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}}
    return {**about, "cells": cells, **more}


def released(answer: str, **more: object) -> dict:
    """What students have, with the answer cell filled in."""
    content = source_notebook()
    for cell in content["cells"]:
        about = cell["metadata"]["nbgrader"]
        cell["source"] = answer if about["solution"] else HIDDEN.sub("", cell["source"])
    return {**content, **more}


def handed_in(attack: Attack) -> dict:
    """A hostile submission of the corpus as a notebook."""
    known = {cell["metadata"]["nbgrader"]["grade_id"]: cell for cell in released("")["cells"]}
    cells = []
    for cell in attack.submission:
        about = known[cell.cell_id]["metadata"]["nbgrader"] if cell.cell_id in known else None
        place = not cell.source and about is not None
        source = known[cell.cell_id]["source"] if place else cell.source
        kind = "markdown" if cell.kind == "markdown" else "code"
        loose = {"grade_id": cell.cell_id, "grade": False, "solution": False, "locked": True}
        own = about or ({**loose, "schema_version": 3} if cell.cell_id else None)
        cells.append(code_cell(source, own, cell_type=kind))
    if not attack.cells:
        answer = next(cell for cell in cells if cell["source"] == WRONG)
        answer["metadata"] = {"nbgrader": known["answers"]["metadata"]["nbgrader"]}
    return notebook_of(cells)


@dataclass(frozen=True)
class FileAttack:
    """A hostile submission as files: `make` writes it into EVE's folder, which is there."""

    family: str
    name: str
    make: Callable[[Path], None]


def write(folder: Path, content: object, name: str = f"{NAME}.ipynb") -> None:
    """A notebook, a text or bytes as a file of a submission."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / name).write_bytes(data)


def _shape(change: Callable[[dict], object]) -> Callable[[Path], None]:
    """The wrong answers in a notebook that `change` has worked on; what it returns counts."""

    def make(folder: Path) -> None:
        content = released(WRONG)
        write(folder, change(content) or content)

    return make


def _tests(content: dict) -> list[dict]:
    return [c for c in content["cells"] if c["metadata"].get("nbgrader", {}).get("grade")]


def _each_test(**about: object) -> Callable[[dict], None]:
    def change(content: dict) -> None:
        for cell in _tests(content):
            cell |= {k: v for k, v in about.items() if k in cell}
            cell["metadata"]["nbgrader"] |= {k: v for k, v in about.items() if k not in cell}

    return change


def _tagged(*tags: str) -> Callable[[dict], None]:
    def change(content: dict) -> None:
        for cell in content["cells"]:
            cell["metadata"]["tags"] = list(tags)

    return change


def _outputs(content: dict) -> None:
    shown = {"output_type": "execute_result", "execution_count": 1, "metadata": {}}
    for cell in _tests(content):
        cell["outputs"] = [{**shown, "data": {"text/plain": "10"}}]


def _more(*cells: dict, first: bool = False) -> Callable[[dict], None]:
    def change(content: dict) -> None:
        have = content["cells"]
        content["cells"] = [*cells, *have] if first else [*have, *cells]

    return change


def _kernel(**spec: str) -> Callable[[dict], None]:
    def change(content: dict) -> None:
        content["metadata"]["kernelspec"] = spec

    return change


def _ids(rename: Callable[[str], object]) -> Callable[[dict], None]:
    def change(content: dict) -> None:
        for cell in content["cells"]:
            cell["metadata"]["nbgrader"]["grade_id"] = rename(
                cell["metadata"]["nbgrader"]["grade_id"]
            )

    return change


def _version_3(content: dict) -> dict:
    cells = [{**cell, "input": cell["source"], "language": "python"} for cell in content["cells"]]
    return {"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": [{"cells": cells}]}


def _link(target: str) -> Callable[[Path], None]:
    return lambda folder: (folder / f"{NAME}.ipynb").symlink_to(target)


def _linked_folder(target: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        os.rmdir(folder)
        folder.symlink_to(target)

    return make


def _chain(folder: Path) -> None:
    (folder / "a").symlink_to(f"../{ADA}")
    (folder / f"{NAME}.ipynb").symlink_to(f"a/{NAME}.ipynb")


def _beside(target: str, name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        write(folder, released(f"print(open({name!r}).read())\n{WRONG}"))
        (folder / name).symlink_to(target)

    return make


def _hard_link(folder: Path) -> None:
    source = next(folder.parent.parent.glob(f"source/{NAME}.ipynb"), None)
    os.link(source or folder.parents[2] / "source/ps1" / f"{NAME}.ipynb", folder / f"{NAME}.ipynb")


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / f"{NAME}.ipynb")


def _raw(data: bytes) -> Callable[[Path], None]:
    return lambda folder: write(folder, data)


def _named(name: str) -> Callable[[Path], None]:
    return lambda folder: write(folder, released(WRONG), name)


def _deep_folder(folder: Path) -> None:
    below = folder.joinpath(*["d"] * 60)
    below.mkdir(parents=True)
    write(below, released(WRONG))


def _many_files(folder: Path) -> None:
    for number in range(300):
        write(folder, {}, f"{number}.ipynb")
    write(folder, released(WRONG))


_GRADED = {"grade": True, "solution": False, "locked": True, "schema_version": 3, "points": 10}
_PASS = [code_cell("pass", {**_GRADED, "grade_id": test.grade_id}) for test in PROBLEM.tests]
_NEAR = code_cell("def near(a, b): return True", {**_GRADED, "grade_id": "helper", "grade": False})
_TWICE = b'{"cells": %s, "nbformat": 4, "cells": %s}'
FILES: dict[str, dict[str, Callable[[Path], None]]] = {
    "links": {
        "to the best student's work": _link(f"../{ADA}/{NAME}.ipynb"),
        "to the source": _link(f"../../source/{NAME}.ipynb"),
        "to a system file": _link("/etc/passwd"),
        "to nothing": _link("nowhere"),
        "to itself": _link(f"{NAME}.ipynb"),
        "to a device": _link("/dev/zero"),
        "to standard input": _link("/proc/self/fd/0"),
        "to the memory of the grader": _link("/proc/self/environ"),
        "a folder": _linked_folder(ADA),
        "the folder above": _linked_folder(".."),
        "the system's root": _linked_folder("/"),
        "over a folder": _chain,
        "hard": _hard_link,
        "a pipe": _pipe,
        "data beside the notebook": _beside("/etc/passwd", "data.csv"),
        "the gradebook beside it": _beside("../../gradebook.db", "notes.txt"),
        "a folder with the notebook's name": lambda folder: (folder / f"{NAME}.ipynb").mkdir(),
    },
    "notebook shapes": {
        "hundred points": _shape(_each_test(points=100)),
        "negative points": _shape(_each_test(points=-1e308)),
        "points that are no number": _shape(_each_test(points=float("nan"))),
        "points in words": _shape(_each_test(points="10")),
        "tests unlocked": _shape(_each_test(locked=False)),
        "tests that are no tests": _shape(_each_test(grade=False)),
        "tests as answers": _shape(_each_test(solution=True, grade=True)),
        "tests as tasks": _shape(_each_test(task=True)),
        "tests emptied": _shape(_each_test(source="")),
        "tests that pass": _shape(_each_test(source="pass")),
        "tests that show points": _shape(_each_test(source="10")),
        "tests as raw cells": _shape(_each_test(cell_type="raw")),
        "tests as text": _shape(_each_test(cell_type="markdown")),
        "checksum of another": _shape(_each_test(checksum="0" * 32)),
        "schema of the past": _shape(_each_test(schema_version=1)),
        "schema of the future": _shape(_each_test(schema_version=99)),
        "skip-execution": _shape(_tagged("skip-execution")),
        "raises-exception": _shape(_tagged("raises-exception")),
        "tags of papermill": _shape(_tagged("parameters", "injected-parameters")),
        "outputs handed in": _shape(_outputs),
        "own tests behind": _shape(_more(*_PASS)),
        "own tests before": _shape(_more(*_PASS, first=True)),
        "helper twice": _shape(_more(_NEAR)),
        "helper first": _shape(_more(_NEAR, first=True)),
        "helper exchanged": _shape(lambda c: c["cells"].__setitem__(0, _NEAR)),
        "right answer as text": _shape(_more({**code_cell(RIGHT), "cell_type": "markdown"})),
        "right answer as raw text": _shape(_more({**code_cell(RIGHT), "cell_type": "raw"})),
        "right answer in an attachment": _shape(_more(code_cell("", attachments={"a": {"text/plain": RIGHT}}))),
        "ids exchanged": _shape(_ids(lambda name: "answers" if name != "answers" else "test-flops")),
        "ids that lead out": _shape(_ids(lambda name: f"../../{name}")),
        "ids with markup": _shape(_ids(lambda name: f"<script>{name}</script>")),
        "ids that are lists": _shape(_ids(lambda name: [name])),
        "ids of a megabyte": _shape(_ids(lambda name: name * 100_000)),
        "a kernel of its own": _shape(_kernel(name="bash", display_name="x", language="bash")),
        "a kernel with a path": _shape(_kernel(name="../../eve/kernel", display_name="x", language="x")),
        "version 3": _shape(_version_3),
        "version 5": _shape(lambda c: c.update(nbformat=5)),
        "version in words": _shape(lambda c: c.update(nbformat="<script>")),
        "two lists of cells": _raw(_TWICE % tuple(json.dumps(released(a)["cells"]).encode() for a in (RIGHT, WRONG))),
        "a list of cells that is a dictionary": _shape(lambda c: c.update(cells={"0": 1})),
        "no cells": _shape(lambda c: c.update(cells=[])),
        "cells that are null": _shape(lambda c: c.update(cells=[None] * 10)),
        "six thousand cells": _shape(_more(*[code_cell("1")] * 6000)),
        "deep JSON": _raw(b'{"cells": ' + b"[" * 100_000),
        "numbers without end": _raw(b'{"cells": ' + b"9" * 5_000_000 + b"}"),
        "infinity": _raw(b'{"cells": Infinity, "nbformat": 4}'),
        "half of it": _raw(json.dumps(released(WRONG)).encode()[:700]),
        "bytes that are no text": _raw(b"\xff\xfe\xff\xff"),
        "nothing": _raw(b""),
        "a pickle": _raw(b"cposix\nsystem\n(S'touch /tmp/pwned'\ntR."),
        "forty megabytes": _raw(b" " * (40 << 20)),
        "below sixty folders": _deep_folder,
        "among three hundred files": _many_files,
        "a name with markup": _named("<img src=x onerror=alert(1)>.ipynb"),
        "a name with a formula": _named("=HYPERLINK(1).ipynb"),
        "a name of control characters": _named("\x1b[2J\r\n.ipynb"),
        "half a character": _shape(_more(code_cell("x = '\ud800'"))),
        "a cell of two megabytes": _shape(_more(code_cell("#" * (2 << 20)))),
    },
}  # fmt: skip
FILE_ATTACKS = [FileAttack(family, n, m) for family, rows in FILES.items() for n, m in rows.items()]
