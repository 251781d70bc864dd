# ruff: noqa: E501
"""The same attacks against nbgrader's own `autograde`, as instructors run it today.

It executes what was handed in, hidden tests beside it, as the instructor's user. So it runs here in
a jail: no network, a read-only system, an empty home, limits on memory, processes and time. Kernels
are forked from one that has torch loaded, which saves two seconds of each; all else is nbgrader's.
"""

import contextlib
import importlib
import importlib.metadata
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from grading import sandbox
from grading.worker import Cgroup
from tests.grading.attacks.corpus import ATTACKS, RIGHT, Attack
from tests.grading.attacks.files import (
    ADA,
    EVE,
    FILE_ATTACKS,
    NAME,
    FileAttack,
    handed_in,
    released,
    source_notebook,
    write,
)

ASSIGNMENT = "ps1"
RESULTS = Path(__file__).with_name("stock.json")
VISIBLE = ["lib", "grading", "tests", "exercises/__init__.py", "exercises/course.py"]
LIMITS = sandbox.Limits(memory=1536 * sandbox.MIB, processes=200, tmp_size=256 * sandbox.MIB)
CELL_SECONDS, ATTACK_SECONDS, WORKERS = 5, 60, 2
PATIENCE = 20  # with a kernel on a busy machine: not every silence is the attack's doing
# Controls: what honest work gets, right and wrong.
CONTROLS = [Attack("controls", "right", RIGHT), Attack("controls", "wrong", "")]


def everything(family: str = "") -> list[Attack | FileAttack]:
    """The controls and every attack of some families."""
    return CONTROLS + [each for each in [*ATTACKS, *FILE_ATTACKS] if family in each.family]


# --- outside ---------------------------------------------------------------------------------


def compare(family: str = "") -> int:
    """Try all attacks on both graders; the table goes into a file if it is of all of them."""
    from tests.grading.attacks.__main__ import try_all

    stock = on_stock(everything(family))
    tried, here = try_all(family)
    rows = [
        {**row, "gained_here": bool(here.get((row["family"], row["name"]), []))} for row in stock
    ]
    print("\n".join(table(rows)))
    if not family:
        about = {"nbgrader": importlib.metadata.version("nbgrader"), "cell_seconds": CELL_SECONDS}
        RESULTS.write_text(json.dumps({**about, "attacks": rows}, indent=1) + "\n")
    gained = sum(row["gained_here"] for row in rows)
    print(f"attacks tried {tried}, gained {gained}")
    return 1 if gained else 0


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The families as lines of Markdown: tried, paid by nbgrader, left without a score, paid here."""
    counts: dict[str, Counter] = {}
    for row in rows:
        if row["family"] != "controls":
            paid, lost = bool(row["points"]), row["points"] is None
            count = Counter(tried=1, paid=paid, lost=lost, here=row["gained_here"])
            counts.setdefault(row["family"], Counter()).update(count)
    counts["together"] = sum(counts.values(), Counter())
    head = ["family", "tried", "paid by nbgrader", "no score from nbgrader", "paid here"]
    lines = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    for family, count in counts.items():
        numbers = [str(count[kind]) for kind in ("tried", "paid", "lost", "here")]
        lines.append(f"| {' | '.join([family, *numbers])} |")
    return lines


def on_stock(attacks: Sequence[Attack | FileAttack]) -> list[dict[str, Any]]:
    """What each attack gets from nbgrader, in the order given."""
    with tempfile.TemporaryDirectory() as folder:
        course = _course(Path(folder))
        numbers = [[n for n in range(len(attacks)) if n % WORKERS == w] for w in range(WORKERS)]
        found: dict[int, dict] = {}
        threads = [
            threading.Thread(target=_all_of, args=(course, attacks, mine, found))
            for mine in numbers
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return [{"family": a.family, "name": a.name, **found[n]} for n, a in enumerate(attacks)]


def _course(folder: Path) -> bytes:
    """A released course with ADA's right work in it, packed."""
    root = folder / "course"
    (root / "source" / ASSIGNMENT).mkdir(parents=True)
    (root / "source" / ASSIGNMENT / f"{NAME}.ipynb").write_text(json.dumps(source_notebook()))
    said = _api(root).generate_assignment(ASSIGNMENT)
    assert said["success"], said["log"]
    for student in (ADA, EVE):
        (root / "submitted" / student / ASSIGNMENT).mkdir(parents=True)
    write(root / "submitted" / ADA / ASSIGNMENT, released(RIGHT))
    with tarfile.open(folder / "course.tar", "w") as archive:
        archive.add(root, "course")
    return (folder / "course.tar").read_bytes()


