"""The cache of cross-attention: keys and values of the source, which are the same at every step."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from lib.kv_cache.cache import Keys, KVCache, Seen, Values


class CrossAttentionCache(KVCache):
    """Written once, with `append`; at all later steps `read` returns the same tensors.

    `source_lengths` says how many tokens of each source are no padding behind it.
    """

    def __init__(
        self, *, source_lengths: Sequence[int] | Int64[Tensor, " batch"] | None = None, **sizes
    ):
        super().__init__(**sizes)
        self.source_lengths = source_lengths
        if source_lengths is not None:
            self.source_lengths = torch.as_tensor(source_lengths, device=self.device)
        self.reset()

    def append(self, keys: Keys, values: Values) -> Seen:
        """Keep the keys and values of all of the source. Raises `ValueError` the second time."""
        self._check_block(keys, values)
        self._check_source(keys.shape[-2])
        if self.length:
            raise ValueError(
                f"a cross-attention cache is written once and holds {self.length} tokens: "
                "read() returns them, reset() makes room for another source"
            )
        # Copies, so that no larger tensor is kept of which these may be a part.
        self.keys, self.values = keys.clone(), values.clone()
        self._length = keys.shape[-2]
        return self.keys, self.values

    def _check_source(self, tokens: int) -> None:
        lengths = self.source_lengths
        if lengths is None:
            return
        if len(lengths) != self.batch_size or lengths.min() < 0 or lengths.max() > tokens:
            raise ValueError(
                f"source_lengths must be {self.batch_size} numbers from 0 to {tokens}, "
                f"the tokens of the source, got {lengths.tolist()}"
            )

    def read(self) -> Seen:
        """The keys and values of the source. Raises `ValueError` before they are written."""
        if not self.length:
            raise ValueError("nothing to read: append the keys and values of the source first")
        return self.keys, self.values

    def mask(self, num_queries: int) -> Bool[Tensor, "batch 1 1 keys"] | None:
        """Every query sees the whole source, but no padding."""
        if self.source_lengths is None:
            return None
        key = torch.arange(self.length, device=self.device)
        return key < self.source_lengths[:, None, None, None]

    def truncate(self, length: int) -> None:
        """Raises `ValueError`: the source is what it is."""
        raise ValueError(f"a source is not cut: it has {self.length} tokens, got {length!r}")

    def select(self, rows: Sequence[int] | Int64[Tensor, " rows"]) -> None:
        """Keep these sources of the batch, in this order."""
        super().select(rows)
        if self.source_lengths is not None:
            self.source_lengths = self.source_lengths[torch.as_tensor(rows, device=self.device)]

    def reset(self) -> None:
        """Forget the source, and free its memory."""
        self.keys, self.values = self._zeros(0, self.key_dim), self._zeros(0, self.value_dim)
        self._length = 0
