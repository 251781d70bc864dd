"""From wrong numbers to the mistake behind them, in words.

A diagnosis must hold in every call: one that explains some of the wrong answers is a coincidence.
"""

import itertools
import math
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from reprlib import Repr
from typing import Any

Number = int | float
Answer = Any  # a number, a string, or a dictionary of such

TOLERANCE = 1e-9
PROBLEMS_SHOWN = 4


@dataclass(frozen=True)
class Sum:
    """How a number comes about, so that a wrong one can be taken apart.

    The number is the sum of `parts`, or `dividend` over that sum where there is a dividend.
    `strangers` are what students add by mistake; `factors` maps a sentence to the factor by which
    the answer is then too large.
    """

    parts: Mapping[str, Number]
    strangers: Mapping[str, Number] = field(default_factory=dict)
    dividend: Number | None = None
    factors: Mapping[str, Number] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One call of a student's function, what it should return, and what mistakes would give.

    `sums` maps an entry of the answer to how it comes about, `mistakes` a sentence to the answer
    that the mistake leads to; such an answer may leave entries out. An entry of a nested
    dictionary is named `outer.inner`, an answer that is no dictionary ``""``.
    """

    inputs: Mapping[str, Any]
    expected: Answer
    sums: Mapping[str, Sum] = field(default_factory=dict)
    mistakes: Mapping[str, Answer] = field(default_factory=dict)

    @cached_property
    def entries(self) -> dict[str, Any]:
        """The right answer, flattened."""
        return flat(self.expected)

    @cached_property
    def mistaken(self) -> dict[str, dict[str, Any]]:
        """What each mistake leads to, flattened."""
        return {text: flat(given) for text, given in self.mistakes.items()}

    @cached_property
    def may_be_infinite(self) -> bool:
        """Whether the right answer or a known mistake has an infinite entry."""
        return any(math.inf in some.values() for some in (self.entries, *self.mistaken.values()))


class Trial:
    """A case and the student's answer to it, both flattened to entries."""

    def __init__(self, name: str, case: Case, answer: dict[str, Any]) -> None:
        self.name, self.case, self.answer = name, case, answer
        self.expected, self.mistakes = case.entries, case.mistaken

    def all_right(self) -> bool:
        """Whether every entry is."""
        return self.answer == self.expected or all(map(self.right, self.expected))

    def right(self, entry: str) -> bool:
        return same(self.answer[entry], self.expected[entry])

    def fits(self, entry: str, value: Any) -> bool:
        """Whether the student's answer is this one."""
        return same(self.answer[entry], value)

    def factors(self, entry: str) -> dict[str, Number]:
        """What may have scaled the entry; the empty sentence stands for nothing."""
        made = self.case.sums.get(entry)
        return {"": 1, **(made.factors if made else {})}


