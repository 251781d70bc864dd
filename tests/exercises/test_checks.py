"""The parts that hidden tests are made of."""

import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import sympy
import torch

from exercises import course
from exercises.checks import Case, Draw, Sum, check, check_refuses
from tests.exercises.mutants.task2_memory_arithmetic_intensity import AGREEABLE, EVERYTHING


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_SECRET", "of these tests")


def area(draw: Draw) -> Case:
    width, height = draw.size(), draw.size()
    return Case(
        inputs={"width": width, "height": height},
        expected=width * height,
        mistakes={"the sides are added": width + height},
    )


def parcel(draw: Draw) -> Case:
    sizes = {name: draw.size() for name in ("width", "height", "depth")}
    w, h, d = sizes.values()
    faces = {"the top": w * d, "the front": w * h, "the side": h * d}
    return Case(
        inputs={**sizes, "unit": draw.one_of("cm", "m")},
        expected={"surface": sum(faces.values()), "name": "box"},
        sums={"surface": Sum(faces, {"the volume": w * h * d}, factors={"it is doubled": 2})},
    )


def message(function: Callable, case: Callable[[Draw], Case] = area) -> str:
    with pytest.raises(AssertionError) as caught:
        check(function, "answer", case)
    return str(caught.value)


def made(source: str, name: str) -> object:
    namespace: dict = {}
    exec(source, namespace)
    return namespace[name]


def test_right_answers_pass() -> None:
    check(lambda width, height: width * height, "answer", area)
    check(lambda width, height: float(width * height), "answer", area)
    check(lambda width, height: np.float64(width * height), "answer", area)


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (None, "a `return` missing"),
        (True, "of type bool"),
        ("12", "of type str"),
        (math.nan, "nan. A finite number"),
        (math.inf, "inf. A finite number"),
        (-math.inf, "inf. A finite number"),
        (10**5000, "A finite number"),
        (1j, "of type complex"),
        ([12], "of type list"),
        ((12,), "of type tuple"),
        ({"area": 12}, "of type dict"),
        (Fraction(12), "float(...)"),
        (np.int64(12), "float(...)"),
        (np.array([12]), "float(...)"),
        (torch.tensor(12), "float(...)"),
        (torch.tensor(math.nan), "float(...)"),
        (sympy.Integer(12), "float(...)"),
        (made(EVERYTHING, "Everything")(), "Everything"),
        (made(AGREEABLE, "Agreeable")(12.5), "expected"),
    ],
    ids=lambda value: value if type(value) is str else type(value).__name__,
)
def test_other_types_fail_with_a_reason(answer: object, wanted: str) -> None:
    assert wanted in message(lambda width, height: answer)


def test_an_object_that_cannot_be_printed() -> None:
    class Silent:
        def __repr__(self) -> str:
            raise RuntimeError

    assert "Silent" in message(lambda width, height: Silent())


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ({"surface": 3}, "lacks 'name'"),
        ({"surface": 3, "name": "box", "colour": 1}, "has 'colour', which nobody asked for"),
        ({"surface": 3, "name": 7}, "'name': 7, of type int. A string is expected"),
        ({"surface": None, "name": "box"}, "'surface': None"),
        ([], "A dictionary with 'surface', 'name' is expected"),
    ],
)
def test_other_dictionaries_fail_with_a_reason(answer: object, wanted: str) -> None:
    assert wanted in message(lambda **sizes: answer, parcel)


@pytest.mark.parametrize(
    ("surface", "wanted"),
    [
        (lambda w, h, d: w * d + w * h, "leaves out the side"),
        (lambda w, h, d: w * d, "leaves out the front and the side"),
        (lambda w, h, d: 2 * w * d + w * h + h * d, "counts twice the top"),
        (lambda w, h, d: w * d + w * h + h * d + w * h * d, "also counts the volume"),
        (lambda w, h, d: 2 * (w * d + w * h + h * d), "it is doubled"),
        (lambda w, h, d: 2 * (w * d + h * d), "leaves out the front; it is doubled"),
        (lambda w, h, d: w * h * d, "it counts the volume in the place of the top"),
        (lambda w, h, d: w * w + w * h + h * d, "in the top, width stands where depth belongs"),
        (lambda w, h, d: w + w * h + h * d, "in the top, depth is missing"),
        (lambda w, h, d: 7 * (w * d + w * h + h * d), "7 times what is expected"),
        (lambda w, h, d: w + h + d, "differs from what is expected"),
    ],
)
def test_diagnosis_of_a_sum(surface: Callable, wanted: str) -> None:
    def answer(width: int, height: int, depth: int, unit: str) -> dict:
        return {"surface": surface(width, height, depth), "name": "box"}

    assert wanted in message(answer, parcel)


