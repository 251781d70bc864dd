"""Build books: the whole one, once for all test processes, and small ones with one fault each."""

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build"]


def build(source: Path, out: Path, *options: str) -> subprocess.CompletedProcess:
    """`jupyter-book build` of the book in `source`; the site is then in `out/_build/html`."""
    command = [*COMMAND, str(source), "--path-output", str(out), "--quiet", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def build_once(folder: Path) -> Path:
    """The site of this repository, built by whichever test process comes first."""
    with open(folder / "site.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder / "site" / "built"
        if not done.exists():
            result = build(ROOT, folder / "site", "-W", "--keep-going")
            assert result.returncode == 0, result.stdout + result.stderr
            done.touch()
    return folder / "site" / "_build" / "html"


def small_book(folder: Path, pages: dict[str, str]) -> Path:
    """A book with these pages, name and text, and with the configuration of this one."""
    folder.mkdir(parents=True)
    for name in ("_config.yml", "references.bib"):
        shutil.copy(ROOT / name, folder)
    for name in ("_ext", "_static"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in {"front": "The first page.", **pages}.items():
        (folder / f"{name}.md").write_text(f"# Page {name}\n\n{text}\n")
    chapters = "".join(f"  - file: {name}\n" for name in pages)
    (folder / "_toc.yml").write_text(f"format: jb-book\nroot: front\nchapters:\n{chapters}")
    return folder
