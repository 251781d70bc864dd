"""The cost of an operation: what it computes and what it moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sympy

from lib.memory.sizes import Number, check_not_negative

if TYPE_CHECKING:
    from lib.memory.devices import Device


@dataclass(frozen=True)
class Cost:
    """FLOPs computed, bytes read from and bytes written to global memory.

    One multiply-add is 2 FLOPs. Costs add, and scale by a number of repetitions:
    `3 * linear(...)` is three such maps, `sum([q, k, v])` their total.

    The three fields are numbers, 0 or more, or SymPy expressions; anything else, and a cost that is
    scaled by a negative number, raises `ValueError`.
    """

    flops: Number
    bytes_read: Number
    bytes_written: Number

    def __post_init__(self) -> None:
        check_not_negative(**vars(self))

    @property
    def bytes(self) -> Number:
        """Bytes moved in both directions."""
        return self.bytes_read + self.bytes_written

    @property
    def intensity(self) -> float | sympy.Expr:
        """Arithmetic intensity in FLOPs per byte moved; a formula when the sizes are symbols.

        Raises `ValueError` for a cost that moves nothing.
        """
        if self.bytes == 0:
            raise ValueError("a cost that moves no bytes has no arithmetic intensity")
        ratio = self.flops / self.bytes
        return sympy.factor(ratio) if isinstance(ratio, sympy.Expr) else ratio

    def time(self, device: Device, dtype: str = "bfloat16") -> float | sympy.Expr:
        """Seconds on `device` by the roofline model: computing or moving, whichever takes longer.

        Computing and moving are assumed to overlap perfectly (Williams et al., 2009).
        """
        computing = self.flops / device.peak(dtype)
        moving = self.bytes / device.bandwidth
        if isinstance(computing + moving, sympy.Expr):
            return sympy.Max(computing, moving)
        return max(computing, moving)

    def bound(self, device: Device, dtype: str = "bfloat16") -> str:
        """`"compute"` or `"memory"`: which of the two takes longer on `device`.

        Raises `ValueError` for a cost in symbols: put numbers in with `subs` first.
        """
        computing = self.flops / device.peak(dtype)
        moving = self.bytes / device.bandwidth
        symbols = getattr(computing + moving, "free_symbols", ())
        if symbols:
            names = ", ".join(sorted(map(str, symbols)))
            raise ValueError(f"the cost has the symbols {names}: put numbers in with .subs first")
        return "compute" if computing >= moving else "memory"

    def subs(self, values: Mapping[sympy.Symbol, Number]) -> Cost:
        """The same cost with numbers in the place of symbols."""
        return Cost(*(_number(sympy.sympify(part).subs(values)) for part in self._parts))

    def __add__(self, other: Cost) -> Cost:
        if not isinstance(other, Cost):
            return NotImplemented
        return Cost(*(mine + its for mine, its in zip(self._parts, other._parts, strict=True)))

    def __radd__(self, start: int) -> Cost:
        """Let `sum(costs)` begin at its usual 0."""
        return self if start == 0 else NotImplemented

    def __mul__(self, times: Number) -> Cost:
        if isinstance(times, Cost):
            return NotImplemented
        return Cost(*(times * part for part in self._parts))

    __rmul__ = __mul__

    @property
    def _parts(self) -> tuple[Number, Number, Number]:
        return self.flops, self.bytes_read, self.bytes_written


def _number(expression: sympy.Expr) -> Number:
    """A Python number where no symbol is left, the expression where one is."""
    if expression.free_symbols:
        return expression
    return int(expression) if expression.is_integer else float(expression)
