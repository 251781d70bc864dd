"""Feedback pages: hidden lines go, wherever they are quoted; the student's own lines stay."""

import base64

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from exercises.feedback import (
    HIDDEN_TEST,
    REMOVED,
    VISIBLE_TEST,
    YOUR_CODE,
    FeedbackExporter,
    HideHiddenTests,
    ShowStudentWorkAsText,
    hidden_lines,
)

STUDENT = "def half(x):\n    return 1 / x"
TEST = """assert half(2) == 0.5, "half of the visible test"
### BEGIN HIDDEN TESTS
canary = half(0)
for canary_row in range(3):
    assert half(canary_row) == canary_row
### END HIDDEN TESTS
assert half(4) == 0.25"""


def frame(cell: int, line: int, source: str, name: str = "") -> str:
    """A frame of a traceback, coloured as IPython does, with two lines around the line."""
    lines = source.split("\n")
    numbered = [
        f"\x1b[32m{'---->' if number == line else '     '} {number}\x1b[39m {text}"
        for number, text in enumerate(lines, start=1)
        if abs(number - line) <= 2
    ]
    head = f"\x1b[36mCell\x1b[39m\x1b[36m \x1b[39m\x1b[32mIn[{cell}]\x1b[39m\x1b[32m, line {line}"
    return "\n".join([f"{head}\x1b[39m{name}", *numbered])


def error(kind: str, message: str, *frames: str) -> NotebookNode:
    head = f"\x1b[31m{kind}\x1b[39m     Traceback (most recent call last)"
    last = f"\x1b[31m{kind}\x1b[39m: {message}"
    return new_output(
        "error", ename=kind, evalue=message, traceback=["-" * 75, head, *frames, last]
    )


def solution(outputs: list[NotebookNode], source: str = STUDENT) -> NotebookNode:
    meta = {"nbgrader": {"grade_id": "half", "grade": False, "locked": False, "solution": True}}
    return new_code_cell(source, metadata=meta, execution_count=1, outputs=outputs)


def test_cell(outputs: list[NotebookNode]) -> NotebookNode:
    graded = {"grade_id": "test-half", "grade": True, "locked": True, "solution": False}
    meta = {"nbgrader": {**graded, "points": 1}}
    return new_code_cell(TEST, metadata=meta, execution_count=2, outputs=outputs)


test_cell.__test__ = False


def cleaned(*cells: NotebookNode) -> NotebookNode:
    notebook, _ = HideHiddenTests().preprocess(new_notebook(cells=list(cells)), {})
    return notebook


def said(cell: NotebookNode) -> str:
    return "\n".join(cell.outputs[0].traceback)


def test_hidden_lines_with_their_markers() -> None:
    assert [number for number, _ in hidden_lines(TEST)] == [2, 3, 4, 5, 6]


def test_source_keeps_the_visible_tests() -> None:
    notebook = cleaned(solution([]), test_cell([]))
    assert notebook.cells[1].source == "\n".join([TEST.split("\n")[0], TEST.split("\n")[-1]])


def test_a_hidden_test_that_fails_shows_its_message_only() -> None:
    failed = error("AssertionError", "three is not one", frame(2, 5, TEST))
    text = said(cleaned(solution([]), test_cell([failed])).cells[1])
    assert text.startswith(HIDDEN_TEST) and "three is not one" in text
    assert "canary" not in text and "In[2]" not in text


def test_a_visible_test_that_fails_does_not_quote_its_neighbours() -> None:
    failed = error("AssertionError", "half of the visible test", frame(2, 1, TEST))
    text = said(cleaned(solution([]), test_cell([failed])).cells[1])
    assert text.startswith(VISIBLE_TEST) and "half of the visible test" in text
    assert "canary" not in text and "HIDDEN" not in text


