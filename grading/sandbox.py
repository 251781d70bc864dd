"""Walls around a process: bubblewrap from outside; namespaces, seccomp and rlimits from within."""

import ctypes
import os
import platform
import resource
import shutil
import signal
import struct
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BOOK = "/book"
NOBODY = 60001
MIB = 1 << 20
FRESH = ("/tmp", "/home", "/box")
HUGE_PAGES = "/sys/kernel/mm/transparent_hugepage"  # where the C library reads their size
# What lies below /usr and is no student's to read: nbgrader's exchange, with everybody's work.
COVERED = ("/usr/local/share/nbgrader",)


@dataclass(frozen=True)
class Limits:
    """What a submission may use. Sizes in bytes, times in seconds."""

    cell_seconds: float = 30.0
    test_seconds: float = 30.0
    submission_seconds: float = 180.0
    cpu_seconds: int = 120
    memory: int = 1024 * MIB
    address_space: int = 8192 * MIB
    processes: int = 64
    file_size: int = 64 * MIB
    tmp_size: int = 64 * MIB
    open_files: int = 256
    output: int = 20_000


class NoSandboxError(RuntimeError):
    """This machine cannot keep a submission apart, with the reason."""


def bubblewrap() -> str:
    """The path of bwrap. Raises `NoSandboxError` where there is none."""
    found = shutil.which("bwrap")
    if not found:
        raise NoSandboxError(
            "bubblewrap (bwrap) is not installed: apt install bubblewrap, or run the grader in the "
            "container of grading/Containerfile, or grade without walls with --unsafe"
        )
    return found


def command(
    program: list[str], visible: list[str], tmp_size: int, unsafe: bool = False
) -> list[str]:
    """The command line that runs `program` inside, with these paths of the repository."""
    if unsafe:
        return program
    root = os.geteuid() == 0
    user = [] if root else ["--unshare-user", "--uid", "1000", "--gid", "1000"]
    arguments = [bubblewrap(), *user, "--unshare-ipc", "--unshare-pid", "--unshare-net"]
    arguments += ["--unshare-uts", "--unshare-cgroup-try", "--die-with-parent", "--new-session"]
    arguments += ["--hostname", "grader", "--clearenv", "--cap-drop", "ALL"]
    if root:
        for name in ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"):
            arguments += ["--cap-add", name]
    arguments += _system()
    for folder in FRESH:  # before Python, which may lie below one of them
        arguments += ["--perms", "1777", "--size", str(tmp_size), "--tmpfs", folder]
    arguments += [*_python(), *_repository(visible)]
    arguments += ["--proc", "/proc", "--dev", "/dev", "--chdir", "/box"]
    for name, value in ENVIRONMENT.items():
        arguments += ["--setenv", name, value]
    drop = ["/usr/bin/setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    drop += ["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]
    return [*arguments, "--", *(drop if root else []), *program]


ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/home",
    "USER": "student",
    "TMPDIR": "/tmp",
    "LANG": "C.UTF-8",
    "PYTHONPATH": BOOK,
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # The heap in pages of 2 MiB, where the kernel gives them: a fork copies fewer entries.
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "MPLBACKEND": "agg",
    "MPLCONFIGDIR": "/tmp",
}


def _system() -> list[str]:
    arguments = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "lib", "lib64", "sbin"):
        if Path("/", name).is_symlink():
            arguments += ["--symlink", os.readlink(f"/{name}"), f"/{name}"]
        elif Path("/", name).exists():
            arguments += ["--ro-bind", f"/{name}", f"/{name}"]
    for folder in filter(os.path.isdir, COVERED):
        arguments += ["--tmpfs", folder]
    arguments += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    return [*arguments, *_parents(Path(HUGE_PAGES)), "--ro-bind-try", HUGE_PAGES, HUGE_PAGES]


def _python() -> list[str]:
    """The virtual environment and the Python it was made from, under their own names.

    Raises `NoSandboxError` if the repository, with its tests and secrets, lies within.
    """
    arguments: list[str] = []
    for folder in (*interpreter_folders(), Path("/usr")):
        if ROOT.is_relative_to(folder):
            raise NoSandboxError(f"{ROOT} lies in {folder}, which submissions see: move it out")
        if folder != Path("/usr"):
            arguments += [*_parents(folder), "--ro-bind", str(folder), str(folder)]
    return arguments


