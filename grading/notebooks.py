"""Notebooks as data: the source, which is trusted, and submissions, which are not.

A submission is read as plain JSON. Of its cells only type, text and nbgrader's id are looked at,
and the id is a hint: points, locks and tests come from the source. What cannot be understood ends
in an `IntakeError` with one line for the student.
"""

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import cached_property
from pathlib import Path
from typing import Any

from grading.core import Cell, Problem, TestCell

LARGEST_NOTEBOOK = 32 << 20
MOST_CELLS = 5_000
LARGEST_CELL = 1 << 20
SIMILAR = 0.8

HIDDEN = re.compile(
    r"^[^\n]*BEGIN HIDDEN TESTS.*?END HIDDEN TESTS[^\n]*\n?", re.DOTALL | re.MULTILINE
)
SOLUTION = re.compile(r"^[^\n]*BEGIN SOLUTION.*?END SOLUTION[^\n]*\n?", re.DOTALL | re.MULTILINE)


class IntakeError(ValueError):
    """A submission that cannot be graded, with the reason in one line."""


@dataclass(frozen=True)
class Written:
    """A cell that a person grades; `blank` is what students were given."""

    grade_id: str
    points: float
    blank: str
    cell_type: str


@dataclass(frozen=True)
class SourceNotebook:
    """An instructor's notebook: what runs, what a person reads, and the JSON it came from."""

    problem: Problem
    written: tuple[Written, ...]
    content: Mapping[str, Any]

    @property
    def max_points(self) -> float:
        """The points of all tests and of all written answers."""
        return sum(test.points for test in self.problem.tests) + sum(w.points for w in self.written)

    @cached_property
    def solved(self) -> Mapping[str, set[str]]:
        """The names that the solution cells bind, by cell id."""
        own = [c for c in self.problem.cells if isinstance(c, Cell) and c.kind == "student"]
        return {cell.cell_id: defined_names(cell.source) for cell in own if cell.cell_id}

    @cached_property
    def wanted(self) -> set[str]:
        """All these names."""
        return {name for names in self.solved.values() for name in names}


@dataclass(frozen=True)
class Submission:
    """What a student handed in for one source: cells to run, texts to read, what was mended."""

    cells: tuple[Cell, ...]
    answers: Mapping[str, str]
    notes: tuple[str, ...] = ()


@dataclass
class _Raw:
    """A submission's cell, before anything is believed."""

    cell_type: str
    source: str
    grade_id: str | None
    role: str = "student"

    @cached_property
    def names(self) -> set[str]:
        """What it binds at its top level."""
        return defined_names(self.source)

    @property
    def line(self) -> str:
        """Its text in one line, however it is indented."""
        return _one_line(self.source)


def read_source(path: Path) -> SourceNotebook:
    """The instructor's notebook in a file. Raises `ValueError` for ids that are there twice."""
    return source_of(path.read_text(encoding="utf-8"), path.stem)


def source_of(text: str | bytes, name: str) -> SourceNotebook:
    """The same, of a file's content."""
    content = json.loads(text)
    cells: list[Cell | TestCell] = []
    written = []
    for raw in content["cells"]:
        graded, text = raw["metadata"].get("nbgrader", {}), _text(raw["source"])
        grade_id, kind = graded.get("grade_id"), raw["cell_type"]
        if (graded.get("grade") and graded.get("solution")) or graded.get("task"):
            blank = "" if graded.get("task") else SOLUTION.sub("", text).strip()
            written.append(Written(grade_id, float(graded["points"]), blank, kind))
        if kind != "code":
            continue
        if graded.get("grade") and not graded.get("solution"):
            cells.append(TestCell(grade_id, text, float(graded["points"])))
        else:
            locked = graded.get("locked") and not graded.get("solution")
            cells.append(Cell(text, grade_id, "locked" if locked else "student"))
    _unique(
        [_name(cell) for cell in cells]
        + [each.grade_id for each in written if each.cell_type != "code"]
    )
    return SourceNotebook(Problem(name, tuple(cells)), tuple(written), content)


def visible(source: SourceNotebook) -> SourceNotebook:
    """The source without its hidden tests: what students have."""
    cells = tuple(
        TestCell(cell.grade_id, HIDDEN.sub("", cell.source), cell.points)
        if isinstance(cell, TestCell)
        else cell
        for cell in source.problem.cells
    )
    return SourceNotebook(Problem(source.problem.name, cells), source.written, source.content)


def unsolved(source: SourceNotebook) -> SourceNotebook:
    """A student's own notebook as a source: its answers are no solutions for the parents to try."""
    cells = tuple(
        replace(cell, source="") if isinstance(cell, Cell) and cell.kind == "student" else cell
        for cell in source.problem.cells
    )
    return replace(source, problem=replace(source.problem, cells=cells))


