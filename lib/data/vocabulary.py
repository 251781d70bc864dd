"""Symbols as numbers: a vocabulary gives each symbol an id and takes ids back to symbols."""

from collections.abc import Iterable
from dataclasses import dataclass, field

PAD, START, END = "<pad>", "<start>", "<end>"


@dataclass(frozen=True)
class Vocabulary:
    """The ids of a fixed set of symbols, letters or phonemes; the first three serve every text.

    Id 0 fills a batch up where a sequence is over, 1 starts a sequence, 2 ends it.
    Raises `ValueError` for a symbol that stands there twice or is one of the three.
    """

    symbols: tuple[str, ...]
    ids: dict[str, int] = field(init=False, repr=False, compare=False)

    pad, start, end = 0, 1, 2

    def __post_init__(self) -> None:
        everything = (PAD, START, END, *self.symbols)
        ids = {symbol: index for index, symbol in enumerate(everything)}
        if len(ids) != len(everything):
            twice = sorted({symbol for symbol in everything if everything.count(symbol) > 1})
            raise ValueError(f"a symbol has one id, but these stand there twice: {twice}")
        object.__setattr__(self, "ids", ids)

    @classmethod
    def of(cls, sequences: Iterable[Iterable[str]]) -> "Vocabulary":
        """The vocabulary of every symbol in these sequences, sorted."""
        return cls(tuple(sorted({symbol for sequence in sequences for symbol in sequence})))

    def __len__(self) -> int:
        return 3 + len(self.symbols)

    def encode(self, sequence: Iterable[str]) -> list[int]:
        """The ids of the symbols. Raises `ValueError` for a symbol that has none."""
        sequence = list(sequence)
        unknown = sorted(set(sequence) - set(self.ids))
        if unknown:
            raise ValueError(f"no id for {unknown}: the vocabulary knows {list(self.symbols)}")
        return [self.ids[symbol] for symbol in sequence]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The symbols of the ids up to the first end, without start and padding.

        Raises `ValueError` for an id that no symbol has.
        """
        decoded = []
        for index in ids:
            if not 0 <= index < len(self):
                raise ValueError(f"ids run from 0 to {len(self) - 1}, got {index}")
            if index == self.end:
                break
            if index not in (self.pad, self.start):
                decoded.append(self.symbols[index - 3])
        return decoded
