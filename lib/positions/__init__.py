"""Positions: how attention, which by itself sees a set, learns of an order.

Added to the inputs: `sinusoidal`, `learned`. In the scores, of pairs of tokens: `shaw`,
`transformer_xl`, `t5_buckets`, `alibi`. Applied to queries and keys: `rope`. Where a scheme takes
`queries` and `keys`, the last query stands at the last key, as in `lib.masks`.
"""

from lib.positions.alibi import alibi_bias, alibi_slopes
from lib.positions.learned import LearnedPositions
from lib.positions.rope import apply_rotary, ntk_base, rotary_permutation, rotary_table
from lib.positions.shaw import (
    ShawPositions,
    clipped_distances,
    shaw_scores,
    shaw_scores_loop,
    shaw_values,
    shaw_values_loop,
)
from lib.positions.sinusoidal import angular_frequencies, shift_matrix, sinusoidal_table
from lib.positions.t5_buckets import T5RelativeBias, t5_bucket
from lib.positions.transformer_xl import (
    TransformerXLPositions,
    relative_shift,
    transformer_xl_scores,
    transformer_xl_scores_loop,
)

__all__ = [
    "LearnedPositions",
    "ShawPositions",
    "T5RelativeBias",
    "TransformerXLPositions",
    "alibi_bias",
    "alibi_slopes",
    "angular_frequencies",
    "apply_rotary",
    "clipped_distances",
    "ntk_base",
    "relative_shift",
    "rotary_permutation",
    "rotary_table",
    "shaw_scores",
    "shaw_scores_loop",
    "shaw_values",
    "shaw_values_loop",
    "shift_matrix",
    "sinusoidal_table",
    "t5_bucket",
    "transformer_xl_scores",
    "transformer_xl_scores_loop",
]
