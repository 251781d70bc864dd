"""What is handed in, in every shape: the right cells, or one line that says why not."""

import json
import os
import pwd
import stat
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grading.core import steps
from grading.intake import collect, safe_name
from grading.notebooks import LARGEST_NOTEBOOK, IntakeError, read_source, read_submission, visible

ROOT = Path(__file__).resolve().parents[2]
NAME = "arithmetic-intensity"
SOURCE = read_source(ROOT / f"exercises/source/task2-memory/{NAME}.ipynb")
TESTS = [test.grade_id for test in SOURCE.problem.tests]


def notebook() -> dict:
    """A submission with all the right answers, tests as students have them."""
    content = json.loads(json.dumps(SOURCE.content))
    seen = {test.grade_id: test.source for test in visible(SOURCE).problem.tests}
    for cell in content["cells"]:
        name = cell["metadata"].get("nbgrader", {}).get("grade_id")
        cell["source"] = seen.get(name, "".join(cell["source"]))
    return content


def read(content: object):
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return read_submission(data, SOURCE)


def plan(content: object) -> list[str | None]:
    """The names of what runs, in order."""
    ran = steps(SOURCE.problem, read(content).cells)
    return [getattr(cell, "grade_id", None) or cell.cell_id for cell in ran]


ORDER = [getattr(c, "grade_id", None) or c.cell_id for c in SOURCE.problem.cells]


def cells_of(content: dict, *names: str) -> list[dict]:
    graded = [
        (cell["metadata"].get("nbgrader", {}).get("grade_id"), cell) for cell in content["cells"]
    ]
    return [cell for name, cell in graded if name in names]


def stripped(content: dict) -> None:
    for cell in content["cells"]:
        cell["metadata"] = {}


def duplicated(content: dict) -> None:
    content["cells"] += cells_of(json.loads(json.dumps(content)), *TESTS)


def answer_twice(content: dict) -> None:
    content["cells"] += cells_of(json.loads(json.dumps(content)), "linear-cost")


def put_tests_first(content: dict) -> None:
    content["cells"].sort(
        key=lambda c: c["metadata"].get("nbgrader", {}).get("grade_id") not in TESTS
    )


def delete_tests(content: dict) -> None:
    gone = cells_of(content, *TESTS)
    content["cells"] = [cell for cell in content["cells"] if cell not in gone]


def retyped(content: dict) -> None:
    for cell in cells_of(content, "linear-cost", "bounds"):
        cell["cell_type"] = "markdown"


def retyped_and_stripped(content: dict) -> None:
    retyped(content)
    stripped(content)


def version_3(content: dict) -> None:
    cells = content.pop("cells")
    for cell in cells:
        if cell["cell_type"] == "code":
            cell["input"] = cell.pop("source")
    content |= {"nbformat": 3, "worksheets": [{"cells": cells}]}


def version_5(content: dict) -> None:
    content["nbformat"] = 5


def own_points(content: dict) -> None:
    for cell in cells_of(content, *TESTS):
        cell["metadata"] = {
            "tags": ["skip-execution"],
            "nbgrader": {**cell["metadata"]["nbgrader"], "points": 100},
        }


def answers_under_a_tests_id(content: dict) -> None:
    (cell,) = cells_of(content, "linear-cost")
    cell["metadata"]["nbgrader"]["grade_id"] = "test-linear-cost"


def ids_that_are_no_text(content: dict) -> None:
    for number, cell in enumerate(content["cells"]):
        cell["metadata"] = {"nbgrader": [None, 3, {"grade_id": [1]}, "x"][number % 4]}


def junk_between(content: dict) -> None:
    content["cells"] += [
        None,
        3,
        {},
        {"cell_type": "code"},
        {"cell_type": "code", "source": "\ud800"},
    ]