def interpreter_folders() -> list[Path]:
    """Where this Python and its packages lie, but for what is in /usr."""
    folders = {Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()}
    return [folder for folder in sorted(folders) if not folder.is_relative_to("/usr")]


def _repository(visible: list[str]) -> list[str]:
    arguments = ["--perms", "0755", "--dir", BOOK]
    for name in visible:
        inside = Path(BOOK, name)
        arguments += [*_parents(inside), "--ro-bind", str(ROOT / name), str(inside)]
    return arguments


def _parents(folder: Path) -> list[str]:
    """bwrap makes missing parents for itself alone: make them for everybody first."""
    parents = list(folder.parents)[-2::-1]
    return [word for parent in parents for word in ("--perms", "0755", "--dir", str(parent))]


# --- from within -----------------------------------------------------------------------------

CLONE_NEW = {
    "ns": 0x00020000, "cgroup": 0x02000000, "uts": 0x04000000, "ipc": 0x08000000,
    "user": 0x10000000, "pid": 0x20000000, "net": 0x40000000,
}  # fmt: skip
ALL_NEW = sum(CLONE_NEW.values())
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 0x1000, 0x4000, 0x40000
PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, PR_CAPBSET_DROP = 4, 38, 22, 24
PR_SET_PDEATHSIG, PR_GET_TID_ADDRESS = 1, 40
CLONE_CHILD_SETTID, CLONE_CHILD_CLEARTID = 0x01000000, 0x00200000


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


@cache
def _libpython() -> ctypes.PyDLL:
    """Python's own functions, and the C library's, called without giving up Python's lock."""
    return ctypes.PyDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def fork_apart() -> int:
    """Fork as `os.fork`, into namespaces of its own. The child has to `settle` there.

    One system call where `unshare` would need a second fork: a process does not enter a process
    namespace that it has made. Raises `OSError` where the kernel refuses.
    """
    python, thread = _libpython(), ctypes.c_uint64()
    # The C library keeps the number of its thread: the kernel writes the new one in its place.
    known = python.prctl(PR_GET_TID_ADDRESS, ctypes.byref(thread), 0, 0, 0) == 0
    flags = ALL_NEW | (CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID if known else 0)
    arguments = struct.pack("8Q", flags, 0, thread.value, 0, signal.SIGCHLD, 0, 0, 0)
    python.PyOS_BeforeFork()
    child = python.syscall(CLONE3[0], arguments, len(arguments))
    code = ctypes.get_errno()
    python.PyOS_AfterFork_Parent() if child else python.PyOS_AfterFork_Child()
    if child < 0:
        raise OSError(code, f"clone3: {os.strerror(code)}")
    return child


def settle(user: int, group: int, tmp_size: int) -> None:
    """In new namespaces: be who one was, with fresh folders in the place of the shared.

    Covers /proc: through it one could reach the parent. The interpreter stays in sight where it
    lies below a folder that is covered.
    """
    hide_memory(False)  # else its files in /proc belong to root
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    hide_memory()
    libc = _libc()
    _checked(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None), "mount")
    below = [f for f in interpreter_folders() if any(f.is_relative_to(top) for top in FRESH)]
    kept = [(folder, os.open(folder, os.O_PATH)) for folder in below]
    for folder in (*FRESH, "/dev/shm"):
        options = f"size={tmp_size},mode=700,nr_inodes=4096".encode()
        flags = MS_NOSUID | MS_NODEV
        _checked(libc.mount(b"tmpfs", folder.encode(), b"tmpfs", flags, options), f"mount {folder}")
    for folder, handle in kept:
        folder.mkdir(parents=True, exist_ok=True)
        there = f"/proc/self/fd/{handle}".encode()
        _checked(libc.mount(there, bytes(folder), None, MS_BIND | MS_REC, None), f"bind {folder}")
        os.close(handle)
    _checked(libc.mount(b"tmpfs", b"/proc", b"tmpfs", MS_NOSUID | MS_NODEV, b"size=4096"), "/proc")
    os.chdir("/box")


