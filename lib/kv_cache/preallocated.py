"""The cache that never copies: all of its memory is taken at the start, and written in place."""

from lib.kv_cache.cache import Keys, KVCache, Seen, Values, check_room
from lib.memory.sizes import check_sizes


class PreallocatedCache(KVCache):
    """Room for `capacity` tokens of each sequence. What `append` returns are views of it.

    A step writes its own tokens and moves no others. The price is memory for the longest sequence
    that there might be, from the first token on.
    """

    def __init__(self, *, capacity: int, **sizes):
        super().__init__(**sizes)
        check_sizes(capacity=capacity)
        self.capacity = capacity
        self.keys = self._zeros(capacity, self.key_dim)
        self.values = self._zeros(capacity, self.value_dim)

    def append(self, keys: Keys, values: Values) -> Seen:
        """Write the block behind the others. Raises `ValueError` when the cache is full."""
        self._check_block(keys, values)
        start, end = self.length, self.length + keys.shape[-2]
        check_room(self.capacity, start, end - start)
        self.keys[..., start:end, :] = keys
        self.values[..., start:end, :] = values
        self._length = end
        return self.keys[..., :end, :], self.values[..., :end, :]

    def truncate(self, length: int) -> None:
        """Forget all tokens but the first `length`; later ones are written over the others."""
        self._check_length(length)
        self._length = length

    def reset(self) -> None:
        """Forget all tokens; the memory stays."""
        self._length = 0