SHAPES = [
    *(
        stripped,
        duplicated,
        answer_twice,
        put_tests_first,
        delete_tests,
        retyped,
        retyped_and_stripped,
    ),
    *(
        version_3,
        version_5,
        own_points,
        answers_under_a_tests_id,
        ids_that_are_no_text,
        junk_between,
    ),
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_every_test_runs_once_behind_its_answer(shape) -> None:
    content = notebook()
    shape(content)
    ran = steps(SOURCE.problem, read(content).cells)
    names, texts = [], []
    for cell in ran:
        names.append(getattr(cell, "grade_id", None))
        texts.append(cell.source)
    assert [name for name in names if name] == TESTS
    for test in SOURCE.problem.tests:
        answer = f"def {test.grade_id.removeprefix('test-').replace('-', '_')}("
        assert any(answer in text for text in texts[: names.index(test.grade_id)]), test.grade_id
        assert test.source in texts


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_what_was_mended_is_said(shape) -> None:
    content = notebook()
    shape(content)
    silent = shape in (own_points,)
    assert bool(read(content).notes) != silent


def test_an_honest_notebook_is_read_as_it_is() -> None:
    assert plan(notebook()) == ORDER
    assert read(notebook()).notes == ()


def test_the_written_answer_is_found_by_its_question() -> None:
    content = notebook()
    stripped(content)
    (words,) = read(content).answers.values()
    assert "a projection reads its" in words


REASONS = {
    b"": "the file is empty",
    b"  \n": "the file is empty",
    b"not json": "not a whole notebook",
    b"[]": "JSON, but no notebook",
    b'{"cells": null}': "no list of cells",
    b'{"cells": []}': "has no cells",
    b'{"nbformat": 4, "cells": [{"cell_type": "code", "source": ""}]}': "no answer in it",
    b"\xff\xfe\x00": "UTF-8",
    b"\x89PNG\r\n\x1a\n\xff": "UTF-8",
    b"[" * 100_000: "nested too deep",
    json.dumps(notebook()).encode()[:5000]: "not a whole notebook",
    b'{"cells": [' + b"1," * 6000 + b"1]}": "at most 5000",
    b" " * (33 << 20) + b"{}": "larger than 32 MiB",
}


@pytest.mark.parametrize("data", REASONS, ids=lambda data: data[:12].hex())
def test_what_is_no_notebook_has_one_line(data: bytes) -> None:
    with pytest.raises(IntakeError) as caught:
        read(data)
    assert REASONS[data] in str(caught.value) and "\n" not in str(caught.value)


def test_utf_16_is_read() -> None:
    assert plan(json.dumps(notebook()).encode("utf-16")) == ORDER


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
CELLS = st.fixed_dictionaries(
    {},
    optional={
        "cell_type": st.sampled_from(["code", "markdown", "raw"]) | JSON,
        "source": st.text(max_size=40) | st.lists(st.text(max_size=9), max_size=3) | JSON,
        "metadata": st.fixed_dictionaries(
            {"nbgrader": st.fixed_dictionaries({"grade_id": st.sampled_from(ORDER)})}
        )
        | JSON,
    },
)


@settings(max_examples=60)
@given(
    st.fixed_dictionaries({"nbformat": st.integers(), "cells": st.lists(CELLS, max_size=6) | JSON})
    | JSON
)
def test_any_json_is_read_or_refused_in_one_line(content: object) -> None:
    try:
        submission = read(content)
    except IntakeError as error:
        assert "\n" not in str(error)
    else:
        ran = [getattr(cell, "grade_id", None) for cell in steps(SOURCE.problem, submission.cells)]
        assert [name for name in ran if name] == TESTS


@settings(max_examples=60)
@given(st.binary(max_size=60), st.integers(0, 3000))
def test_any_bytes_are_read_or_refused(junk: bytes, place: int) -> None:
    whole = json.dumps(notebook()).encode()
    try:
        read(whole[:place] + junk + whole[place + len(junk) :])
    except IntakeError as error:
        assert "\n" not in str(error)


def put(path: Path, content: dict | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content or notebook()))
    return path


def took(place: Path, tmp_path: Path, problems: tuple[str, ...] = (NAME,), **options) -> dict:
    return collect(place, list(problems), tmp_path / "quarantine", **options)


