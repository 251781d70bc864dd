"""What the tests of objectives share: a small vocabulary, texts, generators, a count's z-score."""

import math

import torch
from hypothesis import strategies as st

from lib.objectives.ids import MaskingVocabulary

PAD, UNKNOWN, CLS, SEP, MASK = SPECIAL = range(5)
VOCAB_SIZE = 60


def vocabulary():
    return MaskingVocabulary(VOCAB_SIZE, mask=MASK, special=(PAD, UNKNOWN, CLS, SEP))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def texts(batch, seq_len, seed=0):
    """Words only, no special token."""
    return torch.randint(len(SPECIAL), VOCAB_SIZE, (batch, seq_len), generator=seeded(seed))


def padded_texts(batch, seq_len, seed=0):
    """[CLS], words, [SEP], and padding of random length, as BERT reads them."""
    ids = texts(batch, seq_len, seed)
    lengths = torch.randint(3, seq_len + 1, (batch,), generator=seeded(seed + 1))
    places = torch.arange(seq_len)
    ids[:, 0] = CLS
    ids[places == lengths[:, None] - 1] = SEP
    return ids.masked_fill(places >= lengths[:, None], PAD)


def z_score(count, trials, probability):
    """How many standard deviations a count is from what a binomial one would be."""
    expected = trials * probability
    return abs(count - expected) / math.sqrt(expected * (1 - probability))


def chi_square(counts, probabilities):
    """Pearson's statistic of a table of counts against the probabilities of its cells."""
    total = sum(counts)
    expected = [total * probability for probability in probabilities]
    return sum((n - e) ** 2 / e for n, e in zip(counts, expected, strict=True))


def chi_square_limit(cells):
    """What the statistic stays below in all but 1 of 10,000 cases (Wilson and Hilferty, 1931)."""
    freedom = cells - 1
    return freedom * (1 - 2 / (9 * freedom) + 3.719 * math.sqrt(2 / (9 * freedom))) ** 3


seeds = st.integers(0, 2**31 - 1)
rates = st.floats(0.01, 0.99)
