"""Deliberately broken notebooks: each must be caught, and for its own reason.

Some of them nbval lets through. Each canary says which, and nbval runs on all of them, so that
its holes are shown by execution and so is what closes them.
"""

import base64
import copy
import io
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest
from nbformat import NotebookNode
from PIL import Image, ImageOps

from tools import notebooks
from tools.compare import differences
from tools.notebook_checks import RULES, check

Break = Callable[[NotebookNode, dict[str, NotebookNode]], None]


@dataclass(frozen=True)
class Canary:
    """How a good notebook is broken, and what must say so."""

    name: str
    breaks: Break
    base: str
    rules: frozenset[str]
    again: str | None
    nbval: str | None


CANARIES: list[Canary] = []


def canary(
    *rules: str, again: str | None = None, nbval: str | None = None, base: str = "numbers"
) -> Callable[[Break], Break]:
    """Register a way to break a notebook.

    `rules` are all rules of tools.notebook_checks that must find it; `again` is a part of what
    executing it again must report; `nbval` is a part of what nbval must report, and None says
    that nbval lets it pass.
    """
    assert rules or again or nbval, "a canary that nothing catches proves nothing"

    def register(breaks: Break) -> Break:
        name = breaks.__name__.replace("_", "-")
        CANARIES.append(Canary(name, breaks, base, frozenset(rules), again, nbval))
        return breaks

    return register


def output_with(cell: NotebookNode, mime: str) -> NotebookNode:
    return next(output.data for output in cell.outputs if mime in output.get("data", {}))


# Cleared or never run.


@canary("never-run")
def cleared(notebook, cells):
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None


@canary("never-run")
def never_run(notebook, cells):
    cells["sum"].source = "print('anything at all')"
    cells["sum"].outputs, cells["sum"].execution_count = [], None


@canary("run-order")
def out_of_order(notebook, cells):
    cells["sum"].execution_count = 7
    cells["sum"].outputs[1].execution_count = 7


@canary(nbval="Unexpected output fields", again="shows what is not stored: stdout '6 bytes")
def cleared_output(notebook, cells):
    cells["sum"].outputs = []


# Wrong or stale.


@canary(nbval="Cell outputs differ", again="stored '7 bytes read', now '6 bytes read'")
def wrong_number(notebook, cells):
    cells["sum"].outputs[0].text = "7 bytes read\n"


@canary(nbval="Cell outputs differ", again="stored '6 bytes read', now '8 bytes read'")
def stale_output(notebook, cells):
    cells["sum"].source = cells["sum"].source.replace("2 * 3", "2 * 4")


@canary("stale-timing")
def stale_timing(notebook, cells):
    cells["timing"].source += "\nprint(time.process_time())"


@canary(again="stdout")
def reordered_outputs(notebook, cells):
    cells["sum"].outputs.reverse()


@canary(nbval="Cell outputs differ", again="stored 'ValueError: got 3'")
def other_error(notebook, cells):
    cells["error"].outputs[0].evalue = "got 3"


@canary("uncompared", again="failed")
def hidden_error(notebook, cells):
    cells["sum"].source += "\n# NBVAL_SKIP\n1 / 0"


@canary("stored-error", nbval="Cell execution caused an exception", again="failed")
def stored_error(notebook, cells):
    cells["error"].metadata = {}


@canary("uncompared")
def ignored_without_reason(notebook, cells):
    del cells["timing"].metadata["reason"]


@canary("bad-magic", "stderr", again="failed")
def bad_magic(notebook, cells):
    cells["sum"].source = "%no_such_magic\nraise ValueError"
    said = "UsageError: Line magic function `%no_such_magic` not found.\n"
    cells["sum"].outputs = [NotebookNode(output_type="stream", name="stderr", text=said)]


@canary("stderr")
def stored_warning(notebook, cells):
    cells["sum"].source = "import sys\nprint('Warning: slow', file=sys.stderr)"
    said = NotebookNode(output_type="stream", name="stderr", text="Warning: slow\n")
    cells["sum"].outputs = [said]


@canary("object-address")
def object_address(notebook, cells):
    cells["sum"].source = "object()"
    cells["sum"].outputs = cells["sum"].outputs[1:]
    cells["sum"].outputs[0].data["text/plain"] = "<object at 0x7f52c2f0a1b0>"


@canary(again="GB at its peak")
def too_much_memory(notebook, cells):
    cells["error"].source = "x = b'1' * 1_100_000_000\n" + cells["error"].source


# Pictures.


@canary(base="pictures", again="image/png differs: another picture comes out")
def swapped_picture(notebook, cells):
    data = output_with(cells["plot"], "image/png")
    picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB")
    ImageOps.mirror(picture).save(file := io.BytesIO(), "PNG")
    data["image/png"] = base64.b64encode(file.getvalue()).decode()


@canary(base="pictures", nbval="text/html", again="high as the batch. 2 bytes")
def other_status_text(notebook, cells):
    data = output_with(cells["explore"], "text/html")
    assert "1 bytes are read." in data["text/html"]
    data["text/html"] = data["text/html"].replace("1 bytes are read.", "2 bytes are read.")


@canary(base="pictures", again="text/html differs: another picture comes out")
def other_frames(notebook, cells):
    data = output_with(cells["explore"], "text/html")
    frames = re.compile(r'(class="explore-frames">)([^<]*)')
    assert frames.search(data["text/html"])
    data["text/html"] = frames.sub(lambda found: found[1] + "A" * len(found[2]), data["text/html"])


