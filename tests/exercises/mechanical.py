"""Mechanical mistakes: every small edit of a function's syntax tree, sensible or not.

Operators, constants and comparisons change, one argument takes the place of another. Such edits
are nobody's idea of a mistake, so they find what the author of the tests did not think of.
"""

import ast
import copy
from collections.abc import Callable, Iterator

OPERATORS = {
    ast.Add: (ast.Sub, ast.Mult),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Add, ast.Div),
    ast.Div: (ast.Mult, ast.FloorDiv),
}
COMPARISONS = {
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotIn: (ast.In,),
}
Edit = Callable[[ast.AST], None]


def mechanical_mistakes(source: str) -> set[str]:
    """All functions that differ from this one in one place. Error messages are left alone."""
    tree = ast.parse(source)
    arguments = [argument.arg for argument in tree.body[0].args.kwonlyargs]
    messages = {n for each in ast.walk(tree) if isinstance(each, ast.Raise) for n in ast.walk(each)}
    edited = set()
    for place, node in enumerate(ast.walk(tree)):
        for edit in () if node in messages else _edits(node, arguments):
            changed = copy.deepcopy(tree)
            edit(list(ast.walk(changed))[place])
            edited.add(ast.unparse(changed))
    return edited - {ast.unparse(tree)}


def _edits(node: ast.AST, arguments: list[str]) -> Iterator[Edit]:
    if isinstance(node, ast.BinOp):
        for other in OPERATORS.get(type(node.op), ()):
            yield _setter("op", other())
        yield _setter("right", node.left)
        yield _setter("left", node.right)
    elif isinstance(node, ast.Compare):
        for other in COMPARISONS.get(type(node.ops[0]), ()):
            yield _setter("ops", [other()])
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        for value in (node.value + 1, node.value - 1, node.value * 2):
            yield _setter("value", value)
    elif isinstance(node, ast.Name) and node.id in arguments:
        for argument in arguments:
            yield _setter("id", argument)
    elif isinstance(node, ast.keyword) and isinstance(node.value, ast.Name):
        yield _setter("value", ast.Constant(1))


def _setter(field: str, value: object) -> Edit:
    return lambda node: setattr(node, field, copy.deepcopy(value))
