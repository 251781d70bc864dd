"""Whose is what in a test: names of the student's, of the source's locked cells, of packages."""

import ast
import builtins
import contextlib
from collections.abc import Iterable, Iterator
from functools import cached_property

from grading.core import Cell, Problem, TestCell
from grading.student import readable

GIVEN = frozenset({"inplace", "student_source", "student_side", "student_set"})
BUILTINS = frozenset(dir(builtins))


class Answers:
    """What the cells that are no tests define: the solutions stand for the student's work."""

    def __init__(self, problem: Problem, editable: frozenset[str | None] = frozenset()) -> None:
        cells = [cell for cell in problem.cells if isinstance(cell, Cell)]
        self.problem = problem
        self.theirs = _bound(c.source for c in cells if c.kind == "student")
        self.locked = _bound(c.source for c in cells if c.kind == "locked")
        self.unlocked = _defined(c.source for c in cells if c.cell_id in editable)
        self.imports = {k: v for cell in cells for k, v in _imports(parsed(cell.source))}
        own = [parsed(cell.source) for cell in cells if cell.kind == "student"]
        definitions = [node for tree in own for node in ast.walk(tree)]
        self.functions = {n.name: n for n in definitions if isinstance(n, ast.FunctionDef)}
        self.classes = {n.name: n for n in definitions if isinstance(n, ast.ClassDef)}

    def is_model(self, name: str) -> bool:
        """Whether a class of the solutions is a torch module, by the words of its bases."""
        bases = self.classes[name].bases if name in self.classes else []
        words = [ast.unparse(base).split(".")[-1] for base in bases]
        return any(word in ("Module", "Sequential") or self.is_model(word) for word in words)

    def is_plain_class(self, name: str) -> bool:
        """Whether a class of the solutions is neither a model nor an exception."""
        bases = self.classes[name].bases if name in self.classes else []
        words = [ast.unparse(base).split(".")[-1] for base in bases]
        error = any(word.endswith(("Error", "Exception")) for word in words)
        return name in self.classes and not self.is_model(name) and not error

    def others(self, test: TestCell) -> set[str]:
        """Names that only other tests bind."""
        return _bound(each.source for each in self.problem.tests if each != test)


class TestText:
    """One test, parsed, with the origin of its names."""

    __test__ = False

    def __init__(self, tree: ast.Module, answers: Answers) -> None:
        self.tree, self.answers = tree, answers
        self.nodes = list(ast.walk(tree))
        self.own = _bound_by(self.nodes)
        self.values: dict[str, list[ast.expr]] = {}
        for names, value in _bindings(self.nodes):
            for name in names:
                self.values.setdefault(name, []).append(value)
        self.imports = answers.imports | dict(_imports(tree))

    @cached_property
    def theirs(self) -> frozenset[str]:
        """Names of the student's, and those that stand for something they computed."""
        known = self.answers.theirs - self.answers.locked - self.own - set(self.imports)
        while True:
            new = {
                name
                for name, values in self.values.items()
                if name not in known and any(self._holds(value, known) for value in values)
            }
            if not new:
                return frozenset(known)
            known |= new

    def is_theirs(self, node: ast.AST) -> bool:
        """Whether something of the student's is in an expression."""
        return self._holds(node, self.theirs)

    def _holds(self, node: ast.AST, known: Iterable[str]) -> bool:
        names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
        return bool(names & {*known, "student_side"})

    def path(self, node: ast.AST) -> str:
        """`torch.nn.Linear` for `nn.Linear`; the name of a builtin; else nothing."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id in self.theirs:
            return ""
        builtin = node.id in BUILTINS and node.id not in self.own | self.answers.locked
        root = self.imports.get(node.id, node.id if builtin else "")
        return ".".join([root, *reversed(parts)]) if root else ""

    def calls(self) -> Iterator[tuple[ast.Call, str]]:
        """Every call, and the path of what is called."""
        yield from ((n, self.path(n.func)) for n in self.nodes if isinstance(n, ast.Call))

    def student_calls(self) -> Iterator[ast.Call]:
        """Calls of the student's functions, classes, and methods of their objects."""
        for node in self.nodes:
            if isinstance(node, ast.Call):
                called = node.func
                method = isinstance(called, ast.Attribute) and called.attr in self.answers.functions
                called = called.value if method else called
                if isinstance(called, ast.Name) and called.id in self.theirs:
                    yield node

    def arguments(self) -> Iterator[tuple[ast.Call, ast.expr]]:
        """What the student's functions are called with; a name stands for what it was bound to."""
        for call in self.student_calls():
            for given in [*call.args, *(keyword.value for keyword in call.keywords)]:
                parts = given.elts if isinstance(given, ast.List | ast.Tuple) else [given]
                for part in parts:
                    yield from ((call, value) for value in self.meant(part))

    def meant(self, node: ast.expr) -> list[ast.expr]:
        """The values that a name was bound to; anything else is itself."""
        return self.values.get(node.id, [node]) if isinstance(node, ast.Name) else [node]


def parsed(source: str) -> ast.Module:
    """A cell's syntax tree; that of an empty cell if it has none."""
    with contextlib.suppress(SyntaxError, ValueError):
        return ast.parse(readable(source))
    return ast.Module(body=[], type_ignores=[])


def loaded(tree: ast.AST) -> Iterator[ast.Name]:
    """Every name that is read."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node


def _bound(sources: Iterable[str]) -> set[str]:
    """The names that cells bind outside of functions, but for imports."""
    return {name for s in sources for name in _bound_by(_outside(parsed(s)), imports=False)}


def _outside(tree: ast.AST) -> Iterator[ast.AST]:
    """What a cell does itself, not in the functions and classes that it defines."""
    inner = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda | ast.comprehension
    for node in ast.iter_child_nodes(tree):
        yield node
        if not isinstance(node, inner):
            yield from _outside(node)


def _bound_by(nodes: Iterable[ast.AST], imports: bool = True) -> set[str]:
    names = set()
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom) and imports:
            names |= {(each.asname or each.name).split(".")[0] for each in node.names}
    return names


def _defined(sources: Iterable[str]) -> set[str]:
    """Functions, classes and variables at the top level of cells."""
    names = set()
    for node in (node for source in sources for node in parsed(source).body):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {t.id for t in node.targets if isinstance(t, ast.Name)}
    return names


def _imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Each imported name, and what it is called where it comes from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                top = each.name.split(".")[0]
                yield (each.asname, each.name) if each.asname else (top, top)
        elif isinstance(node, ast.ImportFrom):
            yield from ((a.asname or a.name, f"{node.module}.{a.name}") for a in node.names)


def _bindings(nodes: Iterable[ast.AST]) -> Iterator[tuple[list[str], ast.expr]]:
    """Names, and the expression whose value, or a part of it, they get."""
    for node in nodes:
        if isinstance(node, ast.Assign):
            yield [name for target in node.targets for name in _targets(target)], node.value
        elif isinstance(node, ast.AnnAssign | ast.AugAssign | ast.NamedExpr) and node.value:
            yield _targets(node.target), node.value
        elif isinstance(node, ast.For | ast.comprehension):
            yield _targets(node.target), node.iter
        elif isinstance(node, ast.withitem) and node.optional_vars:
            yield _targets(node.optional_vars), node.context_expr


def _targets(node: ast.AST) -> list[str]:
    """The names in the target of an assignment; an attribute or an item binds none."""
    if isinstance(node, ast.Attribute | ast.Subscript):
        return []
    return [each.id for each in ast.walk(node) if isinstance(each, ast.Name)]
