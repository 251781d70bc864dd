"""Whether a notebook still says what it said: execute it again and compare everything."""

from itertools import zip_longest
from pathlib import Path

from nbformat import NotebookNode

from tools import notebooks
from tools.kernel import run
from tools.notebooks import NotebookError, Problem
from tools.pictures import PACKED, same_output

MEMORY_LIMIT = 1e9


def differences(path: Path) -> list[Problem]:
    """Execute a notebook file again: each cell that does not come out as it is stored.

    Timings aside, everything counts, pictures included. So does a peak memory of over 1 GB.
    """
    try:
        stored, again = notebooks.read(path), run(path, timings="none")
    except NotebookError as error:
        return [Problem("execution", None, str(error))]
    pairs = zip(stored.cells, again.notebook.cells, strict=True)
    problems = [
        Problem("re-execution", number, message)
        for number, (old, new) in enumerate(pairs, start=1)
        if (message := _difference(old, new))
    ]
    if again.peak_bytes and again.peak_bytes > MEMORY_LIMIT:
        used = f"{again.peak_bytes / 1e9:.2f} GB at its peak, {MEMORY_LIMIT / 1e9:.0f} GB allowed"
        problems.append(Problem("memory", None, used))
    return problems


def _difference(old: NotebookNode, new: NotebookNode) -> str | None:
    """The first thing in a stored cell that is no longer so, in one line; None when nothing."""
    if old.get("execution_count") != new.get("execution_count"):
        return f"stored as [{old.get('execution_count')}], runs as [{new.get('execution_count')}]"
    for one, other in zip_longest(old.get("outputs", []), new.get("outputs", [])):
        if one is None:
            return f"shows what is not stored: {_excerpt(_parts(other))}"
        if other is None:
            return f"no longer shows what is stored: {_excerpt(_parts(one))}"
        parts, others = _parts(one), _parts(other)
        for kind in sorted(parts.keys() | others.keys(), key=_words_first):
            if not same_output(kind, parts.get(kind), others.get(kind)):
                return f"{kind} differs: {_changed(parts.get(kind), others.get(kind))}"
    return None


def _words_first(kind: str) -> tuple[bool, str]:
    return kind.startswith("image/"), kind


def _parts(output: NotebookNode) -> dict[str, object]:
    """An output's contents by kind: a stream's name, an error, or MIME types."""
    if output.output_type == "stream":
        return {output.name: output.text}
    if output.output_type == "error":
        return {"error": f"{output.ename}: {output.evalue}"}
    return dict(output.data)


def _excerpt(parts: dict[str, object]) -> str:
    kind, content = next(reversed(parts.items()))
    return f"{kind} {str(content).strip()[:80]!r}"


def _changed(old: object, new: object) -> str:
    """Where the texts begin to differ, or that the pictures do."""
    one, other = (PACKED.sub("(picture)", str(content)) for content in (old, new))
    if one == other:
        return "another picture comes out"
    letters = enumerate(zip_longest(one, other))
    place = next(place for place, (letter, now) in letters if letter != now)
    start = max(one.rfind("\n", 0, place) + 1, place - 40)
    lines = (text[start : place + 80].split("\n")[0] for text in (one, other))
    return "stored {!r}, now {!r}".format(*lines)
