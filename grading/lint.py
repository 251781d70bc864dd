"""Tests that split grading cannot run, found before anybody hands in, with what to write instead.

    python -m grading.lint exercises/source/task2-memory/arithmetic-intensity.ipynb

A test runs in another process than the student's work. What it cannot see from there, such as the
identity of an object, is refused here, where an author can still change it.
"""

import ast
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from grading.core import Cell, Grader, Problem, TestCell
from grading.notebooks import SourceNotebook, read_source
from grading.origins import BUILTINS, GIVEN, Answers, TestText, loaded
from grading.wire import MAX_BYTES

Find = Callable[[TestText], Iterable[ast.AST]]


@dataclass(frozen=True)
class Rule:
    """An idiom that cannot be graded: how it is found, and what to write instead."""

    name: str
    why: str
    rewrite: str
    find: Find


@dataclass(frozen=True)
class Refusal:
    """A place where a test has to be written in another way."""

    notebook: str
    cell: str
    line: int
    rule: str
    why: str
    rewrite: str

    def __str__(self) -> str:
        where = f"{self.notebook}, cell {self.cell!r}, line {self.line}"
        return f"{where}: {self.rule}: {self.why}; write {self.rewrite}"


def lint(source: SourceNotebook) -> list[Refusal]:
    """Everything in the tests of a source notebook that split grading cannot run."""
    return lint_problem(source.problem, _editable(source))


def lint_problem(problem: Problem, editable: frozenset[str | None] = frozenset()) -> list[Refusal]:
    """The same of a problem; `editable` are its cells that students may change unasked."""
    answers = Answers(problem, editable)
    return [refusal for test in problem.tests for refusal in _of_test(problem, test, answers)]


def trial(grader: Grader, source: SourceNotebook, secret: str) -> Iterator[str]:
    """The tests that the source's own solutions do not pass when they are graded apart."""
    own = [cell for cell in source.problem.cells if isinstance(cell, Cell)]
    for verdict in grader.grade(source.problem, own, secret).verdicts:
        if verdict.status != "passed":
            said = verdict.message or verdict.status
            yield f"{source.problem.name}, cell {verdict.grade_id!r}, graded apart: {said}"


def _editable(source: SourceNotebook) -> frozenset[str | None]:
    """Cells that are neither locked nor an answer: helpers there are in the student's hands."""
    found = set()
    for cell in source.content["cells"]:
        about = cell["metadata"].get("nbgrader", {})
        if not about.get("solution") and not about.get("locked"):
            found.add(about.get("grade_id"))
    return frozenset(found)


def _of_test(problem: Problem, test: TestCell, answers: Answers) -> Iterator[Refusal]:
    def refusal(line: int, rule: str, why: str, rewrite: str) -> Refusal:
        return Refusal(problem.name, test.grade_id, line, rule, why, rewrite)

    try:
        tree = ast.parse(test.source)
    except SyntaxError as error:
        line = test.source.split("\n")[(error.lineno or 1) - 1].strip()
        kind = "magic" if re.match(r"[%!]|\w+\?", line) else "no Python"
        yield refusal(error.lineno or 1, kind, "a test is plain Python", f"it without {line!r}")
        return
    text = TestText(tree, answers)
    for rule in RULES:
        lines = {getattr(node, "lineno", 1) for node in rule.find(text)}
        yield from (refusal(line, rule.name, rule.why, rule.rewrite) for line in sorted(lines))
    yield from (refusal(*found) for found in _strangers(text, test))


def _strangers(text: TestText, test: TestCell) -> Iterator[tuple[int, str, str, str]]:
    """Names that are not there when this test runs alone, or that a student could replace."""
    answers, others = text.answers, text.answers.others(test)
    known = BUILTINS | GIVEN | text.own | set(text.imports) | answers.locked | NOTEBOOK
    for node in loaded(text.tree):
        if node.id in answers.unlocked - text.own - answers.locked:
            why = f"students may change the cell that defines {node.id}"
            yield node.lineno, "unlocked helper", why, 'it in a cell with "locked": true'
        elif node.id not in known | answers.theirs:
            if node.id in others:
                why = f"{node.id} comes from another test, and each may be run alone"
                yield node.lineno, "name of another test", why, "it in a locked cell, or here again"
            else:
                why = f"no cell defines {node.id}"
                yield node.lineno, "unknown name", why, "the import or the definition in this cell"


# --- finding ---------------------------------------------------------------------------------


