"""Tasks made up on the spot: copy a random word, or write it backwards.

Nothing to install and nothing to memorise. To copy is to look from left to right, to reverse is
to look from right to left, and both ask for everything that was read.
"""

from string import ascii_lowercase

import torch

from lib.memory.sizes import check_sizes


def copy_task(
    count: int, lengths: range, *, generator: torch.Generator, num_symbols: int = 26
) -> list[tuple[str, str]]:
    """Random words, each beside itself: `("dab", "dab")`.

    The lengths are drawn evenly from `lengths`, the letters from the first `num_symbols` of the
    alphabet. Raises `ValueError` for no lengths, a length below 1, or more symbols than letters.
    """
    return [(word, word) for word in _random_words(count, lengths, num_symbols, generator)]


def reverse_task(
    count: int, lengths: range, *, generator: torch.Generator, num_symbols: int = 26
) -> list[tuple[str, str]]:
    """Random words, each beside itself written backwards: `("dab", "bad")`. See `copy_task`."""
    return [(word, word[::-1]) for word in _random_words(count, lengths, num_symbols, generator)]


def _random_words(
    count: int, lengths: range, num_symbols: int, generator: torch.Generator
) -> list[str]:
    check_sizes(count=count, num_symbols=num_symbols)
    if not lengths or min(lengths) < 1:
        raise ValueError(f"lengths must hold at least one number, and none below 1, got {lengths}")
    if num_symbols > len(ascii_lowercase):
        raise ValueError(f"the alphabet has {len(ascii_lowercase)} letters, not {num_symbols}")
    drawn = torch.randint(len(lengths), (count,), generator=generator).tolist()
    words = []
    for length in (lengths[index] for index in drawn):
        letters = torch.randint(num_symbols, (length,), generator=generator).tolist()
        words.append("".join(ascii_lowercase[letter] for letter in letters))
    return words
