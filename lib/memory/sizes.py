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
        if isinstance(size, sympy.Expr):
            valid = _can_be(size, size.is_integer, size.is_positive)
        else:
            valid = type(size) is int and size > 0
        if not valid:
            raise ValueError(
                f"{name} must be a positive whole number or a SymPy expression, got {size!r}"
            )


def check_positive(**quantities: Number) -> None:
    """Raise `ValueError` unless every quantity is a number above zero or a SymPy expression.

    For what need not be whole: seconds, rates, bytes per element (an int4 weight has half a byte).
    """
    for name, quantity in quantities.items():
        if isinstance(quantity, sympy.Expr):
            valid = _can_be(quantity, quantity.is_positive)
        else:
            valid = _is_number(quantity) and quantity > 0
        if not valid:
            raise ValueError(f"{name} must be a number above zero, got {quantity!r}")


def check_not_negative(**quantities: Number) -> None:
    """Raise `ValueError` unless every quantity is a number, 0 or more, or a SymPy expression."""
    for name, quantity in quantities.items():
        if isinstance(quantity, sympy.Expr):
            valid = _can_be(quantity, quantity.is_nonnegative)
        else:
            valid = _is_number(quantity) and quantity >= 0
        if not valid:
            raise ValueError(f"{name} must be a number, 0 or more, got {quantity!r}")


def check_divides(divisor_name: str, divisor: Size, dividend_name: str, dividend: Size) -> None:
    """Raise `ValueError` unless `divisor` divides `dividend`. Symbols are taken at their word."""
    if type(divisor) is int and type(dividend) is int and dividend % divisor:
        raise ValueError(
            f"{divisor_name} must divide {dividend_name}, "
            f"but {dividend} / {divisor} leaves {dividend % divisor}"
        )


def exact(number: Number) -> Fraction | sympy.Expr:
    """A number as the fraction that it is; an expression with symbols as it is.

    So that rounding a result up or down does not round the error of a float.
    """
    if isinstance(number, sympy.Rational):
        return Fraction(number.p, number.q)
    return number if isinstance(number, sympy.Expr) else Fraction(number)


def quotient(dividend: Number, divisor: Size) -> Number:
    """dividend / divisor without rounding: a whole number, else a fraction; with symbols a formula.

    A dividend that is a float stays one.
    """
    if isinstance(dividend, float | sympy.Expr) or isinstance(divisor, sympy.Expr):
        return dividend / divisor
    ratio = Fraction(dividend) / divisor
    return int(ratio) if ratio.denominator == 1 else ratio


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | Fraction) and not isinstance(value, bool)


def _can_be(expression: sympy.Expr, *facts: bool | None) -> bool:
    """Whether the facts hold for a number, and are not ruled out for a formula (None: unknown)."""
    return all(facts) if expression.is_number else False not in facts
