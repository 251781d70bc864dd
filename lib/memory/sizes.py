"""What counts as a size: a positive whole number, or a SymPy expression that stands for one.

Every formula of `lib.memory` takes either. With numbers it answers a question about one model;
with symbols it prints the formula that the exercises ask for, and SymPy takes the limits.
"""

from fractions import Fraction

import sympy

Size = int | sympy.Expr
Number = int | float | Fraction | sympy.Expr


def check_sizes(**sizes: Number) -> None:
    """Raise `ValueError` unless every size is a positive whole number or a SymPy expression."""
    for name, size in sizes.items():
        if not _is_symbolic(size) and (type(size) is not int or size < 1):
            raise ValueError(
                f"{name} must be a positive whole number or a SymPy expression, got {size!r}"
            )
        _check_sign(name, size)


def check_positive(**quantities: Number) -> None:
    """Raise `ValueError` unless every quantity is a number above zero or a SymPy expression.

    For what need not be whole: seconds, rates, bytes per element (an int4 weight has half a byte).
    """
    for name, quantity in quantities.items():
        number = isinstance(quantity, int | float | Fraction) and not isinstance(quantity, bool)
        if not _is_symbolic(quantity) and not (number and quantity > 0):
            raise ValueError(f"{name} must be a number above zero, got {quantity!r}")
        _check_sign(name, quantity)


def check_divides(divisor_name: str, divisor: Size, dividend_name: str, dividend: Size) -> None:
    """Raise `ValueError` unless `divisor` divides `dividend`. Symbols are taken at their word."""
    if type(divisor) is int and type(dividend) is int and dividend % divisor:
        raise ValueError(
            f"{divisor_name} must divide {dividend_name}, "
            f"but {dividend} / {divisor} leaves {dividend % divisor}"
        )


def _is_symbolic(value: object) -> bool:
    return isinstance(value, sympy.Expr)


def _check_sign(name: str, value: Number) -> None:
    if _is_symbolic(value) and value.is_positive is False:
        raise ValueError(f"{name} must be positive, but the expression {value} is not")