def _call(*paths: str, theirs: bool = True) -> Find:
    """Calls of these, or of all in a package (`pickle.`); `theirs`: with the student's work."""

    def find(text: TestText) -> Iterator[ast.AST]:
        for node, path in text.calls():
            given = [*node.args, *node.keywords]
            if _among(path, paths) and (not theirs or any(map(text.is_theirs, given))):
                yield node

    return find


def _among(path: str, paths: Iterable[str]) -> bool:
    return any(path == each or (each.endswith(".") and path.startswith(each)) for each in paths)


def _mention(*paths: str) -> Find:
    """Any use of these names of packages."""

    def find(text: TestText) -> Iterator[ast.AST]:
        for node in text.nodes:
            if isinstance(node, ast.Attribute | ast.Name) and _among(text.path(node), paths):
                yield node

    return find


def _attribute(*names: str) -> Find:
    """These attributes of the student's work."""

    def find(text: TestText) -> Iterator[ast.AST]:
        for node in text.nodes:
            if isinstance(node, ast.Attribute) and node.attr in names and text.is_theirs(node):
                yield node

    return find


def _argument(*paths: str) -> Find:
    """What comes from one of these calls and is passed to a function of the student's."""

    def find(text: TestText) -> Iterator[ast.AST]:
        for call, value in text.arguments():
            if isinstance(value, ast.Call) and _among(text.path(value.func), paths):
                yield call

    return find


def _around(*paths: str, body: bool = True) -> Find:
    """`with` one of these; `body`: with the student's work inside."""

    def find(text: TestText) -> Iterator[ast.AST]:
        for node in text.nodes:
            if isinstance(node, ast.With) and (not body or any(map(text.is_theirs, node.body))):
                for item in node.items:
                    called = item.context_expr
                    path = text.path(called.func if isinstance(called, ast.Call) else called)
                    if _among(path, paths):
                        yield node

    return find


def _any(*finds: Find) -> Find:
    return lambda text: [node for find in finds for node in find(text)]


def _of_type(*kinds: type) -> Find:
    return lambda text: [node for node in text.nodes if isinstance(node, kinds)]


NOTEBOOK = frozenset({"get_ipython", "In", "Out", "_", "__", "___", "display"})


def _notebooks_own(text: TestText) -> Iterator[ast.AST]:
    yield from (n for n in loaded(text.tree) if n.id in NOTEBOOK - text.own - text.answers.locked)


def _main_module(text: TestText) -> Iterator[ast.AST]:
    for node in text.nodes:
        names = [each.name for each in getattr(node, "names", []) if isinstance(each, ast.alias)]
        if "__main__" in [*names, getattr(node, "module", None)]:
            yield node


def _unseen_change(text: TestText) -> Iterator[ast.AST]:
    """`f(x)`, whose answer nobody looks at, and then a look at x, without `with inplace()`."""
    seen_inside = {
        id(inner)
        for node in text.nodes
        if isinstance(node, ast.With) and "inplace" in ast.unparse(node.items[0])
        for inner in ast.walk(node)
    }
    silent = {id(node.value) for node in text.nodes if isinstance(node, ast.Expr)}
    silent |= {id(n.left) for n in text.nodes if isinstance(n, ast.Compare) and _is_none(n)}
    for call in text.student_calls():
        names = {n.id for n in call.args if isinstance(n, ast.Name) and _mutable(text, n.id)}
        looks = names & {n.id for n in loaded(text.tree) if n.lineno > call.lineno}
        compared = {name for name in names if _compared_with_copy(text, name)}
        if id(call) not in seen_inside and (compared or (looks and id(call) in silent)):
            yield call


def _is_none(node: ast.Compare) -> bool:
    return all(isinstance(c, ast.Constant) and c.value is None for c in node.comparators)


def _mutable(text: TestText, name: str) -> bool:
    """Whether a name of the test stands for a list, a dictionary or a tensor."""
    kinds = ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp | ast.Call
    made = [value for value in text.values.get(name, []) if isinstance(value, kinds)]
    return name not in text.theirs and any(not text.is_theirs(value) for value in made)


COPIES = frozenset({"clone", "copy", "deepcopy", "list", "dict", "tolist"})


