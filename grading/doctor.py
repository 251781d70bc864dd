# ruff: noqa: E501
"""`python -m grading doctor`: which walls this machine gives, each tried from the inside."""

import argparse
import sys
import time
from dataclasses import dataclass, replace

from grading.core import Cell, Grader, Problem, TestCell, Verdict
from grading.sandbox import MIB, Limits, NoSandboxError, bubblewrap

QUICK = Limits(
    cell_seconds=2.0, test_seconds=2.0, submission_seconds=6.0, cpu_seconds=10, memory=300 * MIB
)
REFUSED = """
def refused(action, *args):
    try:
        action(*args)
    except (OSError, MemoryError, RuntimeError) as error:
        return True
    return False
"""


@dataclass(frozen=True)
class Probe:
    """Code that runs into one limit; `held` is true inside, or the process is stopped."""

    name: str
    code: str
    limits: Limits = QUICK
    stopped: bool = False


def _refusal(name: str, code: str, limits: Limits = QUICK) -> Probe:
    return Probe(name, f"{REFUSED}\n{code}", limits)


PROBES = [
    _refusal("network, TCP", "import socket\nheld = refused(socket.create_connection, ('1.1.1.1', 80), 1)"),
    _refusal("network, UDP", "import socket\nheld = refused(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)"),
    _refusal("network, the machine's host", "import socket\nheld = refused(socket.socket, 40, socket.SOCK_STREAM)"),
    _refusal("writing to the system", "held = refused(open, '/usr/x', 'w') and refused(open, '/book/lib/__init__.py', 'a')"),
    Probe("reading homes and data", "import os\nheld = not any(os.path.exists(p) for p in ('/etc/passwd', '/root/.bashrc', '/var', '/srv', '/book/exercises'))"),
    Probe("the environment", "import os\nheld = not any('SECRET' in k or 'TOKEN' in k for k in os.environ)"),
    Probe("other processes", "import os\nheld = os.getpid() == 1 and os.listdir('/proc') == []"),
    _refusal("becoming root", "import os\nheld = refused(os.setuid, 0) and os.getuid() != 0"),
    _refusal("ptrace", "import ctypes\nheld = ctypes.CDLL(None).ptrace(16, 1, 0, 0) == -1"),
    _refusal("new namespaces", "import ctypes\nheld = ctypes.CDLL(None).unshare(0x10000000) == -1"),
    _refusal("mounting", "import ctypes\nc = ctypes.CDLL(None)\nheld = c.mount(b'x', b'/tmp', b'tmpfs', 0, 0) == -1 == c.umount2(b'/proc', 2)"),
    _refusal("raising a limit", "import resource\nheld = resource.getrlimit(resource.RLIMIT_CPU)[1] == 10"),
    _refusal("disk", "def fill():\n    for n in range(10 ** 6):\n        open(f'/tmp/{n}', 'wb').write(bytes(1 << 20))\nheld = refused(fill)"),
    _refusal("number of files", "def many():\n    for n in range(10 ** 5): open(f'/tmp/f{n}', 'w').close()\nheld = refused(many)"),
    _refusal("size of a file", "held = refused(lambda: open('/tmp/large', 'wb').truncate(1 << 40))"),
    _refusal("open files", "import os\nheld = refused(lambda: [os.open('/dev/null', 0) for _ in range(300)])"),
    _refusal("processes", "import subprocess\ndef many():\n    for _ in range(200): subprocess.Popen(['sleep', '20'])\nheld = refused(many)", replace(QUICK, processes=16)),
    _refusal("address space", "held = refused(bytearray, 10 << 30)"),
    Probe("memory", "import time\nx = []\nfor _ in range(100):\n    x.append(b'x' * (20 << 20))\n    time.sleep(0.005)\nheld = False", QUICK, True),
    Probe("wall time", "import time, signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\ntime.sleep(30)\nheld = False", QUICK, True),
    Probe("CPU time", "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass", replace(QUICK, cell_seconds=3.5, cpu_seconds=1), True),
    Probe("output", "import os\nfor _ in range(500): os.write(1, bytes(65536))\nprint('x' * 10 ** 6)\nheld = True"),
]  # fmt: skip


def problem_of_probe(probe: Probe) -> Problem:
    """A probe as a problem with one test."""
    return Problem(probe.name, (Cell(""), TestCell("held", "assert held is True", 1.0)))


def try_probe(grader: Grader, probe: Probe) -> tuple[bool, Verdict]:
    """Whether the limit holds, and what the grader saw."""
    grader.limits = probe.limits
    result = grader.grade(problem_of_probe(probe), [probe.code], "no secret")
    verdict = result.verdicts[0]
    ended = verdict.status in ("lost", "timeout", "error") and grader.alive() == 0
    small = len(verdict.student_output) <= QUICK.output
    return (ended if probe.stopped else verdict.status == "passed") and small, verdict


def main(arguments: list[str] | None = None) -> int:
    """Print the tier and every limit; 1 where one does not hold, 2 where there are no walls."""
    parser = argparse.ArgumentParser(prog="grading doctor", description=__doc__)
    parser.add_argument("--unsafe", action="store_true", help="try it without walls")
    options = parser.parse_args(arguments)
    started, broken = time.monotonic(), 0
    try:
        if not options.unsafe:
            print(f"bubblewrap    {bubblewrap()}")
        with Grader(QUICK, unsafe=options.unsafe) as grader:
            print(f"tier          {grader.tier}")
            for probe in PROBES:
                held, verdict = try_probe(grader, probe)
                broken += not held
                detail = "" if held else f"  {verdict.status}: {verdict.message[:200]}"
                print(f"{'holds' if held else 'BROKEN':13} {probe.name}{detail}", flush=True)
    except NoSandboxError as error:
        print(f"tier          none\n{error}", file=sys.stderr)
        return 2
    seconds = time.monotonic() - started
    print(f"{len(PROBES) - broken} of {len(PROBES)} limits hold, {seconds:.1f} s")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
