"""How much an example teaches: labels per example and per token read, and the bits they hold.

A loss is in nats, as its logarithm is the natural one; a nat is 1 / ln 2 = 1.44 bits. A model that
knows nothing has log₂ vocab_size bits to learn at each label, one that has learned part of the
language has its loss left.
"""

import math
from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

from lib.memory.sizes import check_not_negative, check_sizes
from lib.objectives.ids import IGNORE_INDEX, check_probability, check_share
from lib.objectives.span_corruption import noise_counts


@dataclass(frozen=True)
class Signals:
    """The labels of one example, on average, and the tokens that are read to be asked for them."""

    labels: int | float
    tokens: int

    @property
    def per_token(self) -> float:
        """Labels for each token read: 0.15 in masked, 1 in causal language modelling."""
        return self.labels / self.tokens

    def examples_for(self, labels: int) -> int:
        """How many examples give so many labels, rounded up."""
        check_sizes(labels=labels)
        return math.ceil(labels / self.labels)

    def bits(self, nats_per_label: float) -> float:
        """What one example still has to teach a model with this loss, in bits."""
        return self.labels * nats_to_bits(nats_per_label)


def count_signals(labels: Int[Tensor, "*batch"]) -> int:
    """How many places of a batch are asked for."""
    return int((labels != IGNORE_INDEX).sum())


def masked_lm_signals(seq_len: int, *, rate: float = 0.15) -> Signals:
    """Masked language modelling: the chosen tokens. Raises `ValueError` for a rate of 0 or 1."""
    check_sizes(seq_len=seq_len)
    check_share(rate=rate)
    return Signals(rate * seq_len, seq_len)


def causal_lm_signals(seq_len: int) -> Signals:
    """Causal language modelling: each of the `seq_len` tokens read has one that comes next."""
    check_sizes(seq_len=seq_len)
    return Signals(seq_len, seq_len)


def prefix_lm_signals(seq_len: int, *, prefix: int) -> Signals:
    """Prefix language modelling: from the prefix's last token on, each has one that comes next.

    Raises `ValueError` for a prefix that is not one of 1 to `seq_len`.
    """
    check_sizes(seq_len=seq_len, prefix=prefix)
    if prefix > seq_len:
        raise ValueError(f"a prefix of {prefix} is longer than the {seq_len} tokens read")
    return Signals(seq_len - prefix + 1, seq_len)


def span_corruption_signals(
    text_len: int,
    *,
    density: float = 0.15,
    mean_span_length: float = 3.0,
    end: bool = True,
    final_sentinel: bool = True,
) -> Signals:
    """Span corruption: every token of the target, sentinels and end among them.

    Encoder and decoder both read. Raises `ValueError` as `noise_counts` does.
    """
    counts = noise_counts(text_len, density=density, mean_span_length=mean_span_length)
    labels = counts.target_len(end=end, final_sentinel=final_sentinel)
    return Signals(labels, counts.input_len(end=end) + labels)


def replaced_token_signals(seq_len: int) -> Signals:
    """Replaced-token detection: a yes or no at every place, so at most one bit each."""
    return causal_lm_signals(seq_len)


def nats_to_bits(nats: float) -> float:
    """Nats over ln 2. Raises `ValueError` for a number below 0."""
    check_not_negative(nats=nats)
    return nats / math.log(2)


def bits_per_byte(nats_per_token: float, *, num_tokens: int, num_bytes: int) -> float:
    """The loss by bytes of text, which compares models whose tokenizers differ.

    A tokenizer with longer tokens has a larger loss per token and fewer of them.
    """
    check_sizes(num_tokens=num_tokens, num_bytes=num_bytes)
    return nats_to_bits(nats_per_token) * num_tokens / num_bytes


def binary_entropy(probability: float) -> float:
    """The bits of a yes or no whose yes has this probability: 1 at a half, 0.61 at 15 %."""
    check_probability(probability=probability)
    shares = (probability, 1 - probability)
    return sum(share * math.log2(1 / share) for share in shares if share)