def test_a_known_mistake_is_named_with_a_call_that_shows_it() -> None:
    text = message(lambda width, height: width + height)
    first = area(Draw("of these tests/answer", 0)).inputs
    assert "the sides are added" in text
    assert f"answer(width={first['width']}, height={first['height']})" in text


def test_a_mistake_that_explains_only_some_calls_is_not_named() -> None:
    calls = iter(range(100))
    text = message(lambda width, height: width + height + (next(calls) > 5))
    assert "the sides are added" not in text


def test_what_failing_calls_have_in_common() -> None:
    def answer(width: int, height: int, depth: int, unit: str) -> dict:
        wrong = unit == "m"
        return {
            "surface": width * depth + width * height + height * depth + wrong, "name": "box",
        }  # fmt: skip

    assert "always with unit='m'" in message(answer, parcel)


def test_a_crash_is_reported_with_the_call() -> None:
    def answer(width: int, height: int) -> float:
        return width / 0

    text = message(answer)
    assert text.startswith("answer raised ZeroDivisionError: division by zero\n    answer(width=")


def test_unwritten_functions_stay_unwritten() -> None:
    def answer(**sizes: int) -> None:
        raise NotImplementedError("still to be written")

    with pytest.raises(NotImplementedError):
        check(answer, "answer", area)
    with pytest.raises(NotImplementedError):
        check_refuses(answer, "answer", {}, "")


def test_inputs_are_copies() -> None:
    """A student who empties the list does not empty it for the report and the next test."""

    def case(draw: Draw) -> Case:
        return Case(inputs={"some": [1, 2, 3]}, expected=6)

    def emptied(some: list[int]) -> int:
        return sum(some.pop() for _ in range(len(some)))

    check(emptied, "emptied", case)
    check(emptied, "emptied", case)


def test_refusals() -> None:
    def picky(mode: str) -> str:
        if mode == "bad":
            raise ValueError(mode)
        return {"good": "fine"}[mode]

    check_refuses(picky, "picky", {"mode": "bad"}, "It must refuse.")
    with pytest.raises(AssertionError, match=r"gave 'fine' without complaint\. It must"):
        check_refuses(picky, "picky", {"mode": "good"}, "It must refuse.")
    with pytest.raises(AssertionError, match=r"raised KeyError: 'other'\. It must"):
        check_refuses(picky, "picky", {"mode": "other"}, "It must refuse.")


def test_inputs_depend_on_the_secret_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def inputs() -> list:
        seen: list = []
        check(lambda width, height: seen.append(width) or width * height, "answer", area)
        return seen

    first = inputs()
    assert inputs() == first
    monkeypatch.setenv("COURSE_SECRET", "another one")
    assert inputs() != first


def test_secret_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("COURSE_SECRET")
    monkeypatch.setattr(course, "SECRET_FILE", tmp_path / "course_secret")
    made_now = course.course_secret()
    assert len(made_now) == 32
    assert course.course_secret() == made_now
    assert (tmp_path / "course_secret").stat().st_mode & 0o077 == 0
    assert [path.name for path in tmp_path.iterdir()] == ["course_secret"]
    (tmp_path / "course_secret").write_text(" \n")
    with pytest.raises(ValueError, match="is empty: a secret of a few random words was expected"):
        course.course_secret()


def test_two_processes_make_one_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The second one keeps what the first one has just written."""
    path = tmp_path / "course_secret"
    path.write_text("the first\n")
    course._create(path)
    assert path.read_text() == "the first\n"
