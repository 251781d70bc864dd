"""Objectives: what BERT, GPT and T5 are asked while they are pre-trained. Tokens in, tensors out.

Read in this order: `ids`, `choosing`, `masked_lm`; `causal_lm`, `teacher_forcing`,
`span_corruption`.
"""

from lib.objectives.causal_lm import NextTokens, PackedBatch, next_tokens, pack_documents
from lib.objectives.choosing import (
    choose_exact_count,
    choose_spans,
    choose_tokens,
    choose_words,
    geometric_lengths,
    ngram_lengths,
)
from lib.objectives.ids import IGNORE_INDEX, MaskingVocabulary
from lib.objectives.masked_lm import MaskedLMCollator, MaskedTokens, epoch_generator, mask_tokens
from lib.objectives.span_corruption import (
    CorruptedSpans,
    corrupt_spans,
    longest_text,
    noise_counts,
    random_spans_noise_mask,
    restore_spans,
    span_corruption,
    t5_sentinels,
)
from lib.objectives.teacher_forcing import shift_right

__all__ = [
    "IGNORE_INDEX",
    "CorruptedSpans",
    "MaskedLMCollator",
    "MaskedTokens",
    "MaskingVocabulary",
    "NextTokens",
    "PackedBatch",
    "choose_exact_count",
    "choose_spans",
    "choose_tokens",
    "choose_words",
    "corrupt_spans",
    "epoch_generator",
    "geometric_lengths",
    "longest_text",
    "mask_tokens",
    "next_tokens",
    "ngram_lengths",
    "noise_counts",
    "pack_documents",
    "random_spans_noise_mask",
    "restore_spans",
    "shift_right",
    "span_corruption",
    "t5_sentinels",
]
