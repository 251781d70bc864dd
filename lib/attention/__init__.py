"""Attention: every variant of it that the book knows, each in one file.

Read in this order: `attend`, `scores`, `dot_product`, `saturation`, `hard`; `multi_head`,
`pruning`, `latent`; `seq2seq`. Then what moves fewer bytes: `chunked`, `online_softmax`, `flash`,
`tiled`; and what computes less: `local`, `neighbours`, `sparse_tiles`, `sparse`, `linear`,
`performer`, `linformer`.
"""

from lib.attention.attend import attend, attend_loop, masked_softmax
from lib.attention.chunked import chunked_attention
from lib.attention.dot_product import scaled_dot_product_attention
from lib.attention.flash import Traffic, flash_attention
from lib.attention.hard import hard_attend, sampled_attend
from lib.attention.latent import LatentAttention
from lib.attention.linear import causal_linear_attention, elu_plus_one, linear_attention
from lib.attention.linformer import LinformerAttention
from lib.attention.local import local_attention
from lib.attention.multi_head import MultiHeadAttention
from lib.attention.performer import performer_attention, random_directions
from lib.attention.pruning import head_importance, prune_heads
from lib.attention.saturation import saturation, softmax_jacobian
from lib.attention.scores import AdditiveScores, GeneralScores, dot_scores, scaled_dot_scores
from lib.attention.seq2seq import AttendedContext, FixedContext, Seq2Seq
from lib.attention.sparse import (
    block_sparse_attention,
    gathered_attention,
    longformer_attention,
    sparse_attention,
)
from lib.attention.tiled import tiled_attention

__all__ = [
    "AdditiveScores",
    "AttendedContext",
    "FixedContext",
    "GeneralScores",
    "LatentAttention",
    "LinformerAttention",
    "MultiHeadAttention",
    "Seq2Seq",
    "Traffic",
    "attend",
    "attend_loop",
    "block_sparse_attention",
    "causal_linear_attention",
    "chunked_attention",
    "dot_scores",
    "elu_plus_one",
    "flash_attention",
    "gathered_attention",
    "hard_attend",
    "head_importance",
    "linear_attention",
    "local_attention",
    "longformer_attention",
    "masked_softmax",
    "performer_attention",
    "prune_heads",
    "random_directions",
    "sampled_attend",
    "saturation",
    "scaled_dot_product_attention",
    "scaled_dot_scores",
    "softmax_jacobian",
    "sparse_attention",
    "tiled_attention",
]