def _compared_with_copy(text: TestText, name: str) -> bool:
    """Whether a test compares `name` with a copy of it that was made before."""
    copies = set()
    for other, values in text.values.items():
        for value in values:
            called = value.func if isinstance(value, ast.Call) else value
            word = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if word in COPIES and name in {n.id for n in loaded(value)} and other != name:
                copies.add(other)
    for node in text.nodes:
        if isinstance(node, ast.Compare | ast.Call):
            parts = [*getattr(node, "args", []), *ast.iter_child_nodes(node)]
            names = {part.id for part in parts if isinstance(part, ast.Name)}
            if name in names and names & copies:
                return True
    return False


def _own_tensor_optimised(text: TestText) -> Iterator[ast.AST]:
    """`.step()` on an optimizer of the student's that got a tensor of the test."""
    for node in text.nodes:
        stepped = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if not stepped or node.func.attr != "step":
            continue
        made = {id(value) for value in text.meant(node.func.value)}
        for call, value in text.arguments():
            tensor = isinstance(value, ast.Call) and text.path(value.func).startswith("torch.")
            if id(call) in made and tensor and not text.is_theirs(value):
                yield node


def _second_backward(text: TestText) -> Iterator[ast.AST]:
    for node, _ in text.calls():
        asked = any(k.arg == "create_graph" and _is(k.value, True) for k in node.keywords)
        if asked and text.is_theirs(node):
            yield node


def _is(node: ast.AST, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


SIGNATURES = ("inspect.signature", "inspect.Parameter", "inspect.Signature", "inspect.cleandoc")
SOURCES = tuple(
    f"inspect.{name}" for name in ("getsource", "getsourcelines", "getfile", "getsourcefile")
)


def _inspected(text: TestText) -> Iterator[ast.AST]:
    for node in _call("inspect.")(text):
        if text.path(node.func) not in (*SIGNATURES, *SOURCES):
            yield node


SEEN_ATTRIBUTES = """
__name__ __doc__ __annotations__ __defaults__ __call__ __init__ __hash__ __repr__ __str__ __float__
__eq__ __ne__ __lt__ __le__ __gt__ __ge__ __int__ __len__ __bool__ __getitem__ __setitem__
__delitem__ __contains__ __iter__ __next__ __enter__ __exit__ __neg__ __add__ __sub__ __mul__
__truediv__ __floordiv__ __mod__ __pow__ __matmul__
"""


def _hidden_attribute(text: TestText) -> Iterator[ast.AST]:
    errors = set(_caught_errors(text))
    for node in text.nodes:
        if isinstance(node, ast.Attribute) and re.fullmatch(r"__\w+__", node.attr):
            known = node.attr in SEEN_ATTRIBUTES.split() or not text.is_theirs(node)
            if not known and not (isinstance(node.value, ast.Name) and node.value.id in errors):
                yield node


def _name_of_type(text: TestText) -> Iterator[ast.AST]:
    for node in text.nodes:
        if isinstance(node, ast.Attribute) and node.attr in ("__name__", "__qualname__"):
            typed = isinstance(node.value, ast.Call) and text.path(node.value.func) == "type"
            if typed and text.is_theirs(node):
                yield node


def _same_object(text: TestText) -> Iterator[ast.AST]:
    """`is` between something of the student's and what is no constant and no type."""
    for node in text.nodes:
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Is | ast.IsNot):
            sides = [node.left, node.comparators[0]]
            plain = [s for s in sides if isinstance(s, ast.Constant) or text.path(s)]
            typed = any(isinstance(s, ast.Call) and text.path(s.func) == "type" for s in sides)
            if any(map(text.is_theirs, sides)) and not plain and not typed:
                yield node


def _looked_into_graph(text: TestText) -> Iterator[ast.AST]:
    for node in text.nodes:
        inner = node.value if isinstance(node, ast.Attribute) else None
        if isinstance(inner, ast.Attribute) and inner.attr == "grad_fn" and text.is_theirs(inner):
            yield node


def _recorded_warnings(text: TestText) -> Iterator[ast.AST]:
    for node, path in text.calls():
        recorded = any(k.arg == "record" and _is(k.value, True) for k in node.keywords)
        method = isinstance(node.func, ast.Attribute) and node.func.attr in ("assertWarns",
            "assertWarnsRegex", "assertLogs")  # fmt: skip
        if (path == "warnings.catch_warnings" and recorded) or method:
            yield node


FILES = (
    "open", "io.open", "pathlib.", "tempfile.", "shutil.", "glob.", "os.path.exists", "os.remove",
    "os.path.isfile", "os.path.getsize", "os.listdir", "os.makedirs", "os.mkdir", "os.stat",
    "os.walk", "numpy.load", "numpy.save", "numpy.savez", "numpy.loadtxt", "numpy.savetxt",
)  # fmt: skip


