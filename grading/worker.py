"""The grader's hold on a sandboxed parent and its copies: start, order a fork, watch, kill."""

import contextlib
import itertools
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from grading import sandbox
from grading.sandbox import Limits

VISIBLE = {
    "student": ["lib", "grading"],
    "test": [
        "lib",
        "grading",
        "exercises/__init__.py",
        "exercises/checks.py",
        "exercises/course.py",
        "exercises/diagnosis.py",
        "exercises/hidden",
    ],
}
START_SECONDS = 60.0
ROOM = 128 * sandbox.MIB  # for what a fork copies of its parent, and for its files
_CREDENTIALS = struct.Struct("3i")
CGROUPS = Path("/sys/fs/cgroup")


class WorkerError(RuntimeError):
    """A sandboxed parent that did not start or no longer answers."""


class Parent:
    """One sandboxed parent: the student's or the test's. It runs no submission itself."""

    def __init__(self, role: str, limits: Limits, unsafe: bool = False) -> None:
        self.role, self.unsafe = role, unsafe
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control = mine
        python = (
            str(Path(sys.prefix).resolve() / "bin" / "python") if not unsafe else sys.executable
        )
        program = [python, "-m", "grading.zygote", role, str(theirs.fileno())]
        program += ["unsafe"] if unsafe else []
        self.log = memory_file(b"")
        environment = {**os.environ, **sandbox.ENVIRONMENT} if unsafe else {}
        if unsafe:
            environment["PYTHONPATH"] = str(sandbox.ROOT)
            environment["MPLCONFIGDIR"] = os.environ.get("MPLCONFIGDIR", "/tmp")
        command = sandbox.command(program, VISIBLE[role], limits.tmp_size, unsafe)
        self.process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=self.log,
            stderr=self.log, env=environment, start_new_session=True,
            cwd=sandbox.ROOT if unsafe else "/",
        )  # fmt: skip
        theirs.close()

    def wait_until_ready(self) -> None:
        """Raises `WorkerError`, with what it printed, if it does not start."""
        self.read(self._control, START_SECONDS)

    def warm(self, modules: list[str]) -> list[str]:
        """Import modules before the fork; returns those that could not be."""
        self._order(json.dumps({"op": "warm", "modules": modules}).encode())
        return self.read(self._control, START_SECONDS)["warm"]

    def rehearse(self, cells: list[dict], secret: str) -> list[str]:
        """Run the source notebook in the parent, so that what it computes once is there.

        Returns the modules that it loaded.
        """
        job = memory_file(json.dumps({"cells": cells, "secret": secret}).encode())
        self._order(b'{"op": "rehearse"}', job)
        return self.read(self._control, 2 * START_SECONDS)["loaded"]

    def branch(self) -> "Side":
        """A copy for one worker, to be waited for. Raises `WorkerError` if the parent has ended."""
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._order(b'{"op": "branch"}', theirs.detach())
        return Side(self, mine)

    def _order(self, order: bytes, *handles: int) -> None:
        try:
            socket.send_fds(self._control, [order], handles)
        except OSError as error:
            raise WorkerError(f"the {self.role} side takes no orders: {error}") from None
        finally:
            for handle in handles:
                os.close(handle)

    def read(self, control: socket.socket, seconds: float) -> dict:
        """The next answer; raises `WorkerError` if there is none."""
        return self.read_from(control, seconds)[0]

    def read_from(self, control: socket.socket, seconds: float) -> tuple[dict, int]:
        """The same, and which process has said it, where the socket tells."""
        control.settimeout(seconds)
        try:
            data, about, _, _ = control.recvmsg(1 << 17, socket.CMSG_SPACE(_CREDENTIALS.size))
        except OSError as error:
            raise WorkerError(f"the {self.role} side does not answer: {error}") from None
        if not data:
            said = os.pread(self.log, 2000, 0).decode("utf-8", "replace").strip()
            raise WorkerError(f"the {self.role} side has ended: {said}")
        return json.loads(data), _CREDENTIALS.unpack(about[0][2])[0] if about else 0

    def close(self) -> None:
        """End it and all that it started."""
        self._control.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        os.close(self.log)


