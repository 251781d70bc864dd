"""How far what was written is from what should have been: edits per symbol."""

from collections.abc import Iterable, Sequence


def edit_distance(written: Sequence[str], reference: Sequence[str]) -> int:
    """The fewest symbols to insert, delete or replace that turn one into the other.

    Levenshtein, 1966. `row[j]` is the distance between what is read so far of `written` and the
    first j symbols of `reference`.
    """
    row = list(range(len(reference) + 1))
    for i, symbol in enumerate(written, start=1):
        diagonal, row[0] = row[0], i
        for j, expected in enumerate(reference, start=1):
            replaced = diagonal + (symbol != expected)
            diagonal, row[j] = row[j], min(replaced, row[j] + 1, row[j - 1] + 1)
    return row[-1]


def error_rate(pairs: Iterable[tuple[Sequence[str], Sequence[str]]]) -> float:
    """Edits over symbols that were to be written, of (written, reference) pairs taken together.

    Of words it is the word error rate, of phonemes the phoneme error rate. It may exceed 1.
    Raises `ValueError` if there was nothing to write.
    """
    pairs = list(pairs)
    symbols = sum(len(reference) for _, reference in pairs)
    if symbols == 0:
        raise ValueError("an error rate needs at least one symbol that should have been written")
    return sum(edit_distance(written, reference) for written, reference in pairs) / symbols
