"""The packages that were installed fit together, and the lock files name exactly those."""

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PIN = re.compile(r"([A-Za-z0-9._-]+)==(\S+)")


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    return dict(PIN.fullmatch(line).groups() for line in lines if line[:1] not in "#-")


def test_nothing_is_missing_and_nothing_contradicts():
    done = subprocess.run(
        [sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_what_is_installed_is_what_the_lock_files_say():
    locked = pins("requirements-site.lock") | pins("requirements.lock")
    assert len(locked) > 100
    installed = {name: version(name).split("+")[0] for name in locked}
    assert installed == locked


def test_the_sites_part_needs_no_torch_and_repeats_nothing():
    site, rest = pins("requirements-site.lock"), pins("requirements.lock")
    assert "torch" in rest
    assert not set(site) & set(rest)