def _saved_by_torch(text: TestText) -> Iterator[ast.AST]:
    """`torch.save` and `torch.load`, unless to and from memory."""
    for node, path in text.calls():
        if path in ("torch.save", "torch.load"):
            meant = [value for given in node.args for value in text.meant(given)]
            called = [text.path(value.func) for value in meant if isinstance(value, ast.Call)]
            if "io.BytesIO" not in called:
                yield node


def _changed_environment(text: TestText) -> Iterator[ast.AST]:
    for node in text.nodes:
        stored = isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load)
        if stored and text.path(node.value) == "os.environ":
            yield node
    names = ("update", "setdefault", "pop", "clear")
    yield from _call(*(f"os.environ.{name}" for name in names), "os.putenv", "os.chdir",
                     "sys.path.insert", "sys.path.append", theirs=False)(text)  # fmt: skip


def _subclassed(text: TestText) -> Iterator[ast.AST]:
    for node in text.nodes:
        if isinstance(node, ast.ClassDef):
            bases = [b.id for b in node.bases if isinstance(b, ast.Name)]
            classes = text.answers.classes
            if any(b in text.theirs and not _is_error(classes, b) for b in bases):
                yield node


def _is_error(classes: dict[str, ast.ClassDef], name: str) -> bool:
    bases = classes[name].bases if name in classes else []
    return any(ast.unparse(base).endswith(("Error", "Exception")) for base in bases)


ERROR_ATTRIBUTES = frozenset({"args", "add_note", "with_traceback", "__class__", "__str__"})


def _caught_errors(text: TestText) -> Iterator[str]:
    """The names of exceptions that come from the student's work."""
    for node in text.nodes:
        if isinstance(node, ast.Try) and any(map(text.is_theirs, node.body)):
            yield from (handler.name for handler in node.handlers if handler.name)


def _error_attribute(text: TestText) -> Iterator[ast.AST]:
    errors = set(_caught_errors(text))
    for node in text.nodes:
        if isinstance(node, ast.Attribute) and node.attr not in ERROR_ATTRIBUTES:
            inner = node.value
            caught = isinstance(inner, ast.Name) and inner.id in errors
            raised = isinstance(inner, ast.Attribute) and _raised(text, inner)
            if caught or raised:
                yield node


def _raised(text: TestText, node: ast.Attribute) -> bool:
    """Whether this is `info.value` of `with pytest.raises(...) as info`."""
    calls = [v for v in text.meant(node.value) if isinstance(v, ast.Call)]
    kinds = [(text.path(c.func), getattr(c.func, "attr", "")) for c in calls]
    fits = any(path == "pytest.raises" or name == "assertRaises" for path, name in kinds)
    return node.attr in ("value", "exception") and fits


PLAIN_BASES = frozenset({"dict", "list", "tuple", "set", "str", "int", "float", "Exception"})


def _own_object(text: TestText) -> Iterator[ast.AST]:
    """An object of a class that the test defines, passed to the student; a callable may."""
    own = {node.name: node for node in text.nodes if isinstance(node, ast.ClassDef)}
    for call, value in text.arguments():
        made = own.get(value.func.id) if _calls_name(value) else None
        if made is None:
            continue
        methods = {n.name for n in made.body if isinstance(n, ast.FunctionDef)}
        bases = {ast.unparse(base).split(".")[-1] for base in made.bases}
        if "__call__" not in methods and not bases & (PLAIN_BASES | {"Module", "NamedTuple"}):
            yield call


def _calls_name(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name)


LAZY = ("iter", "map", "filter", "zip", "enumerate", "reversed", "itertools.",
        "torch.utils.data.DataLoader")  # fmt: skip


def _comprehended(text: TestText) -> Iterator[ast.AST]:
    yield from (call for call, value in text.arguments() if isinstance(value, ast.GeneratorExp))


FOREIGN = ("fractions.", "decimal.", "datetime.", "sympy.", "pandas.", "uuid.", "pathlib.")


def _compared_with_foreign(text: TestText) -> Iterator[ast.AST]:
    for node in text.nodes:
        if isinstance(node, ast.Compare) and text.is_theirs(node):
            sides = [value for side in (node.left, *node.comparators) for value in text.meant(side)]
            made = [text.path(side.func) for side in sides if isinstance(side, ast.Call)]
            if any(_among(path, FOREIGN) for path in made):
                yield node


