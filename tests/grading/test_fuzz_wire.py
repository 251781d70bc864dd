"""The decoder on mutated messages: a few in every run of the tests, many by a command."""

import ast
import json
import random
import struct
from pathlib import Path

import pytest

import grading.trusted as trusted
import grading.wire as wire
from tests.grading.fuzz_guided import packed, unpacked
from tests.grading.fuzz_wire import allocated, mutated, received, run, seeds, summary

ROOT = Path(__file__).resolve().parents[2]
# Modules of ours that see what a student's process sends, and the functions that take it.
TAKES = {"wire": wire, "trusted": trusted}
RUNS_CODE = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml", "ctypes"}


def test_nothing_is_found():
    about = summary(1500, seed=3)
    assert about["found"] == []
    assert {"value", "WireError", "EOFError"} <= set(about["kinds"])


def test_good_messages_are_values_and_few_mutations_stay_good():
    draw = random.Random(0)
    for header, buffers in seeds():
        assert mutated(draw, header, buffers)
    said = [said for _, said, _ in run(300, seed=5)]
    assert said.count("value") < 200 and said.count("WireError") > 50


def test_a_crash_would_be_found(monkeypatch):
    monkeypatch.setattr(wire, "TORCH_DTYPES", None)  # a mistake in the decoder
    monkeypatch.setattr(wire.MessageDecoder, "__call__", lambda *_: 1 / 0)
    about = summary(200, seed=3)
    assert about["found"] and about["found"][0][0].startswith("FOUND ZeroDivisionError")


@pytest.mark.parametrize("seed", range(4))
def test_allocations_stay_within_the_limits(seed):
    draw, good = random.Random(seed), seeds()
    for _ in range(40):
        data = mutated(draw, *draw.choice(good))
        assert allocated(data) < 64 * len(data) + (4 << 20)


def test_a_giant_of_small_words_is_bounded():
    """The largest header there may be, of the parts that cost the most."""
    text = b'{"ok": ["l", [' + b"[]," * (wire.MAX_HEADER // 3 - 10) + b"1]]}"
    import struct

    data = struct.pack("!4sIH", wire.MAGIC, len(text), 0) + text
    assert received(data[: 1 << 19]) == "EOFError"
    with pytest.raises(wire.WireError):
        wire.MessageDecoder([], lambda tagged: tagged)(wire.parse(text)["ok"])


def test_no_code_runs_from_what_arrives():
    """No pickle, marshal or import by name in the modules that take it; `eval` of tests alone."""
    for name, module in TAKES.items():
        tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
        imported = {
            a.name.split(".")[0]
            for n in ast.walk(tree)
            if isinstance(n, ast.Import)
            for a in n.names
        }
        imported |= {
            n.module.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)
        }
        assert imported & RUNS_CODE == set(), name
        assert callers(tree, {"__import__", "import_module", "loads", "load"}) <= {
            "parse",
            "main",
            "rehearse",
        }
    tree = ast.parse(Path(trusted.__file__).read_text(encoding="utf-8"))
    assert callers(tree, {"eval", "exec", "compile"}) <= {
        "everything", "_cell", "_compiled", "_execute", "rehearse", "_play",
    }  # fmt: skip
    link = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Link")
    assert callers(link, {"eval", "exec", "compile", "setattr", "globals"}) == set()


def callers(tree: ast.AST, names: set[str]) -> set[str]:
    """The functions in which one of these builtins or methods is called."""
    found = set()
    for function in (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)):
        for node in ast.walk(function):
            if isinstance(node, ast.Call):
                called = node.func
                word = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
                root = getattr(getattr(called, "value", None), "id", "")
                if word in names and root not in ("re", "torch"):
                    found.add(function.name)
    return found


def test_the_long_run_found_nothing():
    """The result that the chapter tells of."""
    about = json.loads(Path(__file__).with_name("fuzz_wire.json").read_text())
    assert about["found"] == [] and about["messages"] >= 50_000
    assert sum(about["kinds"].values()) == about["messages"]


def test_the_guided_run_found_nothing():
    """Nor did atheris, which is too slow and too large for every run."""
    about = json.loads(Path(__file__).with_name("fuzz_guided.json").read_text())
    assert about["found"] == [] and about["messages"] >= 1_000_000
    assert about["reached"] > about["reached_first"] > 0


def test_the_guided_run_starts_from_whole_messages():
    for header, buffers in seeds():
        data = packed(header, buffers)
        assert unpacked(data) == (json.loads(json.dumps(header)), buffers)
        assert received(data) != "WireError"
    with pytest.raises((ValueError, struct.error)):
        unpacked(b"short")
