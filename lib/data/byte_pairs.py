"""Byte-pair encoding (Sennrich et al., 2016), on bytes (Radford et al., 2019), in readable form.

Begin with the 256 bytes. Again and again, find the two neighbours that stand together most often
and make them one new token. Any text can be written, the frequent parts of it with few tokens.

Counting anew for every merge is slow. `train_byte_level_bpe` does the same in the `tokenizers`
library; a test holds the two equal.
"""

import re
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise

# GPT-2's rule: a word takes the space before it along; letters, digits and the rest stay apart.
WORDS = re.compile(
    r"'(?:[stmd]|re|ve|ll)| ?[^\W\d_]+| ?\d+| ?[^\s\w]+| ?_+|\s+(?!\S)|\s+",
)

PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
BYTES = [*PRINTABLE, *(byte for byte in range(256) if byte not in PRINTABLE)]
"""The first 256 tokens in GPT-2's order: bytes that print as one character, then the others."""

Pair = tuple[bytes, bytes]


def train_byte_pairs(text: str, vocab_size: int) -> dict[bytes, int]:
    """The tokens of a text and their ids: 256 bytes, then one for every merge, in their order.

    Fewer than `vocab_size`, if nothing is left to be merged. Of pairs that are equally frequent
    the one with the smaller ids comes first. Raises `ValueError` for a size below 256.
    """
    check_vocab_size(vocab_size, at_least=256)
    ids = {bytes([byte]): index for index, byte in enumerate(BYTES)}
    words = Counter(split_into_bytes(text))
    while len(ids) < vocab_size:
        pairs: Counter[Pair] = Counter()
        for word, count in words.items():
            for pair in pairwise(word):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], ids[pair[0]], ids[pair[1]]))
        words = Counter({merge_pair(word, best): count for word, count in words.items()})
        ids.setdefault(b"".join(best), len(ids))
    return ids


def encode_byte_pairs(text: str, ids: Mapping[bytes, int]) -> list[int]:
    """The ids of a text's tokens: in each word, the merge that was learned first comes first.

    `ids` as `train_byte_pairs` gives them, or GPT-2's own from `read_gpt2_tokens`.
    """
    encoded = []
    for word in split_into_bytes(text):
        while pairs := [pair for pair in pairwise(word) if b"".join(pair) in ids]:
            word = merge_pair(word, min(pairs, key=lambda pair: ids[b"".join(pair)]))
        encoded += [ids[token] for token in word]
    return encoded


def check_vocab_size(vocab_size: int, *, at_least: int) -> None:
    """Raise `ValueError` for a vocabulary too small for what it holds before any training."""
    if vocab_size < at_least:
        raise ValueError(f"vocab_size must be at least {at_least}, got {vocab_size!r}")


def merge_pair(word: tuple[bytes, ...], pair: Pair) -> tuple[bytes, ...]:
    """The word with the pair as one token, wherever it stands, from left to right."""
    merged: list[bytes] = []
    for token in word:
        if merged and (merged[-1], token) == pair:
            merged[-1] += token
        else:
            merged.append(token)
    return tuple(merged)


def split_into_bytes(text: str) -> list[tuple[bytes, ...]]:
    """The words of a text, each as its bytes: tokens never reach from one word into the next."""
    return [tuple(bytes([byte]) for byte in word.encode()) for word in WORDS.findall(text)]
