"""What the author of a figure gives: a picture and a sentence for every choice."""

from collections.abc import Callable
from typing import Any

from matplotlib.figure import Figure

from lib.show.grid import Choice, choice_text

Plot = Callable[..., Figure]
Describe = Callable[..., str]


def draw(plot: Plot, choice: Choice) -> Figure:
    """The figure for a choice. `ValueError` naming the choice if `plot` raises or returns none."""
    figure = _call("plot", plot, choice)
    if not isinstance(figure, Figure):
        raise ValueError(
            f"plot must return a matplotlib Figure, but for {choice_text(choice)} "
            f"it returned {figure!r}"
        )
    return figure


def sentence(describe: Describe, choice: Choice) -> str:
    """The sentence for a choice. `ValueError` naming the choice if there is none."""
    text = _call("describe", describe, choice)
    if not isinstance(text, str) or not text.strip():
        raise ValueError(
            f"describe must return a sentence, but for {choice_text(choice)} it returned {text!r}"
        )
    return " ".join(text.split())


def _call(name: str, function: Callable[..., Any], choice: Choice) -> Any:
    try:
        return function(**choice)
    except Exception as error:
        raise ValueError(
            f"{name} raised {type(error).__name__} for {choice_text(choice)}: {error}"
        ) from error
