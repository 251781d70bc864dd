"""The walls stand wherever the repository and its Python lie, and show no more than they must."""

import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from grading import sandbox
from grading.sandbox import NoSandboxError

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = """
import subprocess, sys
from grading import sandbox
program = [sys.executable, "-c", sys.argv[1]]
sys.exit(subprocess.run(sandbox.command(program, ["grading"], 1 << 20)).returncode)
"""
INSIDE = """
import json, os, sys
from grading import sandbox
user = os.getuid(), os.getgid()
child = sandbox.fork_apart()
if child:
    sys.exit(os.waitpid(child, 0)[1])
sandbox.settle(*user, 1 << 20)
import only_here
seen = [os.path.join(top, name) for top, folders, files in os.walk("/tmp") for name in files]
try:
    open(only_here.__file__, "a")
    writable = True
except OSError:
    writable = False
open("/tmp/of the student", "w").close()
print(json.dumps([seen, writable]))
"""


@pytest.fixture
def environment() -> Iterator[Path]:
    """A virtual environment below /tmp, with a module that no other has."""
    with tempfile.TemporaryDirectory(dir="/tmp") as top:
        folder = Path(top) / "venv"
        venv.create(folder, symlinks=True)
        (site,) = folder.glob("lib/python*/site-packages")
        (site / "only_here.py").touch()
        yield folder


def test_python_may_lie_below_a_folder_that_is_covered(environment: Path) -> None:
    """Its folder is seen there, read-only, and nothing that lies beside it."""
    (environment.parent / "work of another student").touch()
    done = subprocess.run(
        [environment / "bin/python", "-c", OUTSIDE, INSIDE],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen, writable = json.loads(done.stdout)
    assert seen and all(Path(path).is_relative_to(environment) for path in seen)
    assert not writable
    assert not (environment.parent / "of the student").exists()


def test_a_python_that_holds_the_repository_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(ROOT.parent))
    with pytest.raises(NoSandboxError, match="which submissions see"):
        sandbox.command(["true"], ["lib"], 1 << 20)


def test_what_is_bound_holds_no_test_and_no_solution() -> None:
    """On the student's side: the library and the grader's own modules, and nothing else."""
    from grading.worker import VISIBLE

    assert VISIBLE["student"] == ["lib", "grading"]
    bound = sandbox.command(["true"], VISIBLE["student"], 1 << 20)
    places = [bound[n + 1] for n, word in enumerate(bound) if word in ("--ro-bind", "--bind")]
    for secret in ("exercises", "exercises/hidden", "exercises/source", "tests", ".git"):
        assert not any((ROOT / secret).resolve().is_relative_to(place) for place in places)
