"""The house rules that a parser can check: layers, names, docstrings, annotations, lengths."""

import ast
import re
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Each room of lib imports only from those before it. `objectives` sees tokens only, no model;
# `show` comes last, as it draws what all the others compute.
LAYERS = [
    ["memory"],
    ["masks", "dropout"],
    ["positions"],
    ["attention", "kv_cache"],
    ["models"],
    ["objectives"],
    ["data"],
    ["training"],
    ["parallel"],
    ["show"],
]
FORBIDDEN_BETWEEN = {("objectives", "models")}
DRAWING = {"matplotlib", "ipywidgets"}


def sources(*folders):
    """Every module of the folders: dotted name to syntax tree."""
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return {module_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


LIB = sources("lib")
ALL = sources("lib", "grading")


def imports(tree):
    """Every name that the module imports, in functions and for type checkers too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(module):
    return module.split(".")[1] if module.startswith("lib.") else None


def may_import(importer, imported):
    position = {name: index for index, layer in enumerate(LAYERS) for name in layer}
    earlier = position[imported] < position[importer]
    return importer == imported or (earlier and (importer, imported) not in FORBIDDEN_BETWEEN)


@pytest.mark.parametrize("module", sorted(set(LIB) - {"lib"}))
def test_rooms_import_only_from_layers_below(module):
    rooms = {name for layer in LAYERS for name in layer}
    assert room(module) in rooms, f"{module} is in no layer: give its room a place in LAYERS"
    imported = {room(name) for name in imports(LIB[module])} & rooms
    assert [name for name in imported if not may_import(room(module), name)] == []


def test_the_rule_for_layers_can_fail():
    assert may_import("show", "memory") and may_import("training", "objectives")
    assert not may_import("memory", "show") and not may_import("masks", "positions")
    assert not may_import("objectives", "models")
    tree = ast.parse("if x:\n    def f():\n        from lib.show import explore")
    assert {room(name) for name in imports(tree)} == {"show"}


@pytest.mark.parametrize("module", sorted(LIB))
def test_only_show_draws_and_nothing_grades(module):
    packages = {name.split(".")[0] for name in imports(LIB[module])}
    assert "grading" not in packages and "chapters" not in packages
    assert room(module) == "show" or not packages & DRAWING


def test_memory_can_be_imported_without_what_draws():
    script = "import sys, lib.memory; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert "lib.memory.traffic" in loaded
    assert not set(loaded) & DRAWING


FRESH_IMPORTS = """
import importlib, sys
for module in sys.argv[1:]:
    for loaded in [name for name in sys.modules if name.split(".")[0] == "lib"]:
        del sys.modules[loaded]
    importlib.import_module(module)
    print(module)
"""


def test_every_module_can_be_imported_first():
    """No module needs another one to have been imported before it."""
    run = subprocess.run(
        [sys.executable, "-c", FRESH_IMPORTS, *LIB], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == list(LIB)


def test_the_library_under_test_is_the_one_in_this_repository():
    """pytest puts `tests` on the path, where a package `tests/lib` would stand in its way."""
    import lib

    assert Path(lib.__file__) == ROOT / "lib" / "__init__.py"
    assert not (ROOT / "tests" / "lib" / "__init__.py").exists()


def public(nodes):
    return [node for node in nodes if not getattr(node, "name", "_").startswith("_")]


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def public_definitions(tree):
    """The module's public functions and classes, and the public methods of those classes."""
    for node in public(tree.body):
        yield node
        if isinstance(node, ast.ClassDef):
            yield from (item for item in public(node.body) if isinstance(item, ast.FunctionDef))


def test_no_public_name_is_defined_twice():
    homes = defaultdict(list)
    for module, tree in ALL.items():
        for node in public(tree.body):
            homes[node.name].append(module)
    twice = {name: modules for name, modules in homes.items() if len(modules) > 1}
    twice.pop("main", None)
    assert twice == {}


@pytest.mark.parametrize("module", sorted(LIB))
def test_everything_public_is_documented(module):
    assert ast.get_docstring(LIB[module]), f"{module} has no docstring"
    silent = [node.name for node in public_definitions(LIB[module]) if not ast.get_docstring(node)]
    assert silent == []


@pytest.mark.parametrize("module", sorted(LIB))
def test_every_public_function_is_annotated(module):
    defined = [n for n in public_definitions(LIB[module]) if isinstance(n, ast.FunctionDef)]
    bare = [function.name for function in defined if not fully_annotated(function)]
    assert bare == []


def fully_annotated(function):
    named = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
    rest = [arg for arg in (function.args.vararg, function.args.kwarg) if arg]
    unbound = [arg for arg in named + rest if arg.arg not in ("self", "cls")]
    return function.returns is not None and all(arg.annotation for arg in unbound)


def test_functions_are_short():
    """Docstrings count: it is what a reader has to scroll past."""
    lengths = {
        f"{module}.{node.name}": node.end_lineno - node.lineno + 1
        for module, tree in LIB.items()
        for node in functions(tree)
    }
    shown = {name: length for name, length in lengths.items() if "._" not in name}
    assert statistics.median(shown.values()) <= 12
    assert {name: length for name, length in lengths.items() if length > 50} == {}


@pytest.mark.parametrize("module", sorted(ALL))
def test_nothing_is_left_to_do(module):
    path = ROOT.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    unfinished = re.findall(r"\b(?:TODO|FIXME|XXX|NotImplementedError)\b", path.read_text("utf-8"))
    assert unfinished == []