def _own_model(text: TestText) -> Iterator[ast.AST]:
    """A model of the test's, passed to a function that does more with it than call it."""
    for call, value in text.arguments():
        made = text.path(value.func) if isinstance(value, ast.Call) else ""
        model = re.fullmatch(r"torch\.nn\.[A-Z]\w*", made) and not made.endswith("Parameter")
        if (model or _defines_model(text, value)) and not _only_called(text, call, value):
            yield call


def _defines_model(text: TestText, value: ast.AST) -> bool:
    own = {node.name: node for node in text.nodes if isinstance(node, ast.ClassDef)}
    made = own.get(value.func.id) if _calls_name(value) else None
    return bool(made) and any(ast.unparse(b).endswith("Module") for b in made.bases)


def _only_called(text: TestText, call: ast.Call, value: ast.AST) -> bool:
    """Whether the reference solution does nothing with this argument but call it."""
    function = text.answers.functions.get(getattr(call.func, "id", ""))
    if function is None:
        return False
    places = [k.arg for k in call.keywords if value in text.meant(k.value)]
    for argument, parameter in zip(call.args, function.args.args, strict=False):
        places += [parameter.arg] if value in text.meant(argument) else []
    used = [n for n in loaded(function) if n.id in places]
    called = {id(n.func) for n in ast.walk(function) if isinstance(n, ast.Call)}
    return bool(places) and all(id(name) in called for name in used)


CONTAINERS = (
    "torch.nn.Sequential", "torch.nn.ModuleList", "torch.nn.ModuleDict", "torch.nn.DataParallel",
    "torch.nn.utils.prune.", "torch.nn.utils.parametrize.", "torch.nn.utils.parametrizations.",
    "torch.optim.swa_utils.",
)  # fmt: skip
ARRIVING = (
    "torch.Tensor", "torch.nn.Module", "torch.nn.Parameter", "torch.nn.parameter.Parameter",
    "torch.Size", "torch.dtype", "torch.device", "collections.OrderedDict", "numpy.", "numbers.",
    "collections.abc.Callable", "collections.abc.Iterable", "collections.abc.Iterator",
    "collections.abc.Mapping", "collections.abc.Sequence", "collections.abc.Hashable",
)  # fmt: skip


def _foreign_type(text: TestText) -> Iterator[ast.AST]:
    """`isinstance` of the student's work with a type that does not cross."""
    for node, path in text.calls():
        method = isinstance(node.func, ast.Attribute) and node.func.attr == "assertIsInstance"
        if (path == "isinstance" or method) and len(node.args) > 1 and text.is_theirs(node.args[0]):
            for kind in ast.walk(node.args[1]):
                name = text.path(kind) if isinstance(kind, ast.Name | ast.Attribute) else ""
                part = any(kind is getattr(other, "value", None) for other in ast.walk(node))
                if name and not part and name not in BUILTINS and not _among(name, ARRIVING):
                    yield node


def _subclass_check(text: TestText) -> Iterator[ast.AST]:
    for node, path in text.calls():
        if path == "issubclass" and len(node.args) == 2 and text.is_theirs(node.args[0]):
            named = [a.id if isinstance(a, ast.Name) else "" for a in node.args]
            if any(map(text.answers.is_plain_class, named)):
                yield node


def _class_pattern(text: TestText) -> Iterator[ast.AST]:
    for node in text.nodes:
        if isinstance(node, ast.MatchClass) and text.is_theirs(node.cls):
            yield node.cls


def _data_changed(text: TestText) -> Iterator[ast.AST]:
    """`.data` of a parameter assigned, or changed in place."""
    for node in text.nodes:
        data = isinstance(node, ast.Attribute) and node.attr == "data" and text.is_theirs(node)
        if data and (isinstance(node.ctx, ast.Store) or _changes(text, node)):
            yield node


def _changes(text: TestText, node: ast.AST) -> bool:
    """Whether an expression is changed in place: by `x.f_()`, `x[i] = y` or `x += y`."""
    for outer in text.nodes:
        called = outer.func if isinstance(outer, ast.Call) else None
        if isinstance(called, ast.Attribute) and called.value is node:
            return called.attr.endswith("_") and not called.attr.endswith("__")
        stored = isinstance(outer, ast.Subscript) and not isinstance(outer.ctx, ast.Load)
        if (stored and outer.value is node) or getattr(outer, "target", None) is node:
            return True
    return False


