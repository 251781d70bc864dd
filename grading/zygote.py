"""The sandboxed parent of one side: torch is loaded once, and a fork serves each submission.

    python -m grading.zygote {student,test} FD [unsafe]

FD is the socket over which the grader sends orders, one JSON object a packet.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from grading import sandbox

CHANNEL, OUTPUT, JOB = 3, 1, 4
PACKET, READY = 1 << 17, b'{"ready": true}'
# With what numpy loads when first used. What a problem's own cells load is found by running them.
LOADED = {
    "student": ["grading.student", "numpy.random", "tomllib"],
    "test": ["grading.trusted", "numpy.random"],
}
HUGE_PAGE, MADV_COLLAPSE = 2 << 20, 25
MANY = 30  # submissions: to gather pages takes as long as it saves on a few dozen


def main() -> None:
    """Warm up, say so, and serve orders until the grader closes the socket."""
    role, control = sys.argv[1], socket.socket(fileno=int(sys.argv[2]))
    unsafe = sys.argv[3:] == ["unsafe"]
    if not unsafe:
        sandbox.hide_memory()
        sandbox.seccomp_code()
    _warm(role)
    control.send(READY)
    while packet := _orders(control):
        order, handles = packet
        if order["op"] == "warm":
            control.send(json.dumps({"warm": _import(order["modules"])}).encode())
        elif order["op"] == "rehearse":
            loaded = importlib.import_module("grading.trusted").rehearse(handles.pop())
            _freeze()
            control.send(json.dumps({"loaded": loaded}).encode())
        elif order["op"] == "branch":
            _branch(role, control, handles.pop(), unsafe)
        _bury()


def _branch(role: str, control: socket.socket, handle: int, unsafe: bool) -> None:
    """A copy of this parent for one worker: it serves the submissions that come by this socket."""
    ours = socket.socket(fileno=handle)
    if os.fork():
        ours.close()
        return
    control.close()
    sandbox.die_with_parent()
    ours.send(READY)
    served = 0
    while packet := _orders(ours):
        order, handles = packet
        if order["op"] == "fork":
            served += 1
            if served == MANY:
                _use_huge_pages()
            ours.send(json.dumps(_serve(role, ours, order, handles, unsafe)).encode())
        for handle in handles:
            os.close(handle)
    os._exit(0)


def _bury() -> None:
    """Take note of the copies that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _orders(control: socket.socket) -> tuple[dict, list[int]] | None:
    data, handles, _, _ = socket.recv_fds(control, PACKET, 4)
    return (json.loads(data), handles) if data else None


def _warm(role: str) -> None:
    """Load what every submission loads, and what torch reads of the machine when first used."""
    import random  # noqa: F401

    import numpy  # noqa: F401
    import torch

    torch.set_num_threads(1)
    torch.ones(2).half()  # asks /proc for the processor, which students do not see
    _import(LOADED[role])


def _import(modules: Sequence[str]) -> list[str]:
    """Import modules; returns those that could not be."""
    failed = []
    for name in modules:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                importlib.import_module(name)
        except Exception:
            failed.append(name)
    _freeze()
    return failed


def _freeze() -> None:
    """What is loaded by now is no garbage: the children need not touch its pages."""
    gc.collect()
    gc.freeze()


def _use_huge_pages() -> None:
    """Gather memory in pages of 2 MiB, of which a fork copies hundreds of entries, not 50,000.

    The C library asks for such pages, Python for its small objects does not. A kernel before 6.1,
    or one without room, refuses: forks then take longer, and nothing else.
    """
    libc = ctypes.CDLL(None)
    with open("/proc/self/maps") as maps:
        rows = [line.split() for line in maps]
    for place, rights, _, _, file, *_ in rows:
        if rights != "rw-p" or file != "0":
            continue
        start, end = (int(side, 16) for side in place.split("-"))
        first, last = -(-start // HUGE_PAGE) * HUGE_PAGE, end // HUGE_PAGE * HUGE_PAGE
        for page in range(first, last, HUGE_PAGE):
            libc.madvise(ctypes.c_void_p(page), ctypes.c_size_t(HUGE_PAGE), MADV_COLLAPSE)


def _serve(
    role: str, control: socket.socket, order: dict, handles: list[int], unsafe: bool
) -> dict:
    """One submission: fork, wait for the end or for the order to kill it."""
    limits = sandbox.Limits(**order["limits"])
    apart = role == "student" and not unsafe
    user = os.getuid(), os.getgid()
    child = sandbox.fork_apart() if apart else os.fork()
    if child == 0:
        control.close()
        _child(role, limits, handles, user if apart else None, unsafe)
    watched = os.pidfd_open(child)
    poll = select.poll()
    poll.register(watched, select.POLLIN)
    poll.register(control, select.POLLIN)
    while not any(ready == watched for ready, _ in poll.poll()):
        data = control.recv(PACKET)
        if not data or json.loads(data).get("op") == "kill":
            os.kill(child, signal.SIGKILL)
            break
    os.close(watched)
    status = os.waitpid(child, 0)[1]
    return {"ended": os.waitstatus_to_exitcode(status)}


def _child(
    role: str, limits: sandbox.Limits, handles: list[int], user: tuple | None, unsafe: bool
) -> Any:
    """In the fork: the last walls, then the side's own loop. It never returns."""
    try:
        if user:
            sandbox.settle(*user, limits.tmp_size)
            os.setsid()  # a signal to one's group goes to nobody else
        sandbox.die_with_parent()
        _arrange(handles)
        sandbox.limit_resources(limits)
        if not unsafe:
            sandbox.drop_capabilities()
            sandbox.deny_system_calls()
        side = importlib.import_module(f"grading.{'student' if role == 'student' else 'trusted'}")
        side.main(socket.socket(fileno=CHANNEL), JOB)
    except BaseException as error:
        with contextlib.suppress(Exception):
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(70)
    os._exit(0)


def _arrange(handles: list[int]) -> None:
    """Put channel, output and job where the sides expect them, and close everything else."""
    high = [os.dup2(handle, 900 + place) for place, handle in enumerate(handles)]
    empty = os.open("/dev/null", os.O_RDWR)
    os.dup2(empty, 0)
    os.dup2(high[1], 1)
    os.dup2(high[1] if len(high) == 3 else empty, 2)
    os.dup2(high[0], CHANNEL)
    os.dup2(high[2], JOB)
    os.closerange(JOB + 1, 1024)


if __name__ == "__main__":
    main()
