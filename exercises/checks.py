"""What hidden tests are made of: secret random inputs and answers compared type first.

A hidden test describes one random case and hands it to `check`:

    def case(draw):
        rows, width = draw.size(), draw.size()
        return Case(
            inputs={"rows": rows, "width": width},
            expected=rows * width,
            mistakes={"it adds the sides instead of multiplying them": rows + width},
        )

    check(area, "area", case)

The student's function is only called, with numbers, strings and lists, and only what it returns
is looked at: it may live in another process. `exercises.diagnosis` says what is wrong.
"""

import copy
import math
import random
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from typing import Any

from exercises.course import course_secret
from exercises.diagnosis import Answer, Case, Sum, Trial, report, shown, shown_call

__all__ = ["Case", "Draw", "Sum", "check", "check_refuses"]

DRAWS = 24
LARGEST = 1e300


class Draw:
    """One draw of random inputs: the same for the same seed and index."""

    def __init__(self, seed: str, index: int) -> None:
        self.index = index
        self._random = random.Random(f"{seed}/{index}")

    def size(self, low: int = 2, high: int = 200) -> int:
        """A whole number between `low` and `high`, both included."""
        return self._random.randint(low, high)

    def spread(self, low: float, high: float) -> float:
        """A number between two positive ones, each order of magnitude as likely as the others."""
        return math.exp(self._random.uniform(math.log(low), math.log(high)))

    def one_of(self, *choices: Any) -> Any:
        """One of the choices; the first `len(choices)` draws take them in turn."""
        return choices[self.index] if self.index < len(choices) else self._random.choice(choices)

    def chance(self) -> float:
        """A number between 0 and 1."""
        return self._random.random()


def check(
    function: Callable, name: str, make_case: Callable[[Draw], Case], draws: int = DRAWS
) -> None:
    """Call a student's function on random cases; raise `AssertionError` that says what is wrong."""
    cases = _cases(make_case, name, draws, course_secret())
    calls = zip(cases, _calls(function, cases), strict=True)
    trials = [Trial(name, case, _answer(call, name, case)) for case, call in calls]
    if not all(trial.all_right() for trial in trials):
        raise AssertionError(report(trials))


@cache
def _cases(make_case: Callable[[Draw], Case], name: str, draws: int, secret: str) -> list[Case]:
    return [make_case(Draw(f"{secret}/{name}", index)) for index in range(draws)]


def check_refuses(function: Callable, name: str, inputs: Mapping[str, Any], expected: str) -> None:
    """Raise `AssertionError` unless the function raises `ValueError` for these inputs."""
    call = shown_call(name, inputs)
    try:
        answer = function(**inputs)
    except ValueError:
        return
    except NotImplementedError:
        raise
    except Exception as error:
        raised = f"{name} raised {type(error).__name__}: {error}. {expected}"
        raise AssertionError(f"{raised}\n{call}") from error
    raise AssertionError(f"{name} gave {shown(answer)} without complaint. {expected}\n{call}")


def _calls(function: Callable, cases: list[Case]) -> Iterator[Callable[[], Any]]:
    """A call for each case. One in another process is made for all of them together."""
    together = getattr(type(function), "call_each", None)
    if together:
        yield from together(function, [case.inputs for case in cases])
        return
    for case in cases:
        yield partial(function, **copy.deepcopy(case.inputs))


def _answer(call: Callable[[], Any], name: str, case: Case) -> dict[str, Any]:
    """The student's answer, flattened, every entry of the type that is expected."""
    try:
        answer = call()
    except NotImplementedError:
        raise
    except Exception as error:
        raised = f"{name} raised {type(error).__name__}: {error}"
        raise AssertionError(f"{raised}\n{shown_call(name, case.inputs)}") from error
    largest = math.inf if case.may_be_infinite else LARGEST
    entries: dict[str, Any] = {}
    try:
        _take(answer, case.expected, "", largest, entries)
    except _OtherTypeError as error:
        raise AssertionError(f"{name} gave {error}\n{shown_call(name, case.inputs)}") from None
    return entries


class _OtherTypeError(TypeError):
    """An answer of another type than the expected one."""


def _take(answer: Any, expected: Answer, entry: str, largest: float, into: dict) -> None:
    """Put the plain content of an answer, entry by entry, into a dictionary.

    Raises where a type is another one. `type(answer)`, not `isinstance`: an object can lie about
    its `__class__`. The content is taken with the methods of the plain types: an object can bring
    its own `__eq__`.
    """
    kind = type(answer)
    if isinstance(expected, dict):
        if not issubclass(kind, dict):
            keys = ", ".join(map(repr, expected))
            raise _other_type(answer, entry, f"A dictionary with {keys}")
        entries = dict(dict.items(answer))
        _check_keys(entries, expected, _place(entry))
        for key, value in expected.items():
            _take(entries[key], value, f"{entry}.{key}" if entry else key, largest, into)
    elif isinstance(expected, str):
        if not issubclass(kind, str):
            raise _other_type(answer, entry, "A string")
        into[entry] = str.__str__(answer)
    else:
        if kind is bool or not issubclass(kind, int | float):
            raise _other_type(answer, entry, "A Python int or float")
        number = int.__int__(answer) if issubclass(kind, int) else float.__float__(answer)
        if not abs(number) <= largest or LARGEST < abs(number) < math.inf:
            raise _OtherTypeError(f"{_place(entry)}{shown(number)}. A finite number is expected.")
        into[entry] = number


def _place(entry: str) -> str:
    return f"{entry!r}: " if entry else ""


def _other_type(answer: Any, entry: str, wanted: str) -> _OtherTypeError:
    return _OtherTypeError(f"{_place(entry)}{_described(answer)}. {wanted} is expected.")


def _check_keys(entries: dict, expected: dict, place: str) -> None:
    missing = [shown(key) for key in expected if key not in entries]
    extra = [shown(key) for key in entries if key not in expected]
    lacks = [f"lacks {', '.join(missing)}"] if missing else []
    has = [f"has {', '.join(extra)}, which nobody asked for"] if extra else []
    if lacks or has:
        raise _OtherTypeError(f"{place}a dictionary that {' and '.join(lacks + has)}.")


def _described(answer: Any) -> str:
    """An answer of the wrong type, with a hint where the usual reason is known."""
    if answer is None:
        return "None (is a `return` missing?)"
    kind = f"{type(answer).__module__}.{type(answer).__qualname__}".removeprefix("builtins.")
    known = kind.startswith(("numpy.", "torch.", "sympy.", "fractions.", "decimal."))
    advice = ": turn it into a plain number with int(...) or float(...)" if known else ""
    return f"{shown(answer)}, of type {kind}{advice}"
