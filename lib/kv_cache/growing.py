"""The cache as it is first written: concatenate the new keys and values to the old ones."""

import torch

from lib.kv_cache.cache import Keys, KVCache, Seen, Values


class GrowingCache(KVCache):
    """Holds what it needs and no more, but every step copies all of the tokens before it.

    `bytes_copied` counts those: for n tokens, one after the other, n (n - 1) / 2 times the bytes
    of one. During each step the old tensors and the new ones are there at the same time.
    """

    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.bytes_copied = 0
        self.reset()

    def append(self, keys: Keys, values: Values) -> Seen:
        """New tensors, one block longer."""
        self._check_block(keys, values)
        self.bytes_copied += self.nbytes
        self.keys = torch.cat([self.keys, keys], dim=-2)
        self.values = torch.cat([self.values, values], dim=-2)
        self._length = self.keys.shape[-2]
        return self.keys, self.values

    def truncate(self, length: int) -> None:
        """Forget all tokens but the first `length`: a copy of those, so that the rest is freed."""
        self._check_length(length)
        self.keys = self.keys[..., :length, :].clone()
        self.values = self.values[..., :length, :].clone()
        self._length = length

    def reset(self) -> None:
        """Forget all tokens, and free their memory."""
        self.keys, self.values = self._zeros(0, self.key_dim), self._zeros(0, self.value_dim)
        self._length = 0