def test_a_crash_shows_the_students_lines() -> None:
    library = "\x1b[36mFile \x1b[39m\x1b[32m/home/me/checks.py:7\x1b[39m, in check\n    7 x"
    crash = error(
        "ZeroDivisionError", "division by zero",
        frame(2, 3, TEST), library, frame(1, 2, STUDENT, ", in half(x)"),
    )  # fmt: skip
    text = said(cleaned(solution([]), test_cell([crash])).cells[1])
    assert "ZeroDivisionError: division by zero" in text
    assert YOUR_CODE in text and "return 1 / x" in text
    assert "canary" not in text and "checks.py" not in text


def test_an_error_in_the_students_own_cell_stays_without_the_folders_of_this_machine() -> None:
    library = "\x1b[36mFile \x1b[39m\x1b[32m/home/me/statistics.py:432\x1b[39m, in mean(x)\n  4 y"
    crash = error("StatisticsError", "no data", frame(1, 2, STUDENT), library)
    text = said(cleaned(solution([crash]), test_cell([])).cells[0])
    assert "return 1 / x" in text and "File statistics.py:432, in mean(x)" in text
    assert "/home/me" not in text


@pytest.mark.parametrize("quoted", [TEST, repr([TEST]), f"a\n    {TEST.splitlines()[4]}\nb"])
@pytest.mark.parametrize("where", ["stream", "result", "error"])
def test_printed_hidden_lines_are_removed(quoted: str, where: str) -> None:
    outputs = {
        "stream": new_output("stream", text=quoted),
        "result": new_output("execute_result", data={"text/plain": quoted, "text/html": quoted}),
        "error": error("ValueError", quoted, f"Cell In[1], line 1\n{quoted}"),
    }
    notebook = cleaned(solution([outputs[where]]), test_cell([]))
    assert "canary" not in str(notebook.cells[0].outputs)
    assert REMOVED in str(notebook.cells[0].outputs)


def test_locked_helpers_are_left_out_and_other_cells_stay() -> None:
    graded = {"grade_id": "setup", "grade": False, "locked": True, "solution": False}
    helper = new_code_cell("import math", metadata={"nbgrader": graded})
    own = new_code_cell("print(1)", execution_count=3)
    notebook = cleaned(helper, solution([]), test_cell([]), own, new_markdown_cell("text"))
    assert [cell.source for cell in notebook.cells][2:] == ["print(1)", "text"]
    assert notebook.cells[0].source == STUDENT


def test_an_error_without_a_traceback_keeps_its_message() -> None:
    """So nbclient reports a cell that ran out of time."""
    late = new_output("error", ename="CellTimeoutError", evalue="", traceback=["too late"])
    text = said(cleaned(solution([]), test_cell([late])).cells[1])
    assert "CellTimeoutError" in text


PNG = base64.b64encode(b"\x89PNG").decode()


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        ({"image/png": PNG, "text/html": "<b>"}, {"image/png": PNG}),
        ({"image/png": 'x" onerror="alert(1)', "text/plain": "a"}, {"text/plain": "a"}),
        ({"image/png": ["x"], "text/plain": "a"}, {"text/plain": "a"}),
        ({"text/html": "<script>", "text/plain": "table"}, {"text/plain": "table"}),
        ({"image/svg+xml": "<svg onload=x>"}, {"text/plain": "[an output of type image/svg+xml]"}),
    ],
)
def test_outputs_keep_pictures_and_text(data: dict, kept: dict) -> None:
    cell = new_code_cell("plot()", outputs=[new_output("display_data", data=data)])
    ShowStudentWorkAsText().preprocess_cell(cell, {}, 0)
    assert cell.outputs[0].data == kept


def test_markdown_becomes_harmless() -> None:
    text = (
        "# A *title*\n\n| a | b |\n|---|---|\n| `x<y` | $a < b$ |\n\n"
        "<script>alert(1)</script> <img src=x onerror=alert(1)> <b onclick='x'>bold</b>\n\n"
        "[good](https://example.org) [bad](javascript:alert(1))"
    )
    page = FeedbackExporter().markdown2html({}, text)
    for good in ("<h1", "<em>title</em>", "<table>", "<code>x&lt;y</code>", "<b>bold</b>"):
        assert good in page
    assert 'href="https://example.org"' in page
    for bad in ("<script", "<img", "onclick", 'href="javascript'):
        assert bad not in page
