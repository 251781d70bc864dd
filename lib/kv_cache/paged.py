"""The cache in blocks, from a pool that all sequences share (PagedAttention, Kwon et al., 2023).

As an operating system gives a process pages, a sequence gets blocks of a fixed number of tokens,
anywhere in the pool, when it needs them; its block table says which. Nothing is reserved for tokens
that may never come: what is held and not used is less than one block a sequence. Sequences with the
same beginning share its blocks, and one that writes into a shared block copies it first.
"""

from collections import Counter
from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor

from lib.kv_cache.cache import KVCache
from lib.kv_cache.ragged import PerRow, RaggedCache
from lib.memory.sizes import check_sizes


class BlockPool:
    """`num_blocks` blocks of `block_size` tokens, and how many sequences hold each of them."""

    def __init__(
        self,
        *,
        num_blocks: int,
        block_size: int,
        num_key_value_heads: int,
        head_dim: int,
        value_dim: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ):
        value_dim = head_dim if value_dim is None else value_dim
        check_sizes(num_blocks=num_blocks, block_size=block_size, head_dim=head_dim)
        check_sizes(num_key_value_heads=num_key_value_heads, value_dim=value_dim)
        shape = num_blocks, num_key_value_heads, block_size
        self.keys = torch.zeros(*shape, head_dim, dtype=dtype, device=device)
        self.values = torch.zeros(*shape, value_dim, dtype=dtype, device=device)
        self.block_size = block_size
        self.holders = [0] * num_blocks
        self.free = list(reversed(range(num_blocks)))

    @property
    def block_nbytes(self) -> int:
        """Bytes of one block, keys and values."""
        return self.keys[0].nbytes + self.values[0].nbytes

    def check_free(self, blocks: int) -> None:
        """Raise `ValueError` unless so many blocks are free."""
        if blocks > len(self.free):
            raise ValueError(
                f"the pool is full: needed blocks: {blocks}, "
                f"free: {len(self.free)} of {len(self.holders)}, of {self.block_size} tokens each"
            )

    def take(self) -> int:
        """A free block, held once."""
        self.check_free(1)
        block = self.free.pop()
        self.holders[block] = 1
        return block

    def share(self, blocks: Sequence[int]) -> None:
        """Hold each of the blocks once more."""
        for block in blocks:
            self.holders[block] += 1

    def release(self, blocks: Sequence[int]) -> None:
        """Hold each of the blocks once less; those that nobody holds are free."""
        for block in blocks:
            self.holders[block] -= 1
            if not self.holders[block]:
                self.free.append(block)

    def to_write(self, block: int) -> int:
        """The block, if it has one holder; otherwise a copy of it, held instead."""
        if self.holders[block] == 1:
            return block
        copy = self.take()
        self.keys[copy], self.values[copy] = self.keys[block], self.values[block]
        self.release([block])
        return copy


class PagedCache(RaggedCache):
    """A ragged cache without a capacity: it is full when `pool` is.

    `append` gathers the blocks into tensors as long as the longest sequence, a copy of all of them;
    a kernel for paged attention reads them where they lie.
    """

    def __init__(self, *, pool: BlockPool, batch_size: int):
        _, heads, _, head_dim = pool.keys.shape
        KVCache.__init__(
            self,
            batch_size=batch_size,
            num_key_value_heads=heads,
            head_dim=head_dim,
            value_dim=pool.values.shape[-1],
            dtype=pool.keys.dtype,
            device=pool.keys.device,
        )
        self.pool, self.keys, self.values = pool, pool.keys, pool.values
        self.block_tables: list[list[int]] = [[] for _ in range(batch_size)]
        self.reset()

    @property
    def nbytes(self) -> int:
        """Bytes of the blocks that its sequences hold, a shared one counted once."""
        return self.pool.block_nbytes * len(set().union(*self.block_tables))

    def _make_room(self, new: list[int], lengths: list[int]) -> None:
        size, rows = self.pool.block_size, [row for row, more in enumerate(new) if more]
        missing = {row: self._blocks(lengths[row]) - len(self.block_tables[row]) for row in rows}
        started = [row for row in rows if self._lengths[row] % size]
        writers = Counter(self.block_tables[row][-1] for row in started)
        copies = sum(min(count, self.pool.holders[b] - 1) for b, count in writers.items())
        self.pool.check_free(sum(missing.values()) + copies)
        for row in started:
            self.block_tables[row][-1] = self.pool.to_write(self.block_tables[row][-1])
        for row in rows:
            self.block_tables[row] += [self.pool.take() for _ in range(missing[row])]

    def _places(self, rows: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        size = self.pool.block_size
        return self._table()[rows, slots // size], slots % size

    def _read(self, store: Tensor) -> Tensor:
        blocks = store[self._table()].movedim(1, -3)
        return blocks.flatten(-3, -2)[..., : self.length, :]

    def _table(self) -> Int64[Tensor, "batch blocks"]:
        """The block tables side by side; a shorter one goes on with block 0, which is masked."""
        longest = max(map(len, self.block_tables))
        filled = [table + [0] * (longest - len(table)) for table in self.block_tables]
        return torch.tensor(filled, dtype=torch.int64, device=self.device)

    def _blocks(self, length: int) -> int:
        return -(-length // self.pool.block_size)

    def truncate(self, length: int | PerRow) -> None:
        """Forget all but the first tokens, as a ragged cache does, and free whole blocks."""
        super().truncate(length)
        for table, kept in zip(self.block_tables, map(self._blocks, self._lengths), strict=True):
            self.pool.release(table[kept:])
            del table[kept:]

    def select(self, rows: Sequence[int] | Int64[Tensor, " rows"]) -> None:
        """Keep these sequences, in this order. Copies no token: one taken twice is shared."""
        rows = self._check_rows(rows).tolist()
        before = self.block_tables
        self.block_tables = [list(before[row]) for row in rows]
        for table in self.block_tables:
            self.pool.share(table)
        for table in before:
            self.pool.release(table)
        self._lengths = [self._lengths[row] for row in rows]
        self._padding = [self._padding[row] for row in rows]
        self.batch_size = len(rows)

    def reset(self) -> None:
        """Forget all tokens; the blocks go back to the pool."""
        super().reset()
        self.truncate(0)
