"""Each rule finds what it is for and leaves the rest alone."""

import nbformat
import pytest

from tools import notebook_checks
from tools.notebook_checks import bad_magic, machine_path, missing_alt, object_address, stray_repr

CODE, TEXT = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell


def messages(rule, *cells):
    return [message for _, message in rule(nbformat.v4.new_notebook(cells=list(cells)))]


def output(text, mime="text/plain"):
    return nbformat.v4.new_output("display_data", {mime: text})


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("%no_such_magic", "no_such_magic"),
        ("x = 1\n%pip install x", "pip"),
        ("%%bash\nls", "bash"),
        ("!ls", "system"),
        ("files = !ls", "getoutput"),
        ("x?", "pinfo"),
    ],
)
def test_a_magic_that_is_not_allowed(source, name):
    assert [repr(name) in message for message in messages(bad_magic, CODE(source))] == [True]


@pytest.mark.parametrize(
    "source", ["%timeit 1 + 1", "%%time\nsum(range(5))", "x = 10 % 3", "print('%d' % 3, '!ls')"]
)
def test_timing_magics_and_python_are_allowed(source):
    assert messages(bad_magic, CODE(source)) == []


@pytest.mark.parametrize(
    "text",
    [
        "see /home/ada/book/lib/memory.py",
        "File '/Users/ada/x.py'",
        "open C:\\Users\\ada",
        f"File {notebook_checks.ROOT}/lib/__init__.py",
        f"in {notebook_checks.ROOT}",
    ],
)
def test_a_path_of_one_machine(text):
    assert len(messages(machine_path, TEXT(text))) == 1
    assert len(messages(machine_path, CODE("1", outputs=[output(text)]))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "https://example.org/home/ada/index.html",
        "lib/memory/cost.py",
        "bytes/FLOP, GB/s and 3/4",
        "AAAA/home/aaaa/BBBB+/usr/bin/",
    ],
)
def test_an_address_or_a_relative_path_is_none(text):
    assert messages(machine_path, TEXT(text), CODE("1", outputs=[output(text)])) == []


def test_addresses_of_objects():
    shown = ["<function f at 0x7f52c2f0a1b0>", "[<matplotlib.lines.Line2D at 0x7f52c2f0a1b0>]"]
    for text in shown:
        assert len(messages(object_address, CODE("1", outputs=[output(text)]))) == 1
    assert messages(object_address, CODE("hex(42)", outputs=[output("0x2a, at 0x2a")])) == []


def test_what_plotting_calls_return():
    for text in ("Text(0.5, 1.0, 'x')", "<Axes: >", "(array([1.]), <BarContainer object of 1>)"):
        assert len(messages(stray_repr, CODE("1", outputs=[output(text)]))) == 1
    figure = output("<Figure size 640x480 with 1 Axes>")
    figure.data["image/png"] = "iVBORw0KGgo="
    assert messages(stray_repr, CODE("1", outputs=[figure, output("Text about Axes")])) == []


@pytest.mark.parametrize(
    "text",
    [
        "![](a.png)",
        "![ ](a.png)",
        '<img src="a.png">',
        '<img alt=" " src="a.png">',
        "```{figure} a.png\n:width: 3\nCaption\n```",
        ":::{image} a.png\n:::",
        "<svg><path/></svg>",
    ],
)
def test_an_image_without_alt_text(text):
    assert len(messages(missing_alt, TEXT(text))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "![A roof](a.png)",
        '<img alt="A roof" src="a.png">',
        "```{figure} a.png\n:width: 3\n:alt: A roof\nCaption\n```",
        '<svg role="img" aria-label="A roof"></svg>',
        '<svg aria-hidden="true"></svg>',
        "`a[]` and (b)",
    ],
)
def test_an_image_with_alt_text(text):
    assert messages(missing_alt, TEXT(text)) == []


def test_pictures_of_a_cell_need_one_text_each():
    alt = {"mystnb": {"image": {"alt": "A roof"}}}
    picture = output("iVBORw0KGgo=", "image/png")
    assert len(messages(missing_alt, CODE("1", outputs=[picture]))) == 1
    assert messages(missing_alt, CODE("1", outputs=[picture], metadata=alt)) == []
    shared = messages(missing_alt, CODE("1", outputs=[picture, picture], metadata=alt))
    assert shared == ["2 pictures share one alt text: give each a cell"]
    named, unnamed = output('<img alt="x">', "text/html"), output("<img>", "text/html")
    assert messages(missing_alt, CODE("1", outputs=[named])) == []
    assert len(messages(missing_alt, CODE("1", outputs=[unnamed]))) == 1


def test_the_command_names_each_problem(shelf, good, capsys):
    fine, broken = shelf / "good-numbers.ipynb", shelf / "broken.ipynb"
    assert notebook_checks.main([str(fine)]) == 0
    assert capsys.readouterr().out == f"{fine}: no problems\n"
    broken.write_text(fine.read_text().replace('"python3"', '"ada-gpu"'))
    assert notebook_checks.main([str(fine), str(broken)]) == 1
    broken.unlink()
    said = capsys.readouterr().out
    assert f"{broken}: 1 problem\n    kernelspec: python3 was expected, 'ada-gpu' is stored" in said
    assert notebook_checks.main([str(shelf / "none.ipynb")]) == 2
    assert "no such file" in capsys.readouterr().err