def _all_of(course: bytes, attacks: Sequence, mine: list[int], found: dict[int, dict]) -> None:
    """Try them one after the other; a jail that an attack has ended is opened again."""
    waiting = list(mine)
    while waiting:
        for number, result in _jail(
            course, [(attacks[n].family, attacks[n].name) for n in waiting], waiting
        ):
            found[number] = result
            print(
                f"nbgrader: {attacks[number].family} / {attacks[number].name}: {result}", flush=True
            )
        left = [n for n in waiting if n not in found]
        if left and left[0] == waiting[0]:
            found[left[0]] = {"points": None, "note": "ended the grader and all it had started"}
            print(f"nbgrader: {attacks[left[0]].name}: {found[left[0]]}", flush=True)
        elif left:
            found[left[0]] = {"points": None, "note": "ended the grader and all it had started"}
        waiting = [n for n in mine if n not in found]


def _jail(course: bytes, names: list[tuple[str, str]], numbers: list[int]) -> Any:
    python = str(Path(sys.prefix).resolve() / "bin" / "python")
    bounds = [
        "prlimit",
        f"--as={6 << 30}",
        f"--fsize={LIMITS.file_size}",
        "--nproc=400",
        "--core=0",
    ]
    inside = [*bounds, python, "-m", "tests.grading.attacks.stock"]
    group = Cgroup.make(LIMITS)
    process = subprocess.Popen(
        sandbox.command(inside, VISIBLE, LIMITS.tmp_size), stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True, cwd="/", env={},
    )  # fmt: skip
    if group:
        group.add(process.pid)
    timer = threading.Timer(len(names) * ATTACK_SECONDS + 60, process.kill)
    timer.start()
    order = json.dumps(names).encode()
    try:
        process.stdin.write(len(order).to_bytes(4, "big") + order + course)
        process.stdin.close()
        for number, line in zip(numbers, process.stdout, strict=False):
            yield number, json.loads(line)
    except (BrokenPipeError, ValueError):
        pass
    finally:
        timer.cancel()
        process.kill()
        process.wait()
        if group:
            group.remove()


# --- inside ----------------------------------------------------------------------------------


def _api(root: Path) -> Any:
    from nbgrader.apps import NbGraderAPI
    from traitlets.config import Config

    os.environ["PATH"] = f"{Path(sys.prefix) / 'bin'}:{os.environ.get('PATH', '')}"
    config = Config()
    config.CourseDirectory.root = str(root)
    config.Execute.timeout = CELL_SECONDS
    config.Execute.iopub_timeout = config.Execute.startup_timeout = PATIENCE
    config.KernelManager.transport = "ipc"
    config.KernelManager.ip = "/tmp/kernel"
    return NbGraderAPI(config=config)


def inside() -> None:
    """In the jail: each attack in a fork of a process that has nbgrader loaded."""
    size = int.from_bytes(sys.stdin.buffer.read(4), "big")
    names = [tuple(name) for name in json.loads(sys.stdin.buffer.read(size))]
    packed = sys.stdin.buffer.read()
    known = {(each.family, each.name): each for each in everything()}
    told = os.dup(1)
    os.dup2(os.open("/dev/null", os.O_RDWR), 1)
    os.environ["COURSE_SECRET"] = "SECRET-51c0ffee"
    nursery = Nursery()
    import jupyter_client.provisioning.local_provisioner as local
    import nbgrader.apps  # noqa: F401

    local.launch_kernel = nursery.launch
    for module in _forked(lambda: _loaded_meanwhile(packed)).get("modules", ()):
        with contextlib.suppress(Exception):  # once for all forks
            importlib.import_module(module)
    _clean_up(nursery.pid)
    for name in names:
        result = _forked(lambda name=name: _attempt(packed, known[name]))
        _clean_up(nursery.pid)
        os.write(told, json.dumps(result).encode() + b"\n")


def _loaded_meanwhile(packed: bytes) -> dict:
    """The modules that nbgrader loads while it grades: most of an attempt's time, else."""
    before = set(sys.modules)
    _attempt(packed, CONTROLS[0])
    return {"modules": sorted(set(sys.modules) - before)}


class Nursery:
    """A process with torch and ipykernel loaded, which forks a kernel when it is asked to."""

    def __init__(self) -> None:
        self._mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            self._mine.close()
            _serve_kernels(theirs)
        theirs.close()
        self._mine.recv(16)

    def launch(self, command: list[str], **about: Any) -> "ForkedKernel":
        """What `jupyter_client` starts kernels with; gives what `Popen` would."""
        file = command[command.index("-f") + 1]
        self._mine.send(json.dumps([file, about.get("cwd"), about["env"]]).encode())
        return ForkedKernel(int(self._mine.recv(16)))


