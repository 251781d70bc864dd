"""The cache of a batch whose sequences have different lengths.

Prompts of different lengths make one block with padding, before them or behind them. Padding is
never kept: each sequence lies in its row from the first slot on, and the next token of a short one
is written where it belongs, not behind the longest.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from lib.kv_cache.cache import Keys, KVCache, Seen, Values, check_room
from lib.memory.sizes import check_sizes

PerRow = Sequence[int] | Int64[Tensor, " batch"]


class RaggedCache(KVCache):
    """A preallocated cache in which every sequence has a length of its own.

    - Padding before the prompts: `skip(number of padding tokens)`, then `append` as always.
    - Padding behind them: `append`, attend, then `truncate(lengths)`.
    - Of drafted tokens each sequence accepts as many as it likes: `truncate(lengths)`.
    - A finished sequence goes, `select(the others)`, or stays as it is, `truncate(lengths)`.
    """

    def __init__(self, *, capacity: int, **sizes):
        super().__init__(**sizes)
        check_sizes(capacity=capacity)
        self.capacity = capacity
        self.keys = self._zeros(capacity, self.key_dim)
        self.values = self._zeros(capacity, self.value_dim)
        self.reset()

    def skip(self, padding: PerRow) -> None:
        """Of the tokens to come, the first `padding[row]` are padding and will not be stored."""
        self._padding = self._whole_numbers("padding", padding, [None] * self.batch_size)

    def append(self, keys: Keys, values: Values) -> Seen:
        """Write each sequence's tokens behind its others; return the rows up to the longest.

        What lies behind a shorter sequence is hidden by the mask.
        """
        self._check_block(keys, values)
        rows, columns, slots = self._advance(keys.shape[-2])
        places = self._places(rows, slots)
        for store, block in ((self.keys, keys), (self.values, values)):
            store.movedim(-2, 1)[places] = block.movedim(-2, 1)[rows, columns]
        return self._read(self.keys), self._read(self.values)

    def _advance(self, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
        """Count the new tokens; the row, column and slot of each that is not padding."""
        skipped = [min(padding, tokens) for padding in self._padding]
        new = [tokens - padding for padding in skipped]
        lengths = [old + more for old, more in zip(self._lengths, new, strict=True)]
        self._make_room(new, lengths)
        self._padding = [p - s for p, s in zip(self._padding, skipped, strict=True)]
        self._lengths = lengths
        column = torch.arange(tokens, device=self.device)
        stored = column >= self._column(skipped)
        rows, columns = stored.nonzero(as_tuple=True)
        return rows, columns, (self._column(lengths) - tokens + column)[rows, columns]

    def _make_room(self, new: list[int], lengths: list[int]) -> None:
        for more, length in zip(new, lengths, strict=True):
            check_room(self.capacity, length - more, more)

    def _places(self, rows: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        return rows, slots

    def _read(self, store: Tensor) -> Tensor:
        return store[..., : self.length, :]

    @property
    def length(self) -> int:
        """How many tokens the longest sequence has."""
        return max(self._lengths)

    @property
    def lengths(self) -> Int64[Tensor, " batch"]:
        """How many tokens each sequence has, without padding."""
        return torch.tensor(self._lengths, device=self.device)

    def next_positions(self, num_tokens: int) -> Int64[Tensor, "batch tokens"]:
        """Where the next tokens will stand in their sequences; padding stands anywhere."""
        check_sizes(num_tokens=num_tokens)
        skipped = [min(padding, num_tokens) for padding in self._padding]
        start = self._column(self._lengths) - self._column(skipped)
        return (start + torch.arange(num_tokens, device=self.device)).clamp(min=0)

    def mask(self, num_queries: int) -> Bool[Tensor, "batch 1 queries keys"] | None:
        """Causal, with each sequence's last query at its last key. Before its first: nothing."""
        check_sizes(num_queries=num_queries)
        if num_queries == 1 and min(self._lengths) == self.length:
            return None
        query = self._column(self._lengths) + torch.arange(-num_queries, 0, device=self.device)
        return torch.arange(self.length, device=self.device) <= query[:, None, :, None]

    def truncate(self, length: int | PerRow) -> None:
        """Forget all but the first `length` tokens of each sequence, or `length[row]` of each."""
        if type(length) is int:
            self._check_length(length)
            length = [min(length, mine) for mine in self._lengths]
        self._lengths = self._whole_numbers("lengths", length, self._lengths)

    def select(self, rows: Sequence[int] | Int64[Tensor, " rows"]) -> None:
        """Keep these sequences of the batch, in this order; one may be taken several times."""
        rows = self._check_rows(rows)
        super().select(rows)
        self._lengths = [self._lengths[row] for row in rows.tolist()]
        self._padding = [self._padding[row] for row in rows.tolist()]

    def reset(self) -> None:
        """Forget all tokens; the memory stays."""
        self._lengths, self._padding = [0] * self.batch_size, [0] * self.batch_size

    def _column(self, numbers: list[int]) -> Tensor:
        return torch.tensor(numbers, device=self.device)[:, None]

    def _whole_numbers(self, name: str, given: PerRow, most: Sequence[int | None]) -> list[int]:
        numbers = given.tolist() if isinstance(given, Tensor) else given
        fits = (
            isinstance(numbers, list | tuple)
            and len(numbers) == len(most)
            and all(
                type(number) is int and number >= 0 and (limit is None or number <= limit)
                for number, limit in zip(numbers, most, strict=True)
            )
        )
        if not fits:
            limits = "" if None in most else f", at most {list(most)}"
            raise ValueError(
                f"{name} must be {len(most)} whole numbers, 0 or more{limits}, got {numbers!r}"
            )
        return list(numbers)