LAYOUTS = {
    f"ada/{NAME}.ipynb": "ada",
    f"ada/task2-memory/{NAME}.ipynb": "ada",
    "ada.ipynb": "ada",
    f"Ada Lovelace_123_assignsubmission_file/{NAME}.ipynb": "Ada-Lovelace_123",
    f"Ada Lovelace_123_assignsubmission_file_/{NAME} (1).ipynb": "Ada-Lovelace_123",
    f"lovelaceada_LATE_77_8812_{NAME}-1.ipynb": "lovelaceada_77",
    f"lovelaceada_77_8812_{NAME}.ipynb": "lovelaceada_77",
    f"ada+task2-memory+2026-01-01 10:00:00 UTC+x9/{NAME}.ipynb": "ada",
}


@pytest.mark.parametrize("path", LAYOUTS)
@pytest.mark.parametrize("zipped", [False, True])
def test_layouts(path: str, zipped: bool, tmp_path: Path) -> None:
    place = tmp_path / "in"
    put(place / path)
    if zipped:
        with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
            archive.write(place / path, path)
        place = tmp_path / "in.zip"
    found = took(place, tmp_path, assignment="task2-memory")
    assert {name: list(each.notebooks) for name, each in found.items()} == {LAYOUTS[path]: [NAME]}


def test_the_latest_of_an_exchange_counts(tmp_path: Path) -> None:
    for time, text in (("2026-01-01", "old"), ("2026-01-02", "new")):
        cell = {"cell_type": "code", "source": text, "metadata": {}}
        put(tmp_path / f"in/ada+t+{time}+r/{NAME}.ipynb", {"nbformat": 4, "cells": [cell]})
    assert (
        "new" in took(tmp_path / "in", tmp_path, assignment="t")["ada"].notebooks[NAME].read_text()
    )


def test_renamed_notebooks_find_their_problem(tmp_path: Path) -> None:
    for name in ("week-1 (1)", "Copy of week-2", "WEEK_3"):
        put(tmp_path / f"in/ada/{name}.ipynb")
    found = took(tmp_path / "in", tmp_path, ("week-1", "week-2", "week-3", "week-4"))["ada"]
    assert sorted(found.notebooks) == ["week-1", "week-2", "week-3"]
    assert found.reasons == {"week-4": "no notebook named week-4.ipynb was handed in"}


def test_links_are_not_followed(tmp_path: Path) -> None:
    best = put(tmp_path / f"in/best/{NAME}.ipynb")
    for student in ("file", "folder", "hard", "pipe"):
        (tmp_path / "in" / student).mkdir()
    (tmp_path / f"in/file/{NAME}.ipynb").symlink_to(best)
    (tmp_path / "in/folder/work").symlink_to(best.parent)
    other = put(tmp_path / "elsewhere.ipynb")
    os.link(other, tmp_path / f"in/hard/{NAME}.ipynb")
    os.mkfifo(tmp_path / f"in/pipe/{NAME}.ipynb")
    found = took(tmp_path / "in", tmp_path)
    assert {name for name, each in found.items() if each.notebooks} == {"best"}
    said = {name: each.reasons.get(NAME, "") for name, each in found.items()}
    assert "link" in said["file"] and "link" in said["hard"] and "pipe" in said["pipe"]


def test_nobody_hands_in_for_somebody_else(tmp_path: Path, monkeypatch) -> None:
    """In an exchange everybody may make a folder that says it is of another student, and later."""
    ids = {"ada": 5001, "eve": 5002}
    users = {
        name: pwd.struct_passwd((name, "x", uid, uid, "", "", "")) for name, uid in ids.items()
    }
    monkeypatch.setattr(pwd, "getpwnam", users.__getitem__)
    monkeypatch.setattr(pwd, "getpwuid", {u.pw_uid: u for u in users.values()}.__getitem__)
    for name, owner, when in (
        ("ada", "ada", "2026-01-01"),
        ("ada", "eve", "2026-01-02"),
        ("eve", "eve", "2026-01-01"),
    ):
        put(tmp_path / f"in/{name}+t+{when}+x/{NAME}.ipynb", {"by": owner})
    real = os.stat
    owners = {"ada+t+2026-01-01+x": 5001, "ada+t+2026-01-02+x": 5002, "eve+t+2026-01-01+x": 5002}

    def stat_of(path, **options):
        about = real(path, **options)
        return os.stat_result([*about[:4], owners[path], *about[5:10]]) if path in owners else about

    monkeypatch.setattr(os, "stat", stat_of)
    found = took(tmp_path / "in", tmp_path, assignment="t")
    assert json.loads(found["ada"].notebooks[NAME].read_text()) == {"by": "ada"}
    assert "by eve was left out" in found["ada"].notes[0]
    assert found["eve"].notebooks and not found["eve"].notes