def _parameter_names(text: TestText) -> set[str]:
    """Names that stand for the parameters of a model of the student's, one after the other."""
    found = set()
    for name, values in text.values.items():
        for value in values:
            words = {n.attr for n in ast.walk(value) if isinstance(n, ast.Attribute)}
            if words & {"parameters", "named_parameters"} and text.is_theirs(value):
                found.add(name)
    return found


def _flag_of_parameter(text: TestText) -> Iterator[ast.AST]:
    names = _parameter_names(text)
    for node in text.nodes:
        if isinstance(node, ast.Attribute) and node.attr in ("requires_grad", "requires_grad_"):
            own = isinstance(node.value, ast.Name) and node.value.id in names
            deep = isinstance(node.value, ast.Attribute) and text.is_theirs(node)
            stored = isinstance(node.ctx, ast.Store)
            if (stored and (own or deep)) or (own and node.attr == "requires_grad_"):
                yield node


def _gradient_changed(text: TestText) -> Iterator[ast.AST]:
    for node in text.nodes:
        gradient = isinstance(node, ast.Attribute) and node.attr == "grad"
        if gradient and text.is_theirs(node) and _changes(text, node):
            yield node


def _other_layout(text: TestText) -> Iterator[ast.AST]:
    for call, value in text.arguments():
        name = value.func.attr if isinstance(getattr(value, "func", None), ast.Attribute) else ""
        path = text.path(value.func) if isinstance(value, ast.Call) else ""
        keywords = value.keywords if isinstance(value, ast.Call) else []
        meta = any(k.arg == "device" and getattr(k.value, "value", 0) == "meta" for k in keywords)
        odd = path.startswith(("torch.sparse", "torch.quantize", "torch.nested"))
        if meta or odd or name.startswith("to_sparse"):
            yield call


ODD_TYPES = """
torch.float8_e4m3fn torch.float8_e5m2 torch.float8_e4m3fnuz torch.float8_e5m2fnuz torch.uint16
torch.uint32 torch.uint64 torch.complex32 torch.quint8 torch.qint8 torch.qint32
"""
FACTORIES = ("torch.ones", "torch.zeros", "torch.rand", "torch.randn", "torch.empty", "torch.full")


def _too_large(text: TestText) -> Iterator[ast.AST]:
    """A tensor of a size that stands in the test, over what a message may carry."""
    for call, value in text.arguments():
        if isinstance(value, ast.Call) and text.path(value.func) in FACTORIES:
            numbers = [n for n in ast.walk(value) if isinstance(n, ast.Constant)]
            sizes = [n.value for n in numbers if type(n.value) is int]
            if sizes and 4 * math.prod(sizes) > MAX_BYTES:
                yield call


def _loader_processes(text: TestText) -> Iterator[ast.AST]:
    for node, path in text.calls():
        many = [k for k in node.keywords if k.arg == "num_workers" and not _is(k.value, 0)]
        if path == "torch.utils.data.DataLoader" and many:
            yield node


def _copied_object(text: TestText) -> Iterator[ast.AST]:
    for node in _call("copy.copy", "copy.deepcopy")(text):
        made = [v for v in text.meant(node.args[0]) if _calls_name(v)] if node.args else []
        if any(text.answers.is_plain_class(value.func.id) for value in made):
            yield node


def _operator_from_the_left(text: TestText) -> Iterator[ast.AST]:
    for node in text.nodes:
        if isinstance(node, ast.BinOp) and not text.is_theirs(node.left):
            made = [value for value in text.meant(node.right) if _calls_name(value)]
            if any(text.answers.is_plain_class(value.func.id) for value in made):
                yield node


# --- the rules -------------------------------------------------------------------------------