@canary(base="pictures", nbval="text/html", again="text/html differs")
def other_script(notebook, cells):
    data = output_with(cells["explore"], "text/html")
    assert "encodeURIComponent" in data["text/html"]
    data["text/html"] = data["text/html"].replace("encodeURIComponent", "String")


@canary("missing-alt", base="pictures")
def missing_alt(notebook, cells):
    cells["plot"].metadata = {}


@canary("missing-alt", base="pictures", nbval="text/html", again="text/html differs")
def explore_without_alt(notebook, cells):
    data = output_with(cells["explore"], "text/html")
    data["text/html"] = re.sub(r' alt="[^"]*"', "", data["text/html"])


@canary("stray-repr", base="pictures")
def stray_repr(notebook, cells):
    cells["plot"].source = "from matplotlib import pyplot as plt\nplt.title('Bytes')"
    text = {"text/plain": "Text(0.5, 1.0, 'Bytes')"}
    result = NotebookNode(output_type="execute_result", data=text, metadata={})
    result.execution_count = cells["plot"].execution_count
    cells["plot"].outputs.insert(0, result)


# What does not belong in the file.


@canary("live-widget")
def widget_state(notebook, cells):
    notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {}}}


@canary("live-widget")
def widget_view(notebook, cells):
    view = {"model_id": "1f", "version_major": 2, "version_minor": 0}
    cells["sum"].outputs[1].data["application/vnd.jupyter.widget-view+json"] = view


@canary("machine-path")
def machine_path(notebook, cells):
    cells["title"].source += "\n\nOpen `/home/ada/book/lib`."


@canary("set-up-cell")
def altered_set_up(notebook, cells):
    cells["setup"].source = "import sys\nsys.path.insert(0, '.')"


@canary("kernelspec")
def other_kernel(notebook, cells):
    notebook.metadata.kernelspec.name = "ada-gpu"


@canary("language-info")
def no_language(notebook, cells):
    del notebook.metadata["language_info"]


@canary("long-cell")
def long_cell(notebook, cells):
    cells["sum"].source = "\n" * 23 + cells["sum"].source


@canary("not-normalised")
def editor_leftovers(notebook, cells):
    cells["sum"].metadata = {"ExecuteTime": {"end_time": "2026-01-01"}, "scrolled": True}


@canary("unreadable")
def old_format(notebook, cells):
    notebook.nbformat_minor = 4
    for cell in notebook.cells:
        del cell["id"]


@canary("unreadable", nbval="collection failure")
def not_json(notebook, cells):
    """Broken after it was written, in `cage`."""


@pytest.fixture(scope="session")
def cage(shelf: Path, good: dict[str, NotebookNode]) -> dict[str, Path]:
    """Every canary as a file, beside the good notebooks."""
    paths = {}
    for each in CANARIES:
        notebook = copy.deepcopy(good[each.base])
        each.breaks(notebook, {cell.id: cell for cell in notebook.cells})
        paths[each.name] = shelf / f"{each.name}.ipynb"
        notebooks.write(paths[each.name], notebook)
    paths["not-json"].write_text(paths["not-json"].read_text()[:-100])
    return paths


@pytest.fixture(scope="session")
def nbval(shelf: Path, cage: dict[str, Path]) -> dict[str, str]:
    """What nbval reports on each notebook, by name; no text where it passes."""
    report = shelf / "nbval.xml"
    options = [
        *("--nbval", "--nbval-current-env", "--nbval-cell-timeout=120", "--color=no"),
        f"--nbval-sanitize-with={notebooks.ROOT / 'tools' / 'nbval_sanitize.cfg'}",
        *("--continue-on-collection-errors", "-p", "no:cacheprovider", "-p", "no:xdist"),
        *(f"--rootdir={shelf}", "-c", "/dev/null", f"--junitxml={report}", "-q"),
    ]
    command = [sys.executable, "-m", "pytest", *options, shelf]
    subprocess.run(command, cwd=notebooks.ROOT, capture_output=True, timeout=600, check=False)
    said: dict[str, str] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = Path(case.get("classname") or case.get("name")).stem
        found = (f"{each.get('message')}{each.text}" for each in case if each.tag != "skipped")
        said[name] = said.get(name, "") + "".join(found)
    return said


@pytest.mark.parametrize("name", ["numbers", "pictures"])
def test_a_good_notebook_passes_everything(name, shelf, good, nbval):
    path = shelf / f"good-{name}.ipynb"
    assert (check(path), differences(path), nbval[path.stem]) == ([], [], "")


@pytest.mark.parametrize("canary", CANARIES, ids=lambda canary: canary.name)
def test_canary(canary, cage, nbval):
    path = cage[canary.name]
    assert {problem.rule for problem in check(path)} == canary.rules
    if canary.again:
        assert canary.again in "\n".join(map(str, differences(path)))
    if canary.nbval:
        assert canary.nbval in nbval[canary.name]
    else:
        assert nbval[canary.name] == ""


def test_every_rule_has_a_canary_and_nbval_misses_many():
    rules = {rule.__name__.replace("_", "-") for rule in RULES} | {"unreadable", "not-normalised"}
    assert set().union(*(each.rules for each in CANARIES)) == rules
    assert len([each for each in CANARIES if each.nbval is None]) >= 20