def test_a_student_who_is_a_link_is_in_the_class_all_the_same(tmp_path: Path) -> None:
    put(tmp_path / f"in/best/{NAME}.ipynb")
    (tmp_path / "in/eve").symlink_to("best")
    found = took(tmp_path / "in", tmp_path)
    assert sorted(found) == ["best", "eve"] and not found["eve"].notebooks
    assert found["eve"].reasons and found["eve"].notes == ["a link was handed in, not a folder"]


def test_zip_entries_stay_inside(tmp_path: Path) -> None:
    path = tmp_path / "in.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in (f"../../{NAME}.ipynb", f"/etc/{NAME}.ipynb", f"ada/../../{NAME}.ipynb"):
            archive.writestr(name, "{}")
        link = zipfile.ZipInfo(f"eve/{NAME}.ipynb")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr(f"ada/{NAME}.ipynb", json.dumps(notebook()))
    found = took(path, tmp_path)
    assert {name for name, each in found.items() if each.notebooks} == {"ada"}
    assert "link" in found["eve"].reasons[NAME]
    inside = [each for each in tmp_path.rglob("*.ipynb")]
    assert inside == [tmp_path / f"quarantine/ada/{NAME}.ipynb"]


def test_a_zip_bomb_is_cut(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "in.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"eve/{NAME}.ipynb", b" " * (40 << 20))
    assert "larger than" in took(tmp_path / "in.zip", tmp_path)["eve"].reasons[NAME]


def test_too_deep_is_said(tmp_path: Path) -> None:
    put(tmp_path / "in/eve" / "/".join("d" * 12) / f"{NAME}.ipynb")
    found = took(tmp_path / "in", tmp_path)["eve"]
    assert not found.notebooks and "too deep" in found.notes[0]


@pytest.mark.parametrize("name", ["../../x", "..", "", "a/b", "a\x00b", "x" * 999])
def test_names_are_safe_as_files(name: str) -> None:
    safe = safe_name(name)
    assert safe not in ("", ".", "..") and "/" not in safe and "\x00" not in safe
    assert len(safe) <= 200


def test_neither_folder_nor_zip(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither a folder nor a zip"):
        took(put(tmp_path / "a.ipynb"), tmp_path)


def test_one_file_at_a_time_is_in_memory(tmp_path: Path) -> None:
    for number in range(10):
        put(tmp_path / f"in/s{number}/{NAME}.ipynb").write_bytes(b" " * (8 << 20))
    tracemalloc.start()
    everybody = collect(tmp_path / "in", [NAME], tmp_path / "q")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(everybody) == 10 and most < 1.5 * LARGEST_NOTEBOOK < 10 * (8 << 20)
    assert sorted(path.name for path in (tmp_path / "q").iterdir()) == sorted(everybody)


def test_the_moment_of_handing_in_is_kept(tmp_path: Path) -> None:
    """Where nbgrader wrote it down; a student's own file of that name says nothing."""
    noted, named = "2026-11-02 10:00:00.000000 UTC", "2026-11-03 11:00:00.000000 UTC"
    put(tmp_path / f"in/ada/ps/{NAME}.ipynb")
    (tmp_path / "in/ada/ps/timestamp.txt").write_text(noted)
    put(tmp_path / f"in/bob/{NAME}.ipynb")
    (tmp_path / "in/bob/timestamp.txt").write_text(noted)
    put(tmp_path / f"in/eve+ps+{named}/{NAME}.ipynb")
    everybody = collect(tmp_path / "in", [NAME], tmp_path / "q", "ps")
    assert {name: each.when for name, each in everybody.items()} == {
        "ada": noted,
        "bob": "",
        "eve": named,
    }
    assert all(list(each.notebooks) == [NAME] for each in everybody.values())
