"""Every chapter is whole as a file and still says what it says when it is executed again."""

import pytest

from tools import notebooks
from tools.compare import differences
from tools.notebook_checks import check
from tools.notebooks import Problem

CHAPTERS = sorted((notebooks.ROOT / "chapters").rglob("*.ipynb"))


def listed(problems: list[Problem]) -> str:
    return "\n".join(map(str, problems))


def test_there_are_chapters():
    assert CHAPTERS, "no notebook under chapters/: nothing would be checked"


@pytest.mark.parametrize("path", CHAPTERS, ids=notebooks.shown)
def test_the_file_breaks_no_rule(path):
    found = check(path)
    assert not found, listed(found)


@pytest.mark.parametrize("path", CHAPTERS, ids=notebooks.shown)
def test_it_comes_out_as_it_is_stored(path):
    found = differences(path)
    assert not found, listed(found)