class Side:
    """One worker's copy of a parent, which serves one submission after the other."""

    def __init__(self, parent: Parent, control: socket.socket) -> None:
        self.role, self.forked, self.pid = parent.role, False, 0
        self._parent, self._control = parent, control
        self._cgroup: Cgroup | None = None

    def wait_until_ready(self, limits: Limits) -> None:
        """Have the kernel count what it uses, where it can. Raises `WorkerError` or `OSError`."""
        _, self.pid = self._parent.read_from(self._control, START_SECONDS)
        self._cgroup = None if self._parent.unsafe else Cgroup.make(limits)
        if self._cgroup:
            self._cgroup.add(self.pid)

    @property
    def limited_by_cgroup(self) -> bool:
        """Whether the kernel counts the memory of all its processes together."""
        return self._cgroup is not None

    def fork(self, handles: list[int], limits: Limits) -> None:
        """Start one submission with these file handles."""
        order = json.dumps({"op": "fork", "limits": asdict(limits)}).encode()
        socket.send_fds(self._control, [order], handles)
        self.forked = True

    def kill(self) -> None:
        """End the submission in progress."""
        with contextlib.suppress(OSError):
            self._control.send(b'{"op": "kill"}')

    def ended(self, seconds: float) -> int:
        """Wait for the end of the submission in progress; its exit status."""
        status = self._parent.read(self._control, seconds)["ended"]
        self.forked = False
        return status

    def children(self) -> list[int]:
        """The processes of the submission in progress."""
        return _descendants(self.pid)[1:]

    def holds_more_than(self, most: int) -> bool:
        """Whether those have more bytes in memory, apart from what they share with their parent.

        First as the kernel counts for free, with what is shared; exactly only if that is too much.
        """
        pids = self.children()
        return sum(map(_resident, pids)) > most and sum(map(_private, pids)) > most

    def close(self) -> None:
        """End it and all that it started."""
        self._control.close()
        if self._cgroup:
            self._cgroup.remove()


class Cgroup:
    """Groups of processes with a common limit on memory (with what lies in tmpfs) and number."""

    numbers = itertools.count(1)

    def __init__(self, folders: list[Path]) -> None:
        self.folders = folders

    @classmethod
    def make(cls, limits: Limits) -> "Cgroup | None":
        """New groups below the current ones; None where this user cannot make them."""
        name = f"grading-{os.getpid()}-{next(cls.numbers)}"
        room = limits.memory + ROOM
        folders = []
        try:
            for kind, settings in (
                ("memory", {"memory.limit_in_bytes": room}),
                ("pids", {"pids.max": 2 * limits.processes}),
            ):
                folder = _current_group(kind) / name
                folder.mkdir()
                folders.append(folder)
                for file, value in settings.items():
                    (folder / file).write_text(str(value))
        except (OSError, KeyError):
            cls(folders).remove()
            return None
        return cls(folders)

    def add(self, pid: int) -> None:
        """Put a process, and what it will start, into the groups."""
        for folder in self.folders:
            (folder / "cgroup.procs").write_text(str(pid))

    def remove(self) -> None:
        """Take the groups away; their last process may need a moment to end."""
        for folder in self.folders:
            for _ in range(50):
                with contextlib.suppress(OSError):
                    folder.rmdir()
                    break
                time.sleep(0.02)


def _current_group(kind: str) -> Path:
    """The folder of this process's group in cgroup v1; `KeyError` where there is none."""
    rows = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    path = {name: path for _, names, path in rows for name in names.split(",")}[kind]
    folder = CGROUPS / kind / path.lstrip("/")
    return folder if folder.is_dir() else CGROUPS / kind


def _descendants(pid: int) -> list[int]:
    found = [pid]
    for each in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{each}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def _resident(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/statm").read_text().split()
        return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _private(pid: int) -> int:
    """Bytes that no other process shares; all it has, where one may not look."""
    try:
        rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return _resident(pid)
    return sum(1024 * int(row.split()[1]) for row in rows if row.startswith("Private_"))


def memory_file(data: bytes) -> int:
    """A handle of a file that has no name, with this in it."""
    handle = os.memfd_create("grading", os.MFD_CLOEXEC)
    os.write(handle, data)
    os.lseek(handle, 0, os.SEEK_SET)
    return handle


class Watch:
    """What the two processes of one submission say, read until the test's side is done."""

    def __init__(self, verdicts: int, output: int, room: int) -> None:
        self.verdicts, self.output, self.room = verdicts, output, room
        self.lines, self.printed = bytearray(), bytearray()
        self._poll = select.poll()
        for handle in (verdicts, output):
            self._poll.register(handle, select.POLLIN | select.POLLHUP)
        self._open = {verdicts, output}

    def until(self, deadline: float, check: Any, every: float = 0.1) -> bool:
        """Read until the verdicts' pipe closes (True), the deadline or `check()` says stop."""
        while self.verdicts in self._open:
            left = deadline - time.monotonic()
            if left <= 0 or check():
                return False
            for handle, _ in self._poll.poll(1000 * min(left, every)):
                data = os.read(handle, 1 << 16)
                if not data:
                    self._poll.unregister(handle)
                    self._open.discard(handle)
                kept, room = (
                    (self.lines, 8 << 20) if handle == self.verdicts else (self.printed, self.room)
                )
                kept += data[: max(room - len(kept), 0)]
        return True

    def said(self) -> list[dict]:
        """The verdicts, each a line of JSON."""
        rows = []
        for line in bytes(self.lines).split(b"\n"):
            with contextlib.suppress(ValueError):
                rows.append(json.loads(line))
        return [row for row in rows if isinstance(row, dict)]