# System calls that no exercise needs, by their numbers on x86_64 and aarch64.
DENIED = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "kcmp": (312, 272), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41),
    "chroot": (161, 51), "unshare": (272, 97), "setns": (308, 268), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "mount_setattr": (442, 442), "bpf": (321, 280),
    "perf_event_open": (298, 241), "add_key": (248, 217), "request_key": (249, 218),
    "keyctl": (250, 219), "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "acct": (163, 89), "swapon": (167, 224), "swapoff": (168, 225), "reboot": (169, 142),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171),
    "clock_adjtime": (305, 266), "syslog": (103, 116), "quotactl": (179, 60),
    "fanotify_init": (300, 262), "pidfd_getfd": (438, 438), "pidfd_open": (434, 434),
    "process_madvise": (440, 440), "lookup_dcookie": (212, 18), "vhangup": (153, 58),
    "personality": (135, 92), "sethostname": (170, 161), "setdomainname": (171, 162),
    "iopl": (172, None), "ioperm": (173, None), "mknod": (133, None), "mknodat": (259, 33),
}  # fmt: skip
ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
SOCKET, CLONE, CLONE3 = (41, 198), (56, 220), (435, 435)
ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
EPERM, ENOSYS, AF_UNIX = 1, 38, 1
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06


def seccomp_filter(machine: str) -> list[tuple[int, int, int, int]]:
    """The program: refuse the list, sockets but local ones, and clone into new namespaces."""
    column, audit = ARCHITECTURES[machine]
    program = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, audit), (RETURN, 0, 0, KILL), (LOAD, 0, 0, 0)]
    program += [(AT_LEAST, 0, 1, 0x40000000), (RETURN, 0, 0, ERRNO | EPERM)]
    for numbers in DENIED.values():
        if numbers[column] is not None:
            program += [(EQUAL, 0, 1, numbers[column]), (RETURN, 0, 0, ERRNO | EPERM)]
    program += [(EQUAL, 0, 1, CLONE3[column]), (RETURN, 0, 0, ERRNO | ENOSYS)]
    # The first argument lies at offset 16: flags of clone, family of socket.
    program += [(EQUAL, 0, 4, CLONE[column]), (LOAD, 0, 0, 16), (ANY_BIT, 0, 1, ALL_NEW)]
    program += [(RETURN, 0, 0, ERRNO | EPERM), (RETURN, 0, 0, ALLOW)]
    program += [(EQUAL, 0, 3, SOCKET[column]), (LOAD, 0, 0, 16), (EQUAL, 1, 0, AF_UNIX)]
    return [*program, (RETURN, 0, 0, ERRNO | EPERM), (RETURN, 0, 0, ALLOW)]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


@cache
def seccomp_code() -> bytes:
    """The program as the kernel takes it; forks find it made if their parent has asked for it."""
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        raise OSError(f"no seccomp filter for {machine}: one of {list(ARCHITECTURES)} is expected")
    return b"".join(struct.pack("HBBI", *each) for each in seccomp_filter(machine))


def deny_system_calls() -> None:
    """Install the filter for this process and all it starts. Raises `OSError` where it cannot."""
    code, libc = seccomp_code(), _libc()
    program = _Program(len(code) // 8, code)
    _checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    _checked(libc.prctl(PR_SET_SECCOMP, 2, ctypes.byref(program), 0, 0), "seccomp")


def drop_capabilities() -> None:
    """Give up what the new user namespace brought."""
    libc = _libc()
    for capability in range(64):
        if libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0):
            break
    header = struct.pack("Ii", 0x20080522, 0)
    _checked(libc.capset(header, bytes(24)), "capset")


def die_with_parent() -> None:
    """SIGKILL when the process that forked this one ends."""
    _checked(_libc().prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0), "pdeathsig")


def hide_memory(hidden: bool = True) -> None:
    """Nobody of the same user may look into this process."""
    _checked(_libc().prctl(PR_SET_DUMPABLE, int(not hidden), 0, 0, 0), "dumpable")


def limit_resources(limits: Limits) -> None:
    """Hard limits, inherited by whatever is started."""
    for kind, value in (
        (resource.RLIMIT_CPU, limits.cpu_seconds),
        (resource.RLIMIT_AS, limits.address_space),
        (resource.RLIMIT_FSIZE, limits.file_size),
        (resource.RLIMIT_NPROC, limits.processes),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        resource.setrlimit(kind, (value, value))
