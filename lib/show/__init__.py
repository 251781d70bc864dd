"""Figures: one look, the book's plots, and `explore`, which gives any plot sliders.

Read in this order: `format`, `style`, `image`; the plots `roofline`, `ladder`, `bars`, `tiles`,
`lines`, `ratios`, `heatmap`, `slots`, and `table`; `explore` and what it is made of, `grid`,
`author`, `live`, `packing`, `fragment`. Everything here draws what it is given.
"""

from lib.show.bars import draw_stacked_bars
from lib.show.explore import explore
from lib.show.format import format_bytes, format_flops, format_si, format_time
from lib.show.heatmap import draw_mask, draw_weights
from lib.show.ladder import draw_ladder
from lib.show.lines import draw_lines
from lib.show.ratios import draw_ratios
from lib.show.roofline import draw_roofline
from lib.show.slots import draw_slots
from lib.show.style import book_style, log_axis, new_figure, place_axes
from lib.show.table import claims_table, formula_table, table
from lib.show.tiles import draw_tiles

__all__ = [
    "book_style",
    "claims_table",
    "draw_ladder",
    "draw_lines",
    "draw_mask",
    "draw_ratios",
    "draw_roofline",
    "draw_slots",
    "draw_stacked_bars",
    "draw_tiles",
    "draw_weights",
    "explore",
    "format_bytes",
    "format_flops",
    "format_si",
    "format_time",
    "formula_table",
    "log_axis",
    "new_figure",
    "place_axes",
    "table",
]
