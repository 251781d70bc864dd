"""Execute notebooks in place, the way they are committed and the way the tests compare them.

    python -m tools.execute                      every chapter
    python -m tools.execute chapters/x.ipynb     one
    python -m tools.execute --check              change nothing: say what would change, and fail

Timings differ with every run. A cell tagged `nbval-ignore-output` keeps the output it has as long
as its source is unchanged; `--timings` measures all of them again.
"""

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

from tools import notebooks
from tools.compare import differences
from tools.kernel import Timings, run
from tools.notebooks import NotebookError, shown


def rewrite(path: Path, label: str, timings: Timings) -> bool:
    """Execute one notebook and store the result; when it fails, the file stays as it is."""
    try:
        done = run(path, timings, _progress(label))
    except NotebookError as error:
        _say(f"{label}: failed, the file is unchanged")
        print(_plain(f"{error}"), file=sys.stderr)
        return False
    verdict = "rewritten" if notebooks.write(path, done.notebook) else "unchanged"
    _say(f"{label}: {done}, {verdict}")
    return True


def check(path: Path, label: str) -> bool:
    """Execute one notebook again and print what differs from the file."""
    problems = differences(path)
    _say(f"{label}: {'differs' if problems else 'the same'}")
    for problem in problems:
        print(_plain(f"    {problem}"), file=sys.stderr)
    return not problems


def _progress(label: str) -> Callable[[int, int], None]:
    """On a terminal, one line that counts the cells; `_say` writes over it."""

    def count(cell: int, cells: int) -> None:
        if sys.stdout.isatty():
            print(f"\r{label}: cell {cell} of {cells}", end="", flush=True)

    return count


def _say(text: str) -> None:
    print("\r" * sys.stdout.isatty() + text, flush=True)


def _plain(text: str) -> str:
    """IPython colours its tracebacks: kept on a terminal, removed elsewhere."""
    return text if sys.stderr.isatty() else re.sub(r"\x1b\[[0-9;]*m", "", text)


def main(arguments: list[str] | None = None) -> int:
    """The command; returns 0, 1 when a notebook failed or differs, 2 for what is no notebook."""
    parser = argparse.ArgumentParser("tools.execute", description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", help="notebooks or folders; every chapter if none")
    parser.add_argument("--check", action="store_true", help="only compare, change no file")
    parser.add_argument("--timings", action="store_true", help="measure all timings again")
    options = parser.parse_args(arguments)
    try:
        paths = notebooks.find_notebooks(options.paths)
        for path in paths:
            notebooks.read(path)
    except NotebookError as error:
        print(f"tools.execute: {error}", file=sys.stderr)
        return 2
    timings: Timings = "all" if options.timings else "stale"
    good = True
    for number, path in enumerate(paths, start=1):
        label = f"[{number}/{len(paths)}] {shown(path)}"
        good &= check(path, label) if options.check else rewrite(path, label, timings)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
