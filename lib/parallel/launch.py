"""Ranks as processes of this machine, started, watched and ended from one call.

Nothing is left behind: whatever happens to a process or to the one that started it, all of them
end. They meet over a file, so that no port can be taken.
"""

import multiprocessing
import os
import pickle
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from lib.parallel.group import GlooGroup, RankLost

_GRACE = 2.0
"""Seconds given to a lost rank's own report to come in, and to processes to end by themselves."""


class WorkerFailed(RuntimeError):
    """A process raised or died; the message has its rank and the reason."""


class _Member(NamedTuple):
    """One process, and the line to it."""

    rank: int
    process: BaseProcess
    line: Connection


class _Report(NamedTuple):
    """What a process says at its end: its result, or why there is none."""

    result: Any = None
    failure: str | None = None
    blames_another: bool = False


def run_on_processes(
    worker: Callable[..., Any], num_processes: int, *arguments: Any, timeout: int | float = 60
) -> list[Any]:
    """`worker(group, *arguments)` in each of `num_processes` new processes; what they return.

    The group is a `GlooGroup` of all of them, the results come in the order of the ranks, and
    each process computes with one thread. Worker, arguments and results are pickled, so the worker
    is a function of a module. A rank that has waited `timeout` seconds for another gives up.

    Raises `ValueError` for fewer than two processes and for a worker that cannot be sent to
    another process; `WorkerFailed`, with the reason, once a process raises or dies. All the others
    are ended before that.
    """
    if type(num_processes) is not int or num_processes < 2:
        raise ValueError(f"num_processes must be a whole number, 2 or more, got {num_processes!r}")
    task = _pack(worker, arguments)
    context = multiprocessing.get_context("spawn")
    members: list[_Member] = []
    with tempfile.TemporaryDirectory() as folder:
        meeting = Path(folder, "meeting").as_uri()
        try:
            for rank in range(num_processes):
                where = rank, num_processes, meeting, timeout
                members.append(_start(context, rank, (task, *where)))
            results = _collect(members)
            for member in members:
                with suppress(ConnectionError):  # its result is here, it may have ended
                    member.line.send_bytes(b"all are done")
            return results
        except BaseException:
            for member in members:
                member.process.terminate()
            raise
        finally:
            _end(members)


def _pack(worker: Callable[..., Any], arguments: tuple) -> bytes:
    main = sys.modules["__main__"]
    if getattr(worker, "__module__", "") == "__main__" and not hasattr(main, "__file__"):
        raise ValueError(
            f"{worker.__name__} is defined in a notebook, or typed in, where a new process cannot "
            "find it: put it into a module, or use run_on_threads"
        )
    try:
        return pickle.dumps((worker, arguments))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(
            f"worker and arguments are sent to other processes, so they must be picklable, "
            f"the worker a function of a module: {error}"
        ) from None


def _start(context: Any, rank: int, arguments: tuple) -> _Member:
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    return _Member(rank, process, ours)


def _collect(members: list[_Member]) -> list[Any]:
    """Everybody's result, or `WorkerFailed` with the first failure that is not another's fault.

    A process that dies may be missed by its peers before it is missed here, so their complaints
    are kept back for a moment.
    """
    results, complaints = {}, []
    pending = {member.line: member for member in members}
    while pending:
        ready = wait(list(pending), timeout=_GRACE if complaints else None)
        if not ready:
            break
        for member in map(pending.pop, ready):
            report = _listen(member)
            failed = f"rank {member.rank} of {len(members)} {report.failure}"
            if report.failure is None:
                results[member.rank] = report.result
            elif report.blames_another:
                complaints.append(failed)
            else:
                raise WorkerFailed(failed)
    if complaints:
        raise WorkerFailed(complaints[0])
    return [results[rank] for rank in range(len(members))]


def _listen(member: _Member) -> _Report:
    """What the process has to say, or what became of it."""
    try:
        return pickle.loads(member.line.recv_bytes())
    except (EOFError, ConnectionError):
        member.process.join(_GRACE)
    code = member.process.exitcode
    if code is not None and code < 0:
        return _Report(failure=f"was killed by {signal.Signals(-code).name}")
    return _Report(failure=f"ended without a result, with exit code {code}")


def _end(members: list[_Member]) -> None:
    """Wait for all processes, and kill those that do not end by themselves."""
    deadline = time.monotonic() + _GRACE
    for member in members:
        member.process.join(max(0.0, deadline - time.monotonic()))
        if member.process.is_alive():
            member.process.kill()
            member.process.join()
        member.line.close()


# ------------------------------------------------------------------------------ in the new process


def _serve(
    line: Connection, task: bytes, rank: int, num_processes: int, meeting: str, timeout: int | float
) -> None:
    """Run the worker, report, and stay until all are done: whoever ends early looks lost."""
    _end_with_parent()
    try:
        report = _Report(_work(task, rank, num_processes, meeting, timeout))
        message = pickle.dumps(report)
    except BaseException as error:
        reason = "".join(traceback.format_exception(error)).rstrip()
        said = f"raised {type(error).__name__}: {error}\n\n{reason}"
        message = pickle.dumps(_Report(failure=said, blames_another=isinstance(error, RankLost)))
    line.send_bytes(message)
    line.recv_bytes()
    # Gloo's threads have nothing left to do, and closing them in turn would only take time.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _work(task: bytes, rank: int, num_processes: int, meeting: str, timeout: int | float) -> Any:
    torch.set_num_threads(1)
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), None)
    if loopback:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=num_processes)
    worker, arguments = pickle.loads(task)
    return worker(GlooGroup(timeout), *arguments)


def _end_with_parent() -> None:
    """End this process as soon as the one that started it has ended, even if that was killed."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
