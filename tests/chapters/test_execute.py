"""tools.execute: the same bytes every time, and no file changed by a failure."""

import json
import os
import re
from pathlib import Path

import pytest

from tools import execute, kernel, notebooks
from tools.kernel import run

NUMBERS_AND_SETUP = ("title", "setup", "sum", "timing", "error")
TIMING = {"tags": ["nbval-ignore-output"], "reason": "timing"}
EMPTY = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": []}
CELL = {"cell_type": "markdown", "id": "a", "metadata": {}, "source": "text"}


def texts(notebook):
    return [
        "".join(str(output.get("text") or output.get("data")) for output in cell.outputs)
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def test_executing_again_changes_no_byte(good, shelf, capsys):
    paths = [shelf / "good-numbers.ipynb", shelf / "good-pictures.ipynb"]
    before = [path.read_bytes() for path in paths]
    assert execute.main([str(path) for path in paths]) == 0
    assert [path.read_bytes() for path in paths] == before
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2
    assert re.fullmatch(r"\[1/2\] \S+: 5 cells, [\d.]+ s, peak \d+ MB, unchanged", printed[0])


def test_a_stored_file_is_in_one_normal_form(good, shelf):
    text = (shelf / "good-numbers.ipynb").read_text()
    document = json.loads(text)
    assert text.endswith("}\n") and text.startswith('{\n "cells": [\n  {\n')
    assert document["metadata"] == {
        "kernelspec": notebooks.KERNELSPEC,
        "language_info": notebooks.LANGUAGE_INFO,
    }
    assert [cell["id"] for cell in document["cells"]] == list(NUMBERS_AND_SETUP)
    assert [cell.get("execution_count") for cell in document["cells"]] == [None, 1, 2, 3, 4]


def test_the_kernel_gets_the_environment_and_the_notebooks_folder(write):
    names = [*kernel.ENVIRONMENT, "PYTEST_CURRENT_TEST"]
    source = f"import os\nprint([os.environ.get(name) for name in {names}])\nprint(os.getcwd())"
    path = write(cell=(source, {}))
    expected = f"{[*kernel.ENVIRONMENT.values(), None]}\n{path.parent}\n"
    assert texts(run(path).notebook)[1] == expected


def test_what_child_processes_print_is_stored(write):
    path = write(cell=("import subprocess\nsubprocess.call(['echo', 'from below'])", {}))
    assert "from below" in texts(run(path).notebook)[1]


def test_timings_are_kept_until_their_source_changes_or_on_request(write):
    path = write(cell=("import time\nprint(time.perf_counter_ns())", TIMING))
    assert execute.main([str(path)]) == 0
    first = path.read_bytes()
    assert execute.main([str(path)]) == 0
    assert path.read_bytes() == first
    assert execute.main(["--timings", str(path)]) == 0
    second = path.read_bytes()
    assert second != first
    path.write_bytes(second.replace(b"perf_counter_ns())", b"perf_counter_ns(), 'ns')"))
    assert execute.main([str(path)]) == 0
    assert texts(notebooks.read(path))[1].endswith(" ns\n")


def test_check_names_the_cells_that_differ_and_changes_nothing(good, shelf, capsys):
    path = shelf / "edited.ipynb"
    edited = (shelf / "good-numbers.ipynb").read_text().replace("6 bytes", "7 bytes")
    path.write_text(edited)
    assert execute.main(["--check", str(path)]) == 1
    said = capsys.readouterr().err
    assert "re-execution, cell 3: stdout differs: stored '7 bytes read', now '6 bytes read'" in said
    assert path.read_text() == edited
    assert execute.main(["--check", str(shelf / "good-numbers.ipynb")]) == 0


def test_a_failing_cell_is_named_and_the_file_stays(write, good, shelf, capsys):
    path = write(fine=("print(1)", {}), broken=("def f():\n    return {}['head_dim']\nf()", {}))
    before = path.read_bytes()
    other = shelf / "good-numbers.ipynb"
    assert execute.main([str(path), str(other)]) == 1
    printed = capsys.readouterr()
    assert f"{path}: cell 3 failed" in printed.err
    assert "KeyError: 'head_dim'" in printed.err and "----> 3 f()" in printed.err
    assert "\x1b" not in printed.err
    assert "[2/2]" in printed.out
    assert path.read_bytes() == before
    assert sorted(path.parent.glob(f"*{path.name}*")) == [path]


def test_an_unknown_magic_fails(write, capsys):
    path = write(cell=("%no_such_magic\nraise ValueError", {}))
    assert execute.main([str(path)]) == 1
    assert "cell 2 failed" in capsys.readouterr().err


def test_a_dying_kernel_and_an_endless_cell_are_named(write, capsys, monkeypatch):
    path = write(cell=("import os\nos._exit(1)", {}))
    assert execute.main([str(path)]) == 1
    assert f"{path}: cell 2 ended the kernel" in capsys.readouterr().err
    monkeypatch.setattr(kernel, "CELL_TIMEOUT_SECONDS", 1)
    notebooks.write(path, notebooks.read(write(cell=("while True:\n    pass", {}))))
    assert execute.main([str(path)]) == 1
    assert f"{path}: cell 2 ran for more than 1 s" in capsys.readouterr().err


def test_a_live_widget_is_refused(write, capsys):
    path = write(cell=("import ipywidgets\nipywidgets.IntSlider()", {}))
    before = path.read_bytes()
    assert execute.main([str(path)]) == 1
    assert "cell 2 shows a live widget" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_a_traceback_holds_no_folder_of_this_machine(write):
    source = (
        f"import json, sys\nsys.path.insert(0, {str(notebooks.ROOT)!r})\n"
        "from lib.show.packing import unpack\nunpack(json.loads('[', cls=lambda **options: 1 / 0))"
    )
    failing_lib = "from lib.show import new_figure\nnew_figure(width=1)"
    raises = {"tags": ["raises-exception"]}
    cells = run(write(first=(source, raises), second=(failing_lib, raises))).notebook.cells[-2:]
    for cell, place in zip(cells, ("python/json/__init__.py", "lib/show/style.py"), strict=True):
        traceback = "\n".join(cell.outputs[0].traceback)
        assert f"m{place}:" in traceback
        assert str(Path.home()) + "/" not in traceback and "m~/" not in traceback


def test_neighbouring_pieces_of_a_stream_are_one(write):
    source = "import sys\nfor i in range(3):\n    print(i); sys.stdout.flush()\n1\n"
    path = write(cell=(source + "display(2)\nprint(3)", {}))
    outputs = run(path).notebook.cells[-1].outputs
    assert [output.get("text") for output in outputs] == ["0\n1\n2\n", None, "3\n"]


def test_peak_memory_is_the_kernels_own(write):
    parent = b"1" * 400_000_000
    path = write(cell=("size = len(b'1' * 200_000_000)", {}))
    assert 200e6 < run(path).peak_bytes < len(parent)


BAD = {
    "is not JSON": '{"cells": [',
    "is JSON but not a notebook": "[1, 2]",
    "has nbformat 3": json.dumps({**EMPTY, "nbformat": 3}),
    "has nbformat 4.4": json.dumps({**EMPTY, "nbformat_minor": 4}),
    "has no cells": json.dumps(EMPTY),
    "cell 1 needs an id of its own": json.dumps({**EMPTY, "cells": [{**CELL, "id": None}]}),
    "cell 2 needs an id": json.dumps({**EMPTY, "cells": [{**CELL, "id": "b"}, 3]}),
    "'source' is a required property (at cells/0)": json.dumps(
        {**EMPTY, "cells": [{key: CELL[key] for key in ("cell_type", "id", "metadata")}]}
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_one_line_and_nothing_is_executed(message, write, shelf, capsys):
    fine, bad = write(cell=("print(1)", {})), shelf / "bad.ipynb"
    before = fine.read_bytes()
    bad.write_text(BAD[message])
    assert execute.main([str(fine), str(bad)]) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and f"{bad}: " in printed.err and message in printed.err
    assert (fine.read_bytes(), bad.read_text(), printed.out) == (before, BAD[message], "")
    bad.unlink()


def test_a_missing_file_an_empty_folder_and_bytes_are_named(tmp_path, capsys):
    (tmp_path / "bytes.ipynb").write_bytes(b"\xff\xfe")
    (tmp_path / "empty").mkdir()
    for name, message in {
        "none.ipynb": "no such file",
        "empty": "no notebook",
        "bytes.ipynb": "UTF-8",
    }.items():
        assert execute.main([str(tmp_path / name)]) == 2
        assert re.search(rf"{name}: .*{message}", capsys.readouterr().err)


def test_writing_keeps_the_old_file_when_it_fails(tmp_path, good, monkeypatch):
    path = tmp_path / "x.ipynb"
    path.write_text("old")
    monkeypatch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        notebooks.write(path, good["numbers"])
    assert [each.name for each in tmp_path.iterdir()] == ["x.ipynb"]
    assert path.read_text() == "old"
