"""A figure with sliders while a kernel is there: ipywidgets' core controls only."""

import traceback

import ipywidgets as widgets
from IPython.display import display
from matplotlib import pyplot

from lib.show.author import Describe, Plot, draw, sentence
from lib.show.fragment import picture_html, read, status_html
from lib.show.grid import Choice, Grid, value_label
from lib.show.image import as_svg, size_in_pixels


class LiveFigure:
    """Sliders, a picture that follows them, and a place for the errors of `plot`."""

    def __init__(self, grid: Grid, plot: Plot, describe: Describe, alt: str) -> None:
        self.plot, self.describe, self.alt = plot, describe, alt
        self.sliders = {name: _slider(name, grid) for name in grid.values}
        self.picture = widgets.HTML()
        self.errors = widgets.Output()
        for slider in self.sliders.values():
            slider.observe(self.redraw, names="value")
        self.box = widgets.VBox([*self.sliders.values(), self.picture, self.errors])

    @property
    def choice(self) -> Choice:
        """What the sliders say now."""
        return {name: slider.value for name, slider in self.sliders.items()}

    def show(self) -> None:
        """Display the sliders, then draw: a slow `plot` does not hold them back."""
        display(self.box)
        self.redraw()

    def redraw(self, change: object = None) -> None:
        """Draw the picture of the present choice, or show why it cannot be drawn."""
        self.errors.outputs = ()
        try:
            self.picture.value = self._html()
        except ValueError as error:
            self.picture.value = ""
            trace = traceback.format_exception(error.__cause__ or error)
            self.errors.append_stderr(f"{error}\n\n{''.join(trace)}")

    def _html(self) -> str:
        text = sentence(self.describe, self.choice)
        figure = draw(self.plot, self.choice)
        pyplot.close(figure)
        picture = picture_html(as_svg(figure), size_in_pixels(figure), f"{self.alt} {text}")
        style = f"<style>{read('fragment.css')}</style>"
        return f'<div class="explore">{style}{picture}{status_html(text, text)}</div>'


def _slider(name: str, grid: Grid) -> widgets.SelectionSlider:
    return widgets.SelectionSlider(
        options=[(value_label(value), value) for value in grid.values[name]],
        value=grid.default[name],
        description=name.replace("_", " "),
        style={"description_width": "8rem"},
        layout={"width": "100%", "max_width": "40rem"},
    )