def flat(answer: Answer, entry: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}; a plain value as {"": value}."""
    if not isinstance(answer, Mapping):
        return {entry: answer}
    inner = (flat(value, f"{entry}.{key}" if entry else key) for key, value in answer.items())
    return {path: value for part in inner for path, value in part.items()}


def same(answer: Number | str, expected: Number | str) -> bool:
    """Whole numbers exactly; others to nine digits: the order of operations may differ."""
    if isinstance(expected, str) or isinstance(answer, str):
        return answer == expected
    if isinstance(answer, int) and isinstance(expected, int):
        return answer == expected
    return math.isclose(answer, expected, rel_tol=TOLERANCE)


def report(trials: list[Trial]) -> str:
    """A sentence for each mistake, with a call that shows it."""
    wrong = {entry: [t for t in trials if not t.right(entry)] for entry in trials[0].expected}
    wrong = {entry: failed for entry, failed in wrong.items() if failed}
    groups: dict[str, list[str]] = {}
    for entry, failed in wrong.items():
        groups.setdefault(_diagnosis(entry, trials, failed), []).append(entry)
    problems = [_problem(text, entries, wrong) for text, entries in groups.items()]
    failures = [trial for trial in trials if any(trial in failed for failed in wrong.values())]
    count = f"{len(failures)} of {len(trials)} calls{_in_common(failures, trials)}"
    first = f"{trials[0].name} is wrong in {count}."
    return "\n".join([first, *problems[:PROBLEMS_SHOWN]])


def _in_common(failures: list[Trial], trials: list[Trial]) -> str:
    """The word that all failing calls share and not all calls have, such as mode='decode'."""
    words = [key for key, value in trials[0].case.inputs.items() if isinstance(value, str)]
    for key in words:
        mine, all_ = ({t.case.inputs[key] for t in some} for some in (failures, trials))
        if len(mine) == 1 < len(all_):
            return f", always with {key}={mine.pop()!r}"
    return ""


def _problem(text: str, entries: list[str], wrong: dict[str, list[Trial]]) -> str:
    """What is wrong with some entries, and the first call in which the first of them is."""
    entry, trial = entries[0], wrong[entries[0]][0]
    about = ", ".join(repr(entry) for entry in entries if entry) or "the answer"
    of = f" for {entry!r}" if entry else ""
    gave = f"gave {shown(trial.answer[entry])}{of}, expected {shown(trial.expected[entry])}"
    return f"- {about}: {text}\n{shown_call(trial.name, trial.case.inputs)}\n    {gave}."


def _diagnosis(entry: str, trials: list[Trial], failed: list[Trial]) -> str:
    """The simplest mistake that leads to just these answers.

    First the known mistakes of which everything fits, then what taking the number apart finds,
    then known mistakes of which this entry fits, alone or together with a factor.
    """
    known = [text for text, given in trials[0].mistakes.items() if entry in given]
    return next(
        itertools.chain(
            (_sentence(text) for text in known if _fits_wholly(text, trials)),
            _taken_apart(entry, failed),
            _known_mistakes(entry, known, trials),
            _exchanged(entry, failed),
            _compared(entry, failed),
        )
    )


def _fits_wholly(text: str, trials: list[Trial]) -> bool:
    entries = trials[0].mistakes[text]
    return all(_explains(trial, entry, text) for trial in trials for entry in entries)


def _known_mistakes(entry: str, known: list[str], trials: list[Trial]) -> Iterator[str]:
    """Mistakes that give the student's entry in every call, the right ones included."""
    for factor in trials[0].factors(entry):
        for text in known:
            if all(_explains(trial, entry, text, factor) for trial in trials):
                yield _sentence(text, factor)


def _explains(trial: Trial, entry: str, text: str, factor: str = "") -> bool:
    given = trial.mistakes[text][entry]
    scale = trial.factors(entry)[factor]
    return trial.fits(entry, given if isinstance(given, str) else given * scale)


def _taken_apart(entry: str, failed: list[Trial]) -> Iterator[str]:
    """Parts that are left out or counted twice, strangers that are counted, factors, or both."""
    if entry not in failed[0].case.sums:
        return
    made = failed[0].case.sums[entry]
    several = len(made.parts) + len(made.strangers) > 1
    times = [(1, 0, 2) if several else (1,)] * len(made.parts) + [(0, 1)] * len(made.strangers)
    choices = itertools.product(failed[0].factors(entry), itertools.product(*times))
    for factor, counts in sorted(choices, key=lambda choice: _complexity(made, *choice)):
        if all(trial.fits(entry, _remade(trial, entry, factor, counts)) for trial in failed):
            yield _sentence(_counted(made, counts), factor)


def _remade(trial: Trial, entry: str, factor: str, counts: tuple[int, ...]) -> float:
    """The answer of a student who counts each part so many times."""
    made = trial.case.sums[entry]
    values = [*made.parts.values(), *made.strangers.values()]
    total = sum(value * count for value, count in zip(values, counts, strict=True))
    scale = trial.factors(entry)[factor]
    if made.dividend is None:
        return total * scale
    return made.dividend / total * scale if total else math.nan


def _complexity(made: Sum, factor: str, counts: tuple[int, ...]) -> int:
    usual = [1] * len(made.parts) + [0] * len(made.strangers)
    return (factor != "") + sum(count != one for count, one in zip(counts, usual, strict=True))


