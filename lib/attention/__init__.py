"""Attention: every variant of it that the book knows, each in one file."""

from lib.attention.attend import attend, attend_loop, drop_weights, masked_softmax
from lib.attention.dot_product import scaled_dot_product_attention
from lib.attention.scores import dot_scores, scaled_dot_scores

__all__ = [
    "attend",
    "attend_loop",
    "dot_scores",
    "drop_weights",
    "masked_softmax",
    "scaled_dot_product_attention",
    "scaled_dot_scores",
]