def read_submission(data: bytes, source: SourceNotebook) -> Submission:
    """A student's notebook. Raises `IntakeError` where nothing in it can be graded."""
    raws, notes = _raw_cells(data)
    if not raws:
        raise IntakeError("the notebook has no cells")
    _retype(raws, source, notes)
    _assign_roles(raws, source, notes)
    answers = dict(_answers(raws, source, notes))
    cells = [raw for raw in raws if raw.cell_type == "code" or raw.role == "mark"]
    ordered = _in_order(cells, source, notes)
    made = tuple(
        Cell(raw.source, raw.grade_id, "locked" if raw.role == "mark" else "student")
        for raw in ordered
    )
    if not any(cell.kind == "student" and cell.source.strip() for cell in made) and not answers:
        raise IntakeError("the notebook has no answer in it: every cell is empty or a test")
    return Submission(made, answers, tuple(dict.fromkeys(notes)))


def defined_names(source: str) -> set[str]:
    """The functions, classes and variables that a cell binds at its top level."""
    try:
        tree = ast.parse(_without_magics(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set(re.findall(r"^(?:def|class)\s+(\w+)", source, re.MULTILINE))
    names = {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def _without_magics(source: str) -> str:
    return "\n".join("pass" if line.startswith(("%", "!")) else line for line in source.split("\n"))


def _unique(names: Sequence[str | None]) -> None:
    known = [name for name in names if name]
    twice = sorted({name for name in known if known.count(name) > 1})
    if twice:
        raise ValueError(f"the source has these grade ids twice: {', '.join(twice)}")


def _name(cell: Cell | TestCell) -> str | None:
    return cell.grade_id if isinstance(cell, TestCell) else cell.cell_id


def _text(source: Any) -> str:
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        return "".join(source)
    if not isinstance(source, str):
        raise IntakeError("a cell's text is no text")
    return source


def _raw_cells(data: bytes) -> tuple[list[_Raw], list[str]]:
    """All cells that have a type and a text, whatever the version of the format."""
    content, notes = _json(data), []
    if not isinstance(content, dict):
        raise IntakeError("the file is JSON, but no notebook")
    version = content.get("nbformat")
    if version != 4:
        notes.append(f"its format is nbformat {str(version)[:20]}, not 4; it was read all the same")
    cells = content.get("cells")
    if cells is None and isinstance(content.get("worksheets"), list):
        sheets = [sheet for sheet in content["worksheets"] if isinstance(sheet, dict)]
        parts = [sheet.get("cells") for sheet in sheets]
        cells = [cell for part in parts if isinstance(part, list) for cell in part]
    if not isinstance(cells, list):
        raise IntakeError("the file is JSON, but no notebook: it has no list of cells")
    if len(cells) > MOST_CELLS:
        raise IntakeError(f"the notebook has {len(cells)} cells; at most {MOST_CELLS} are read")
    read = [_raw(cell) for cell in cells]
    if None in read:
        notes.append(f"{read.count(None)} cells could not be read and were left out")
    return [raw for raw in read if raw], notes


def _json(data: bytes) -> Any:
    if not data.strip():
        raise IntakeError("the file is empty")
    if len(data) > LARGEST_NOTEBOOK:
        raise IntakeError(
            f"the file is larger than {LARGEST_NOTEBOOK >> 20} MiB: clear its outputs"
        )
    wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        return json.loads(data.decode("utf-16" if wide else "utf-8-sig"))
    except UnicodeDecodeError:
        raise IntakeError("the file is no text in UTF-8, so no notebook") from None
    except RecursionError:
        raise IntakeError("the file is nested too deep for a notebook") from None
    except ValueError as error:
        where = re.sub(r"\s+", " ", str(error))[:80]
        raise IntakeError(f"the file is not a whole notebook: {where}") from None


def _raw(cell: Any) -> _Raw | None:
    if not isinstance(cell, dict) or cell.get("cell_type") not in (
        "code",
        "markdown",
        "raw",
        "heading",
    ):
        return None
    try:
        text = _text(cell.get("source", cell.get("input", "")))
    except IntakeError:
        return None
    if len(text) > LARGEST_CELL or not _encodable(text):
        return None
    metadata = cell.get("metadata")
    graded = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    grade_id = graded.get("grade_id") if isinstance(graded, dict) else None
    return _Raw(cell["cell_type"], text, grade_id if isinstance(grade_id, str) else None)


def _encodable(text: str) -> bool:
    """JSON can spell half of a character, which no file or process takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _retype(raws: list[_Raw], source: SourceNotebook, notes: list[str]) -> None:
    """Turn cells back into the type that the source gives them, by id or by what they define."""
    types = {_name(cell): "code" for cell in source.problem.cells if _name(cell)}
    types |= {each.grade_id: each.cell_type for each in source.written}
    code = [raw for raw in raws if raw.cell_type == "code"]
    for raw in raws:
        right = types.get(raw.grade_id, raw.cell_type)
        if raw.grade_id is None and raw.cell_type != "code" and raw.names & source.wanted:
            found = (raw.names & source.wanted).difference(*(each.names for each in code))
            right = "code" if found and _parses(raw.source) else right
        if right != raw.cell_type:
            notes.append(f"a {raw.cell_type} cell was turned back into a {right} cell")
            raw.cell_type = right


def _parses(source: str) -> bool:
    try:
        ast.parse(_without_magics(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _assign_roles(raws: list[_Raw], source: SourceNotebook, notes: list[str]) -> None:
    """Which cells only mark the place of a locked cell, and which are the student's own."""
    fixed = {_name(cell): _bare(cell.source) for cell in source.problem.cells if _is_fixed(cell)}
    known = set(fixed) | set(source.solved) | {each.grade_id for each in source.written}
    restored, seen = 0, set()
    for raw in raws:
        if raw.cell_type != "code":
            continue
        if raw.grade_id not in known:
            raw.grade_id = _restored_id(raw, fixed, source)
            restored += raw.grade_id is not None
        if raw.grade_id in fixed:
            given = fixed[raw.grade_id]
            if raw.line != given and raw.names & source.wanted and not _similar(raw, given):
                notes.append(
                    f"a cell with an answer had the id of {raw.grade_id}: taken as an answer"
                )
                raw.grade_id = None
            else:
                raw.role = "mark"
        if raw.grade_id in seen:
            notes.append(f"cell {raw.grade_id} is there more than once")
        seen.add(raw.grade_id) if raw.grade_id else None
    missing = [name for name in fixed if name not in seen]
    if restored:
        notes.append(f"nbgrader's metadata was lost and restored for {restored} cells")
    if missing:
        notes.append(f"locked cells were missing and put back: {len(missing)}")


def _is_fixed(cell: Cell | TestCell) -> bool:
    return isinstance(cell, TestCell) or cell.kind != "student"


def _bare(source: str) -> str:
    """A source cell as students see it, in one line."""
    return _one_line(HIDDEN.sub("", source))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _restored_id(raw: _Raw, fixed: Mapping, source: SourceNotebook) -> str | None:
    """The id of the source's cell that this one is: by its text, then by what it defines."""
    for name, known in fixed.items():
        if raw.line == known:
            return name
    if raw.names & source.wanted:
        owners = [cell for cell, its in source.solved.items() if its & raw.names]
        return owners[0] if len(owners) == 1 else None
    near = [name for name, known in fixed.items() if _similar(raw, known)]
    return near[0] if near else None


def _similar(raw: _Raw, known: str) -> bool:
    text = raw.line
    if not text or not known or not 0.5 < len(text) / len(known) < 2:
        return False
    match = SequenceMatcher(None, text[:4000], known[:4000], autojunk=False)
    return match.quick_ratio() >= SIMILAR and match.ratio() >= SIMILAR


def _answers(
    raws: list[_Raw], source: SourceNotebook, notes: list[str]
) -> Iterator[tuple[str, str]]:
    """The texts for a person to read, by id, or by the text that stands before them."""
    by_id = {}
    for raw in raws:
        by_id.setdefault(raw.grade_id, raw)
    for each in source.written:
        raw = by_id.get(each.grade_id) or _after_its_question(raws, source, each.grade_id)
        if raw is None:
            notes.append(f"the written answer {each.grade_id} was not found: a person has to look")
        elif raw.source.strip():
            raw.role = "written" if raw.cell_type != "code" else raw.role
            yield each.grade_id, raw.source


def _after_its_question(raws: list[_Raw], source: SourceNotebook, grade_id: str) -> _Raw | None:
    cells = source.content["cells"]
    ids = [cell["metadata"].get("nbgrader", {}).get("grade_id") for cell in cells]
    before = cells[ids.index(grade_id) - 1] if ids.index(grade_id) else None
    question = _one_line(_text(before["source"])) if before else None
    for place, raw in enumerate(raws[:-1]):
        if raw.line == question:
            return raws[place + 1]
    return None


def _in_order(raws: list[_Raw], source: SourceNotebook, notes: list[str]) -> list[_Raw]:
    """Put the place of a test behind the answers that stand before it in the source."""
    order = [_name(cell) for cell in source.problem.cells]
    last = {raw.grade_id: place for place, raw in enumerate(raws) if raw.role != "mark"}
    placed = []
    for place, raw in enumerate(raws):
        behind = float(place)
        if raw.role == "mark":
            before = order[: order.index(raw.grade_id)]
            behind = max([place, *(last[name] + 0.5 for name in before if name in last)])
        if behind != place:
            notes.append("cells were in another order: tests run after the answers they ask for")
        placed.append((behind, place, raw))
    return [raw for *_, raw in sorted(placed, key=lambda row: row[:2])]