def _counted(made: Sum, counts: tuple[int, ...]) -> str:
    """Which parts are missing, doubled or out of place, in words."""
    mine, others = counts[: len(made.parts)], counts[len(made.parts) :]
    if others and not any(mine) and all(others):
        instead, belongs = " and ".join(made.strangers), " and ".join(made.parts)
        return f"it counts {instead} in the place of {belongs}"
    parts = list(zip(made.parts, mine, strict=True))
    strangers = zip(made.strangers, others, strict=True)
    faults = [
        ("leaves out", [part for part, count in parts if count == 0]),
        ("counts twice", [part for part, count in parts if count == 2]),
        ("also counts", [stranger for stranger, count in strangers if count]),
    ]
    said = [f"{verb} {' and '.join(named)}" for verb, named in faults if named]
    subject = "it" if made.dividend is None else "the sum it divides by"
    return f"{subject} {', '.join(said)}" if said else ""


def _exchanged(entry: str, failed: list[Trial]) -> Iterator[str]:
    """One size that is missing, there twice, or in the place of another, in all or in a part."""
    inputs = failed[0].case.inputs
    sizes = sorted(name for name, size in inputs.items() if type(size) is int)
    parts = failed[0].case.sums[entry].parts if entry in failed[0].case.sums else ()
    for part in (None, *parts):
        grown = [(_growth(trial, entry, part), trial.case.inputs) for trial in failed]
        for wrong, right in itertools.permutations(["", *sizes], 2):
            if len(failed) > 1 and all(
                ratio is not None and same(ratio * given.get(right, 1), given.get(wrong, 1))
                for ratio, given in grown
            ):
                yield _exchange(wrong, right, f"in {part}, " if part and len(parts) > 1 else "")


def _growth(trial: Trial, entry: str, part: str | None) -> float | None:
    """By how much the answer, or one part of it if all others are right, is too large."""
    answer, expected = trial.answer[entry], trial.expected[entry]
    if isinstance(expected, str) or not (answer and expected) or math.isinf(expected):
        return None
    if part is None:
        return answer / expected
    made = trial.case.sums[entry]
    total = answer if made.dividend is None else made.dividend / answer
    return (total - sum(made.parts.values()) + made.parts[part]) / made.parts[part]


def _exchange(wrong: str, right: str, where: str) -> str:
    if not wrong:
        return f"{where}{right} is missing."
    if not right:
        return f"{where}{wrong} is one factor too many."
    return f"{where}{wrong} stands where {right} belongs."


def _compared(entry: str, failed: list[Trial]) -> Iterator[str]:
    """The last resort: how far off the answers are."""
    pairs = [(trial.answer[entry], trial.expected[entry]) for trial in failed]
    numbers = [(a, e) for a, e in pairs if not isinstance(e, str)]
    if numbers and all(math.isinf(a) and math.isfinite(e) for a, e in numbers):
        yield "it is infinite where a finite number is expected."
    if numbers and all(math.isfinite(a) and math.isinf(e) for a, e in numbers):
        yield "it is a finite number where math.inf is expected."
    if numbers and all(a and e and same(a * e, 1) for a, e in numbers):
        yield "it is upside down: dividend and divisor have changed places."
    ratios = {f"{a / e:.6g}" for a, e in numbers if e and math.isfinite(a / e)}
    if len(ratios) == 1 and len(numbers) == len(pairs) > 1:
        yield f"it is {ratios.pop()} times what is expected, in every wrong call."
    yield "it differs from what is expected."


def _sentence(*texts: str) -> str:
    return f"{'; '.join(filter(None, texts))}."


_repr = Repr()
_repr.maxstring = _repr.maxother = 80
_repr.maxdict, _repr.maxlong = 12, 40


def shown(value: Any) -> str:
    """A short text for any value, whatever its own `__repr__` does."""
    if type(value) is float:
        return f"{value:.10g}"
    try:
        return _repr.repr(value)
    except Exception:
        return f"an object of type {type(value).__name__}"


def shown_call(name: str, inputs: Mapping[str, Any]) -> str:
    """A call as one would type it, indented."""
    call = f"{name}({', '.join(f'{key}={shown(value)}' for key, value in inputs.items())})"
    return textwrap.fill(call, 92, initial_indent=" " * 4, subsequent_indent=" " * 8)
