"""A figure with sliders, with a kernel and without one."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

from IPython.display import display

from lib.show.author import Describe, Plot
from lib.show.fragment import static_output
from lib.show.grid import make_grid


def explore(
    plot: Plot,
    *,
    alt: str,
    describe: Describe,
    default: Mapping[str, Any] | None = None,
    **parameters: Iterable[Any],
) -> None:
    """Show `plot` with a slider for each parameter.

        explore(plot, alt="Roofline of an H100.", describe=sentence, batch=[1, 8, 64, 512])

    `plot(**choice)` returns a matplotlib figure, `describe(**choice)` one sentence that says what
    is to be seen there: it stands below the figure and ends its text alternative, which begins with
    `alt`. Parameters are lists of numbers or strings; `default` is the choice shown first, as a
    mapping from name to value, and the first value of each parameter that it leaves out.

    With a kernel the sliders are widgets and call `plot` again. Under `BOOK_STATIC=1` every
    combination is drawn beforehand and the sliders work on the page alone.

    Raises `ValueError` for an empty text, for what `make_grid` refuses, for a `plot` or `describe`
    that fails (the message names the choice), and for frames that pack into too many bytes.
    """
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError(f"alt must say in words what the figure shows, got {alt!r}")
    for name, function in (("plot", plot), ("describe", describe)):
        if not callable(function):
            raise ValueError(f"{name} must be a function of the parameters, got {function!r}")
    alt, grid = " ".join(alt.split()), make_grid(parameters, default)
    if os.environ.get("BOOK_STATIC") == "1":
        display(static_output(grid, plot, describe, alt), raw=True)
    else:
        from lib.show.live import LiveFigure

        LiveFigure(grid, plot, describe, alt).show()
