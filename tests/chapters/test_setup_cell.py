"""The set-up cell: the same in every notebook, and enough for Colab."""

import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

from tools import notebooks, setup_cell
from tools.kernel import run
from tools.notebooks import ROOT, NotebookError

EVERY = sorted(
    path
    for folder in ("chapters", "exercises/source")
    for path in (ROOT / folder).rglob("*.ipynb")
    if ".ipynb_checkpoints" not in path.parts
)


@pytest.mark.parametrize("path", EVERY, ids=notebooks.shown)
def test_every_notebook_has_the_templates_cell(path):
    assert setup_cell.in_place(notebooks.read(path)), "run python -m tools.setup_cell --update"


def test_there_are_notebooks():
    assert EVERY


def test_the_address_is_that_of_the_configuration():
    url = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
    assert f'url="{url}"' in setup_cell.source()


def test_the_cell_is_short_and_leaves_one_name(tmp_path, monkeypatch):
    assert len(setup_cell.source().splitlines()) <= 16
    (tmp_path / "lib/memory").mkdir(parents=True)
    (tmp_path / "chapters").mkdir()
    monkeypatch.chdir(tmp_path / "chapters")
    monkeypatch.setattr(sys, "path", ["elsewhere"])
    names: dict[str, object] = {}
    exec(setup_cell.source(), names)
    exec(setup_cell.source(), names)
    assert set(names) == {"__builtins__", "open_book"}
    assert sys.path == [str(tmp_path), "elsewhere"]


def test_update_writes_the_cell_below_the_title_and_over_an_old_one(tmp_path, capsys):
    path = tmp_path / "x.ipynb"
    title, code = nbformat.v4.new_markdown_cell("# T"), nbformat.v4.new_code_cell("1")
    notebooks.write(path, nbformat.v4.new_notebook(cells=[title, code]))
    assert setup_cell.main([str(path)]) == 1
    assert setup_cell.main(["--update", str(path)]) == 0
    written = path.read_bytes()
    assert [cell.id for cell in notebooks.read(path).cells] == [title.id, "setup", code.id]
    assert setup_cell.main([str(path)]) == setup_cell.main(["--update", str(path)]) == 0
    assert path.read_bytes() == written
    path.write_bytes(written.replace(b"open_book()", b"open_it()"))
    assert setup_cell.main([str(path)]) == 1
    assert setup_cell.main(["--update", str(path)]) == 0
    assert path.read_bytes() == written
    assert "the set-up cell written" in capsys.readouterr().out


def test_update_moves_a_cell_that_is_not_the_first_code_cell(tmp_path):
    path = tmp_path / "x.ipynb"
    cells = [nbformat.v4.new_code_cell("1"), nbformat.v4.new_code_cell("pass")]
    cells[1].metadata["tags"] = ["setup"]
    notebooks.write(path, nbformat.v4.new_notebook(cells=cells))
    assert setup_cell.main(["--update", str(path)]) == 0
    assert setup_cell.main([str(path)]) == 0
    assert [cell.id for cell in notebooks.read(path).cells] == [cells[1].id, cells[0].id]


@pytest.mark.parametrize("config", ["{}", "repository: 3", None])
def test_a_configuration_without_an_address_is_named(config, tmp_path, monkeypatch):
    monkeypatch.setattr(setup_cell, "ROOT", tmp_path)
    if config:
        (tmp_path / "_config.yml").write_text(config)
    with pytest.raises(NotebookError, match=r"_config\.yml: repository\.url was expected"):
        setup_cell.source()


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A git repository with what the cell needs of this one."""
    folder = tmp_path / "origin"
    (folder / "lib/memory").mkdir(parents=True)
    (folder / "lib/__init__.py").write_text("")
    (folder / "lib/memory/__init__.py").write_text("BYTES = 42\n")
    shutil.copy(ROOT / "pyproject.toml", folder)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    commit(folder)
    return folder


def commit(folder: Path) -> None:
    author = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    for command in (["add", "."], [*author, "commit", "--quiet", "--message=All"]):
        subprocess.run(["git", *command], cwd=folder, check=True)


def colab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> Path:
    """A notebook alone in an empty folder, where no folder above holds the library."""
    folder = tmp_path / "content"
    folder.mkdir()
    cell = nbformat.v4.new_code_cell(
        "import lib.memory, pathlib\n"
        "print(lib.memory.BYTES, pathlib.Path(lib.memory.__file__).relative_to(pathlib.Path.cwd()))"
    )
    notebook = nbformat.v4.new_notebook(cells=[cell])
    setup_cell.put(notebook)
    notebooks.write(folder / "x.ipynb", notebook)
    monkeypatch.setenv("BOOK_URL", url)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return folder / "x.ipynb"


def test_on_colab_the_book_is_cloned_once(tmp_path, monkeypatch, book):
    path = colab(tmp_path, monkeypatch, book.as_uri())
    for _ in range(2):
        notebook = run(path).notebook
        assert [cell.outputs for cell in notebook.cells[:1]] == [[]]
        assert notebook.cells[1].outputs[0].text == "42 book/lib/memory/__init__.py\n"
    assert (path.parent / "book/.git").is_dir()


def test_on_colab_a_missing_package_is_installed_and_no_other(tmp_path, monkeypatch, book):
    """pip is replaced: it writes down what it was asked for. One requirement is not there."""
    needs = (book / "pyproject.toml").read_text()
    (book / "pyproject.toml").write_text(needs.replace('"einops>', '"no_such_package>'))
    commit(book)
    pip = tmp_path / "pip-module" / "pip"
    pip.mkdir(parents=True)
    (pip / "__init__.py").write_text("")
    (pip / "__main__.py").write_text(
        "import pathlib, sys\npathlib.Path('asked.txt').write_text(' '.join(sys.argv[1:]))\n"
    )
    path = colab(tmp_path, monkeypatch, book.as_uri())
    monkeypatch.setenv("PYTHONPATH", str(pip.parent))
    run(path)
    asked = (path.parent / "asked.txt").read_text()
    assert asked == "install --quiet no_such_package>=0.7"


def test_a_failing_clone_says_what_to_look_at(tmp_path, monkeypatch):
    path = colab(tmp_path, monkeypatch, (tmp_path / "nowhere").as_uri())
    with pytest.raises(NotebookError, match="The book could not be cloned from file://") as error:
        run(path)
    assert "Is there a network?" in str(error.value)
    assert not (path.parent / "book").exists()


def test_the_cell_runs_where_the_repository_is(write):
    path = write(cell=("import lib\nprint(lib.__name__)", {}))
    assert run(path).notebook.cells[-1].outputs[0].text == "lib\n"
    assert not (path.parent / "book").exists()


def test_a_library_on_the_path_is_taken_before_any_clone(tmp_path):
    (tmp_path / "installed" / "lib" / "memory").mkdir(parents=True)
    (tmp_path / "course").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", setup_cell.source()],
        cwd=tmp_path / "course",
        env={"PYTHONPATH": str(tmp_path / "installed"), "BOOK_URL": "file:///nowhere"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "course" / "book").exists()
