"""What all caches have in common: their sizes, the check of what is appended, the causal mask."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int64, Num
from torch import Tensor

from lib.masks import causal
from lib.memory.sizes import check_sizes

# A block of new tokens, with an axis of heads or none, and what its queries may look at.
Keys = Num[Tensor, "batch *heads tokens head_dim"]
Values = Num[Tensor, "batch *heads tokens value_dim"]
Seen = tuple[Num[Tensor, "batch *heads keys head_dim"], Num[Tensor, "batch *heads keys value_dim"]]


class KVCache(ABC):
    """The keys and values of all tokens so far, in one layer of a decoder.

    For each block of new tokens, one or many, in this order: `append` their keys and values, attend
    with their queries to all that it returns, under `mask(number of queries)`. What the block is,
    a prompt, a piece of one, one decoded token or some drafted ones to verify, makes no difference.

    A class says how it stores the block and what it returns. `values` may be wider or narrower than
    keys (`value_dim`), and with `num_key_value_heads=None` neither has an axis for heads. Decode
    under `torch.no_grad()`: what is written in place cannot be differentiated through.
    """

    keys: Tensor
    values: Tensor

    def __init__(
        self,
        *,
        batch_size: int,
        num_key_value_heads: int | None,
        head_dim: int,
        value_dim: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ):
        value_dim = head_dim if value_dim is None else value_dim
        check_sizes(batch_size=batch_size, head_dim=head_dim, value_dim=value_dim)
        if num_key_value_heads is not None:
            check_sizes(num_key_value_heads=num_key_value_heads)
        self.heads = () if num_key_value_heads is None else (num_key_value_heads,)
        self.batch_size, self.key_dim, self.value_dim = batch_size, head_dim, value_dim
        self.dtype, self.device = dtype, torch.empty(0, device=device).device
        self._length = 0

    @abstractmethod
    def append(self, keys: Keys, values: Values) -> Seen:
        """Store a block of new tokens; return everything that their queries may look at.

        Raises `ValueError` for tensors of another shape, dtype or device than the cache's, and
        when there is no room for them.
        """

    @abstractmethod
    def truncate(self, length: int) -> None:
        """Forget all tokens but the first `length`: drafts that were not accepted, say."""

    @abstractmethod
    def reset(self) -> None:
        """Forget all tokens, for the next prompts."""

    @property
    def length(self) -> int:
        """How many tokens of each sequence it has seen."""
        return self._length

    @property
    def lengths(self) -> Int64[Tensor, " batch"]:
        """How many tokens of each sequence it has seen, one by one."""
        return torch.full((self.batch_size,), self.length, device=self.device)

    def next_positions(self, num_tokens: int) -> Int64[Tensor, "*batch tokens"]:
        """Where the next tokens will stand in their sequences: for positions, before `append`."""
        check_sizes(num_tokens=num_tokens)
        return torch.arange(self.length, self.length + num_tokens, device=self.device)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that its tensors hold, used or not."""
        return sum(tensor.untyped_storage().nbytes() for tensor in (self.keys, self.values))

    def mask(self, num_queries: int) -> Bool[Tensor, "*batch queries keys"] | None:
        """Which of the returned keys the last `num_queries` tokens may see; None for all."""
        self._check_queries(num_queries)
        return None if num_queries == 1 else causal(num_queries, self.length).to(self.device)

    def select(self, rows: Sequence[int] | Int64[Tensor, " rows"]) -> None:
        """Keep these sequences of the batch, in this order; one may be taken several times.

        So sequences that are finished are dropped, and one prompt is given to several samples.
        """
        rows = self._check_rows(rows)
        self.keys, self.values = self.keys[rows], self.values[rows]
        self.batch_size = len(rows)

    def reorder(self, rows: Sequence[int] | Int64[Tensor, " rows"]) -> None:
        """`select` as many sequences as there are: the ones that beam search goes on with."""
        if len(rows) != self.batch_size:
            raise ValueError(f"reorder needs {self.batch_size} rows, one a beam, got {len(rows)}")
        self.select(rows)

    def _zeros(self, tokens: int, width: int) -> Tensor:
        # Not `empty`: what lies there is multiplied by a weight of 0, and 0 times NaN is NaN.
        shape = (self.batch_size, *self.heads, tokens, width)
        return torch.zeros(shape, dtype=self.dtype, device=self.device)

    def _check_block(self, keys: Tensor, values: Tensor) -> None:
        tokens = keys.shape[-2] if keys.ndim >= 2 else 0
        if tokens < 1:
            raise ValueError(f"at least one token must be appended, got {tuple(keys.shape)}")
        blocks = {"keys": (keys, self.key_dim), "values": (values, self.value_dim)}
        for name, (block, width) in blocks.items():
            shape = (self.batch_size, *self.heads, tokens, width)
            given = (tuple(block.shape), block.dtype, block.device)
            if given != (shape, self.dtype, self.device):
                raise ValueError(
                    f"{name} must be {shape} {self.dtype} on {self.device}, "
                    f"got {given[0]} {given[1]} on {given[2]}"
                )

    def _check_queries(self, num_queries: int) -> None:
        check_sizes(num_queries=num_queries)
        if num_queries > self.length:
            raise ValueError(f"{num_queries} queries, but only {self.length} tokens in the cache")

    def _check_length(self, length: int) -> None:
        if type(length) is not int or not 0 <= length <= self.length:
            raise ValueError(
                f"length must be a whole number from 0 to {self.length}, what the cache holds, "
                f"got {length!r}"
            )

    def _check_rows(self, rows: Sequence[int] | Tensor) -> Tensor:
        rows = torch.as_tensor(rows, device=self.device)
        is_list = rows.ndim == 1 and len(rows) > 0 and rows.dtype == torch.int64
        if not is_list or rows.min() < 0 or rows.max() >= self.batch_size:
            raise ValueError(
                f"rows must be whole numbers from 0 to {self.batch_size - 1}, "
                f"at least one, got {rows.tolist()}"
            )
        return rows


def check_room(capacity: int, length: int, tokens: int) -> None:
    """Raise `ValueError` if `tokens` more do not fit behind the `length` that are there."""
    if length + tokens > capacity:
        raise ValueError(
            f"the cache is full: capacity {capacity}, length {length}, appended {tokens}; "
            f"it needs a capacity of {length + tokens}"
        )
