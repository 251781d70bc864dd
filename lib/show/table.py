"""A table that reads well on the page, in a notebook and as plain text."""

from collections.abc import Iterable, Mapping
from html import escape
from numbers import Integral, Real

import sympy
from IPython.display import Math


class Table:
    """Rows of one shape, shown as HTML where a browser looks on and as aligned text elsewhere."""

    def __init__(self, rows: Iterable[Mapping[str, object]]) -> None:
        rows = _of_one_shape(rows)
        self.columns = list(rows[0])
        self.cells = [[_text(value) for value in row.values()] for row in rows]
        self.numeric = [all(_is_number(row[name]) for row in rows) for name in self.columns]

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col">{escape(name)}</th>' for name in self.columns)
        body = "".join(f"<tr>{self._html_row(row)}</tr>" for row in self.cells)
        return (
            f'<table class="book-table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        )

    def _html_row(self, row: list[str]) -> str:
        return "".join(
            f'<td style="text-align: {"right" if numeric else "left"}">{escape(cell)}</td>'
            for cell, numeric in zip(row, self.numeric, strict=True)
        )

    def __repr__(self) -> str:
        lines = [self.columns, *self.cells]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(self._text_row(line, widths) for line in lines)

    def _text_row(self, line: list[str], widths: list[int]) -> str:
        cells = (
            cell.rjust(width) if numeric else cell.ljust(width)
            for cell, width, numeric in zip(line, widths, self.numeric, strict=True)
        )
        return "  ".join(cells).rstrip()


def table(rows: Iterable[Mapping[str, object]]) -> Table:
    """A table of `rows`, each a mapping from column name to value; numbers to 4 digits.

    Raises `ValueError` when there is no row, or when two rows name different columns.
    """
    return Table(rows)


def claims_table(claims: Iterable[tuple[str, str, str]]) -> Table:
    """What a source says, by section, and what comes out when it is counted again."""
    names = ("section", "it says", "counted again")
    return Table(dict(zip(names, claim, strict=True)) for claim in claims)


def formula_table(rows: Iterable[Mapping[str, str | sympy.Expr]]) -> Math:
    """A table of formulas, typeset: strings are words, SymPy expressions formulas, factored."""
    rows = _of_one_shape(rows)
    lines = [rows[0], *(row.values() for row in rows)]
    cells = [" & ".join(map(_latex, line)) for line in lines]
    head, body = cells[0], r" \\[4pt] ".join(cells[1:])
    columns = "l" * len(rows[0])
    return Math(rf"\begin{{array}}{{{columns}}} {head} \\ \hline {body} \end{{array}}")


def _of_one_shape(rows: Iterable[Mapping[str, object]]) -> list[Mapping[str, object]]:
    """The rows as a list, which has at least one and the same columns in each."""
    rows = list(rows)
    if not rows:
        raise ValueError("a table needs at least one row, got none")
    columns = list(rows[0])
    for number, row in enumerate(rows, start=1):
        if list(row) != columns:
            raise ValueError(f"row {number} has {list(row)}, expected {columns}")
    return rows


def _latex(cell: str | sympy.Expr) -> str:
    return rf"\text{{{cell}}}" if isinstance(cell, str) else sympy.latex(sympy.factor(cell))


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _text(value: object) -> str:
    if not _is_number(value):
        return str(value)
    if isinstance(value, Integral):
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
