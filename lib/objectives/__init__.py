"""Objectives: what BERT, GPT and T5 are asked while they are pre-trained. Tokens in, tensors out.

Read in this order: `ids`, `lots`, `choosing`, `masked_lm`, `sentence_pairs`; `causal_lm`,
`prefix_lm`; `teacher_forcing`, `span_corruption`, `bart`; `span_boundaries`, `replaced_tokens`; and
what all of them are scored by: `cross_entropy`, `distillation`, `signals`. No model is needed:
where one has guessed, its logits are handed in.
"""

from lib.objectives.bart import (
    delete_tokens,
    infill_text,
    mask_document,
    permute_sentences,
    rotate_document,
)
from lib.objectives.causal_lm import (
    NextTokens,
    PackedBatch,
    first_fit_decreasing,
    next_tokens,
    pack_documents,
)
from lib.objectives.choosing import (
    choose_exact_count,
    choose_spans,
    choose_tokens,
    choose_words,
    geometric_lengths,
    ngram_lengths,
)
from lib.objectives.cross_entropy import (
    cross_entropy_gradient,
    cross_entropy_loop,
    perplexity,
    smooth_targets,
    token_cross_entropy,
)
from lib.objectives.distillation import (
    distillation_gradient,
    distillation_loss,
    hidden_cosine_loss,
    teacher_and_labels_loss,
)
from lib.objectives.ids import IGNORE_INDEX, MaskingVocabulary
from lib.objectives.masked_lm import (
    MaskedLMCollator,
    MaskedTokens,
    epoch_generator,
    mask_tokens,
    mask_tokens_loop,
)
from lib.objectives.prefix_lm import PrefixBatch, draw_prefix, split_prefix
from lib.objectives.replaced_tokens import (
    ReplacedTokens,
    electra_loss,
    replace_tokens,
    replaced_token_loss,
)
from lib.objectives.sentence_pairs import (
    PairBatch,
    SentencePair,
    next_sentence_pairs,
    pair_batch,
    sentence_order_pairs,
)
from lib.objectives.signals import (
    Signals,
    binary_entropy,
    bits_per_byte,
    causal_lm_signals,
    count_signals,
    masked_lm_signals,
    nats_to_bits,
    prefix_lm_signals,
    replaced_token_signals,
    span_corruption_signals,
)
from lib.objectives.span_boundaries import SpanBoundaries, span_boundaries
from lib.objectives.span_corruption import (
    CorruptedSpans,
    NoiseCounts,
    corrupt_spans,
    corrupt_spans_loop,
    longest_text,
    noise_counts,
    random_segmentation,
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
    "NoiseCounts",
    "PackedBatch",
    "PairBatch",
    "PrefixBatch",
    "ReplacedTokens",
    "SentencePair",
    "Signals",
    "SpanBoundaries",
    "binary_entropy",
    "bits_per_byte",
    "causal_lm_signals",
    "choose_exact_count",
    "choose_spans",
    "choose_tokens",
    "choose_words",
    "corrupt_spans",
    "corrupt_spans_loop",
    "count_signals",
    "cross_entropy_gradient",
    "cross_entropy_loop",
    "delete_tokens",
    "distillation_gradient",
    "distillation_loss",
    "draw_prefix",
    "electra_loss",
    "epoch_generator",
    "first_fit_decreasing",
    "geometric_lengths",
    "hidden_cosine_loss",
    "infill_text",
    "longest_text",
    "mask_document",
    "mask_tokens",
    "mask_tokens_loop",
    "masked_lm_signals",
    "nats_to_bits",
    "next_sentence_pairs",
    "next_tokens",
    "ngram_lengths",
    "noise_counts",
    "pack_documents",
    "pair_batch",
    "permute_sentences",
    "perplexity",
    "prefix_lm_signals",
    "random_segmentation",
    "random_spans_noise_mask",
    "replace_tokens",
    "replaced_token_loss",
    "replaced_token_signals",
    "restore_spans",
    "rotate_document",
    "sentence_order_pairs",
    "shift_right",
    "smooth_targets",
    "span_boundaries",
    "span_corruption",
    "span_corruption_signals",
    "split_prefix",
    "t5_sentinels",
    "teacher_and_labels_loss",
    "token_cross_entropy",
]
