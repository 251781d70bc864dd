"""The choices a figure offers: one list of values for each parameter, and a first choice."""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

MAX_FRAMES = 96

Choice = dict[str, Any]


@dataclass(frozen=True)
class Grid:
    """The values of each parameter, in the order of the sliders, and the choice shown first."""

    values: Mapping[str, tuple[Any, ...]]
    default: Choice

    def __len__(self) -> int:
        return math.prod(len(values) for values in self.values.values())

    def __iter__(self) -> Iterator[Choice]:
        """Every choice; the last parameter changes fastest."""
        for combination in itertools.product(*self.values.values()):
            yield dict(zip(self.values, combination, strict=True))

    def positions(self) -> dict[str, int]:
        """Where the default stands in the values of each parameter."""
        return {name: values.index(self.default[name]) for name, values in self.values.items()}

    def sizes(self) -> str:
        """What each parameter contributes: `seq_len 8 × batch 12 = 96 frames`."""
        factors = " × ".join(f"{name} {len(values)}" for name, values in self.values.items())
        return f"{factors} = {len(self)} frames"


def make_grid(parameters: Mapping[str, Iterable[Any]], default: Mapping[str, Any] | None) -> Grid:
    """Check the values and the first choice, in which a parameter has its first value by default.

    Raises `ValueError` if there is no parameter; if one is empty, repeats a value or is no list; if
    the default names an unknown parameter or value; for more than `MAX_FRAMES` combinations.
    """
    if not parameters:
        raise ValueError("explore needs at least one parameter, such as batch=[1, 8, 64]")
    if not isinstance(default, Mapping | None):
        raise ValueError(f"default must map names to values, got {default!r}")
    values = {name: _check_values(name, given) for name, given in parameters.items()}
    grid = Grid(values, _check_default(values, default or {}))
    if len(grid) > MAX_FRAMES:
        raise ValueError(
            f"explore draws at most {MAX_FRAMES} frames, but {grid.sizes()}: "
            "give a parameter fewer values, or split the figure in two"
        )
    return grid


def choice_text(choice: Mapping[str, Any]) -> str:
    """A choice as it would be written in a call: `seq_len=128, device='H100'`."""
    return ", ".join(f"{name}={value!r}" for name, value in choice.items())


def value_label(value: Any) -> str:
    """A value as a slider shows it: numbers with their thousands apart, `16,384`."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        return str(value)
    return f"{value:,}".removesuffix(".0")


def _check_values(name: str, given: Iterable[Any]) -> tuple[Any, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ValueError(f"{name} must be a list of values to choose from, got {given!r}")
    values = tuple(given)
    if not values:
        raise ValueError(f"{name} is empty: give it at least one value")
    labels = [value_label(value) for value in values]
    repeated = sorted({label for label in labels if labels.count(label) > 1})
    if repeated:
        raise ValueError(f"{name} must not repeat a value, but has {', '.join(repeated)} twice")
    return values


def _check_default(values: Mapping[str, tuple[Any, ...]], default: Mapping[str, Any]) -> Choice:
    for name, value in default.items():
        if name not in values:
            raise ValueError(f"default names {name!r}, but the parameters are {', '.join(values)}")
        if value not in values[name]:
            allowed = ", ".join(repr(each) for each in values[name])
            raise ValueError(f"the default {name}={value!r} is not one of its values: {allowed}")
    return {name: default.get(name, each[0]) for name, each in values.items()}
