"""Prefix language modelling (Raffel et al., 2020): read the beginning both ways, write the rest.

One stack as in GPT, but the prefix, which is given, need not be read from left to right. Only
what comes after it is asked for.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from lib import masks
from lib.objectives.causal_lm import next_tokens
from lib.objectives.ids import IGNORE_INDEX


class PrefixBatch(NamedTuple):
    """What the model reads, what comes next after the prefix, and who may attend to whom."""

    inputs: Int[Tensor, "batch seq_len"]
    labels: Int[Tensor, "batch seq_len"]
    mask: Bool[Tensor, "seq_len seq_len"]


def split_prefix(ids: Int[Tensor, "batch tokens"], prefix: int) -> PrefixBatch:
    """The first `prefix` tokens are given, the others asked for: the first by the prefix's last.

    Raises `ValueError` for fewer than 2 tokens, and for a prefix that is none of 1 to tokens - 1.
    """
    inputs, labels = next_tokens(ids)
    if not 1 <= prefix <= labels.shape[1]:
        raise ValueError(
            f"of {ids.shape[1]} tokens a prefix takes 1 to {labels.shape[1]}, got {prefix}"
        )
    given = torch.arange(labels.shape[1]) < prefix - 1
    mask = masks.prefix_lm(labels.shape[1], prefix=prefix)
    return PrefixBatch(inputs, labels.masked_fill(given, IGNORE_INDEX), mask)


def draw_prefix(tokens: int, *, generator: torch.Generator) -> int:
    """A length for the prefix, from 1 to tokens - 1, all equally likely.

    Raises `ValueError` for fewer than 2 tokens.
    """
    if tokens < 2:
        raise ValueError(f"a text needs 2 tokens to be split, got {tokens}")
    return int(torch.randint(1, tokens, (1,), generator=generator))