def _serve_kernels(orders: socket.socket) -> None:
    import torch
    from ipykernel import ipkernel  # noqa: F401
    from ipykernel.kernelapp import IPKernelApp
    from IPython.core import completer, displayhook, magics, ultratb  # noqa: F401

    torch.set_num_threads(1)
    torch.testing.assert_close(torch.ones(1), torch.ones(1))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    orders.send(b"ready")
    while order := orders.recv(1 << 17):
        if os.fork():
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        file, cwd, environment = json.loads(order)
        os.setsid()
        orders.send(str(os.getpid()).encode())
        os.closerange(3, 1024)  # a kernel of nbgrader's has none of ours
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(cwd or "/box")
        sys.argv = ["ipykernel_launcher", "-f", file]
        application = IPKernelApp.instance()
        application.initialize(sys.argv[1:])
        application.start()
        os._exit(0)
    os._exit(0)


class ForkedKernel:
    """As much of `Popen` as is asked of a kernel that somebody else has forked."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def poll(self) -> int | None:
        return None if os.path.exists(f"/proc/{self.pid}") else 0

    def wait(self, timeout: float | None = None) -> int:
        while self.poll() is None:
            time.sleep(0.02)
        return 0

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def _forked(work: Callable[[], dict]) -> dict:
    """What `work` says in a process of its own, or why it says nothing."""
    read, written = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            os.write(written, json.dumps(work()).encode())
        except BaseException as error:
            os.write(written, json.dumps({"points": None, "note": repr(error)[:200]}).encode())
        os._exit(0)
    os.close(written)
    deadline = time.monotonic() + ATTACK_SECONDS
    while time.monotonic() < deadline and os.waitpid(child, os.WNOHANG) == (0, 0):
        time.sleep(0.05)
    if time.monotonic() >= deadline:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    said = os.read(read, 1 << 16)
    os.close(read)
    return (
        json.loads(said) if said else {"points": None, "note": "the grader did not come to an end"}
    )


def _attempt(packed: bytes, attack: Attack | FileAttack) -> dict:
    """Grade one attack as `nbgrader autograde ps1 --student eve` does; its points, if any."""
    import io

    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall("/tmp", filter="fully_trusted")
    root = Path("/tmp/course")
    place = root / "submitted" / EVE / ASSIGNMENT
    if isinstance(attack, FileAttack):
        attack.make(place)
        _lengthen_links(place)
    else:
        write(place, handed_in(attack))
    (Path("/tmp/kernel")).mkdir(exist_ok=True)
    said = _api(root).autograde(ASSIGNMENT, EVE)
    if not said["success"]:
        return {"points": None, "note": _why(said)}
    return {"points": _score(root), "note": ""}


def _score(root: Path) -> float | None:
    """EVE's points by tests; None where there is no score."""
    from nbgrader.api import Gradebook, MissingEntry

    with Gradebook(f"sqlite:///{root}/gradebook.db") as book:
        try:
            return float(book.find_submission(ASSIGNMENT, EVE).score)
        except MissingEntry:
            return None


def _why(said: dict) -> str:
    """The last error that nbgrader logged and that says something."""
    text = f"{said.get('log')}\n{said.get('error')}"
    errors = [
        e
        for e in re.findall(r"[\w.]*(?:Error|Exception): [^\n]*", text)
        if "above traceback" not in e
    ]
    return (errors or ["failed"])[-1].strip()[:160]


def _lengthen_links(folder: Path) -> None:
    """Links were made for a folder one level up: a student's folder holds assignments here."""
    for path in [folder, *folder.glob("*")]:
        if path.is_symlink():
            target = os.readlink(path)
            target = {ADA: f"../{ADA}/{ASSIGNMENT}", "..": "../.."}.get(target, target)
            target = target.replace(f"../{ADA}/{NAME}", f"../../{ADA}/{ASSIGNMENT}/{NAME}")
            target = target.replace("../../source/", f"../../../source/{ASSIGNMENT}/")
            target = target.replace("../../gradebook.db", "../../../gradebook.db")
            path.unlink()
            path.symlink_to(target)


def _clean_up(*kept: int) -> None:
    """No process and no file of an attack is there when the next one begins."""
    for _ in range(3):
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) > 2 and int(name) not in (os.getpid(), *kept):
                try:
                    os.kill(int(name), signal.SIGKILL)
                except OSError:
                    continue
        time.sleep(0.02)
    for top in ("/tmp", "/home", "/box"):
        for path in Path(top).iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


if __name__ == "__main__":
    inside()