_THERE = "student_side('...') around the whole expression, as text"
_PRINTED = "with contextlib.redirect_stdout(out): f(), and look for its text in out.getvalue()"
_SEPARATE = "the test's process is another one than the student's"
RULES = (
    Rule("await", "a test cell has no event loop, and a coroutine stays where it was made",
         "student_side('__import__(\"asyncio\").run(f())')",
         _any(_of_type(ast.Await, ast.AsyncFor, ast.AsyncWith), _call("asyncio."))),
    Rule("notebook's own", "there is no notebook around a test",
         "f() in the place of what shows it", _notebooks_own),
    Rule("main module", "the student's work is in no module of the test's process",
         "the name alone, without an import", _main_module),
    Rule("names as a dictionary", "names of the student's are looked up when they are used",
         "try: f / except NameError: ...", _call("globals", "locals", theirs=False)),
    Rule("test runner", "it finds no tests, or its result decides nothing", "assert f() == ...",
         _call("doctest.", "unittest.main", "unittest.TextTestRunner", "pytest.main",
               "ipytest.run", theirs=False)),
    Rule("changed in place", "the student's function gets a copy",
         "with inplace(): f(x), and look at x afterwards", _unseen_change),
    Rule("optimizer on a tensor of the test", "the student's optimizer gets a copy",
         "p = student_side('torch.nn.Parameter(...)'), student_set('p', p), student_side('p')",
         _own_tensor_optimised),
    Rule("mocked", "the student's names are in another process", "student_set('scale', 5)",
         _mention("unittest.mock.patch", "unittest.mock.patch.", "pytest.MonkeyPatch")),
    Rule("double backward", "one backward crosses, not the backward of a backward",
         "student_side('torch.autograd.functional.hessian(f, x)')",
         _any(_second_backward, _call("torch.autograd.gradgradcheck",
              "torch.autograd.functional.hessian", "torch.autograd.functional.hvp",
              "torch.autograd.functional.vhp", "torch.autograd.functional.jvp"))),
    Rule("function transform", "tensors within a transform have no values to pass on",
         "student_side('torch.vmap(f)(...)')",
         _call("torch.vmap", "torch.func.", "functorch.", "torch.autograd.forward_ad.")),
    Rule("compiled", "there is no code of the student's here to compile",
         "student_side('torch.jit.trace(M(), x)(x)')",
         _call("torch.compile", "torch.jit.", "torch.export.", "torch.fx.", "torch.onnx.")),
    Rule("source by inspect", "the student's source is no file here", "student_source('f')",
         _call(*SOURCES)),
    Rule("kind by inspect", "a function of the student's is a proxy here",
         "callable(f), or student_side('__import__(\"inspect\").isgeneratorfunction(f)')",
         _inspected),
    Rule("hidden attribute", "a proxy has no such attribute", "student_side('f.__code__...')",
         _hidden_attribute),
    Rule("contents of an object", "this would list the proxy",
         "student_side('vars(p)'), or hasattr(p, name)",
         _any(_call("vars", "dir"), _attribute("__dict__"))),
    Rule("name of a type", "the type of an object of the student's is a proxy's",
         "isinstance(p, P)", _name_of_type),
    Rule("same object", "values cross as copies", "student_side('a is b')",
         _any(_same_object, _call("id"))),
    Rule("memory of a tensor", "a tensor crosses as its values", "student_side('f(x).stride()')",
         _any(_attribute("data_ptr", "storage", "untyped_storage", "storage_offset", "stride",
                         "is_contiguous", "_base", "_version"),
              _call("numpy.shares_memory", "numpy.may_share_memory"))),
    Rule("graph of a tensor", "the graph of the student's computation is not here",
         "student_side('f(x).grad_fn.name()')", _looked_into_graph),
    Rule("counted operations", "the student's operations run elsewhere",
         "student_set('count', student_side('lambda ...: ...')), a function that counts there",
         _around("torch.utils.flop_counter.", "torch.profiler.", "torch.autograd.profiler.",
                 "torch.autograd.graph.")),
    Rule("setting of torch", _SEPARATE,
         "student_side('torch.set_default_dtype(...)'); torch.manual_seed(0) works on both sides",
         _any(_call("torch.set_default_dtype", "torch.set_default_device", "torch.set_rng_state",
                    "torch.set_default_tensor_type", "torch.random.set_rng_state",
                    "random.setstate", "numpy.random.set_state", theirs=False),
              _around("torch.random.fork_rng", "torch.autocast", "torch.amp.autocast",
                      "torch.device"))),
    Rule("source of randomness", "its state does not cross",
         "a seed, a torch.Generator, or student_side('f(__import__(\"random\").Random(0))')",
         _argument("random.Random", "numpy.random.default_rng", "numpy.random.RandomState",
                   "numpy.random.Generator")),
    Rule("caught warning", "the student's warnings are printed there", _PRINTED,
         _any(_around("pytest.warns", "pytest.deprecated_call"), _recorded_warnings)),
    Rule("standard error", "what the student's side prints comes as one text", _PRINTED,
         _around("contextlib.redirect_stderr")),
    Rule("current plot", "this is the current plot of the test's process",
         "student_side('plt.gca().get_title()')",
         _mention(*(f"matplotlib.pyplot.{name}" for name in ("gcf", "gca", "get_fignums")))),
    Rule("file", "the student's process has a file system of its own",
         "student_side(\"open('a.txt').read()\")",
         _any(_call(*FILES, theirs=False), _saved_by_torch)),
    Rule("environment", _SEPARATE,
         "student_side(\"__import__('os').environ.__setitem__('MODE', 'x')\")",
         _changed_environment),
    Rule("subclass of a student's class", "a class of the student's is a proxy here",
         "student_side(\"type('Q', (P,), {...})\")", _subclassed),
    Rule("attribute of an exception", "an exception crosses as its type and text",
         "str(error)", _error_attribute),
    Rule("object of the test", "an object of a class of the test cannot cross",
         "student_side('...'), which makes it there, or numbers, lists, functions", _own_object),
    Rule("iterator as an argument", "an iterator cannot cross", "list(...) around it",
         _any(_argument(*LAZY), _comprehended)),
    Rule("value of another package", "only numbers, texts, containers, arrays, tensors cross",
         "student_side('str(f(...))'), and compare texts or numbers",
         _any(_argument(*FOREIGN), _compared_with_foreign)),
    Rule("model of the test", "a model of the test can only be called by the student",
         "student_side('torch.nn.Linear(2, 3)')", _own_model),
    Rule("model within a model", "the parameters of the inner one stay with the student",
         "student_side('torch.nn.Sequential(M(), ...)')", _call(*CONTAINERS)),
    Rule("type of a part", "an object of this type does not cross",
         "student_side('isinstance(m.fc, torch.nn.Linear)')", _foreign_type),
    Rule("subclass check", "a class of the student's is a proxy here",
         "student_side('issubclass(Q, P)')", _subclass_check),
    Rule("pattern of a class", "a class of the student's is a proxy here",
         "isinstance(p, P) and p.x == ...", _class_pattern),
    Rule("data of a parameter", "this changes the copy", "with torch.no_grad(): m.w.fill_(2.0)",
         _data_changed),
    Rule("flag of a parameter", "this changes the copy", "m.requires_grad_(False)",
         _flag_of_parameter),
    Rule("gradient changed in place", "this changes a copy",
         "m.zero_grad(), or student_set('m', m) and student_side('...') on m",
         _any(_gradient_changed, _call("torch.nn.utils.clip_grad_norm_",
                                       "torch.nn.utils.clip_grad_value_"))),
    Rule("layout of a tensor", "only dense tensors of the common types cross",
         "student_side('f(x.to_sparse())')", _any(_other_layout, _mention(*ODD_TYPES.split()))),
    Rule("too large", f"a message carries {MAX_BYTES >> 20} MiB", "student_side('f(...)')",
         _too_large),
    Rule("threads", "the two sides talk one sentence at a time", "a loop, without num_workers",
         _any(_call("threading.", "multiprocessing.", "concurrent.futures.", "subprocess.",
                    "socket.", "torch.multiprocessing.", "torch.distributed.", theirs=False),
              _loader_processes)),
    Rule("pickled", "an object of the student's is not here to be copied", _THERE,
         _any(_call("pickle.", "marshal.", "dill.", "cloudpickle."), _copied_object)),
    Rule("memory of the process", "the student's memory is another process's",
         "len(...) or nbytes of what comes back, or student_side('...')",
         _any(_call("tracemalloc.", "resource.", "psutil.", "gc.get_objects", theirs=False),
              _call("sys.getsizeof"))),
    Rule("fields of a dataclass", "a class of the student's is a proxy here",
         "student_side('__import__(\"dataclasses\").asdict(c)')", _call("dataclasses.")),
    Rule("annotations", "types cross as proxies", "student_side(\"f.__annotations__['x'] is int\")",
         _any(_call("typing.get_type_hints"), _attribute("__annotations__"))),
    Rule("operator from the left", "the proxy is asked second, and has no answer",
         "student_side('1 + p')", _operator_from_the_left),
)  # fmt: skip


def main(paths: list[str]) -> int:
    """Lint source notebooks; 1 if one of their tests cannot be graded."""
    found = [refusal for path in paths for refusal in lint(read_source(Path(path)))]
    print("\n".join(map(str, found)) or "every test can be graded")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
