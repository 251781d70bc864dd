"""The cache in 8-bit whole numbers, with one scale for each token and head.

As keys and values are vectors of very different sizes, a scale for the whole cache would round the
small ones to zero. Published methods go further, with keys scaled by channel (KIVI, Liu et al.,
2024).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int8, Int64
from torch import Tensor

from lib.kv_cache.cache import Keys, KVCache, Seen, Values
from lib.kv_cache.preallocated import PreallocatedCache
from lib.kv_cache.ragged import PerRow


def quantise_int8(
    vectors: Float[Tensor, "*batch width"], scale_dtype: torch.dtype = torch.float32
) -> tuple[Int8[Tensor, "*batch width"], Float[Tensor, "*batch 1"]]:
    """Each vector as whole numbers from -127 to 127 and the scale to multiply them by.

    The scale makes the largest entry 127 or -127. No entry is off by more than half a scale.
    """
    scales = vectors.abs().amax(dim=-1, keepdim=True).to(scale_dtype) / 127
    # A vector of zeros, or too small for its scale: divide by 1.
    divisor = scales.masked_fill(scales == 0, 1)
    numbers = (vectors.to(scale_dtype) / divisor).round().clamp(-127, 127)
    return numbers.to(torch.int8), scales


def dequantise_int8(
    numbers: Int8[Tensor, "*batch width"], scales: Float[Tensor, "*batch 1"], dtype: torch.dtype
) -> Float[Tensor, "*batch width"]:
    """The vectors again, as near as 255 steps come to them."""
    return (numbers * scales).to(dtype)


class Int8Cache(KVCache):
    """Two caches of the same kind: one of 8-bit numbers, one of their scales, of width 1.

    `policy` is that kind and takes what is not named here: with `policy=SlidingWindowCache,
    window=256` it is a sliding window of 8-bit numbers. What `append` returns are floating-point
    vectors, made anew at each step; a fused kernel makes them in registers.
    """

    def __init__(
        self,
        *,
        policy: type[KVCache] = PreallocatedCache,
        scale_dtype: torch.dtype = torch.float32,
        batch_size: int,
        num_key_value_heads: int | None,
        head_dim: int,
        value_dim: int | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
        **options,
    ):
        sizes = {"batch_size": batch_size, "num_key_value_heads": num_key_value_heads}
        widths = {"head_dim": head_dim, "value_dim": value_dim}
        super().__init__(**sizes, **widths, dtype=dtype, device=device)
        options = {**options, **sizes, "device": device}
        self.numbers = policy(**options, **widths, dtype=torch.int8)
        self.scales = policy(**options, head_dim=1, dtype=scale_dtype)

    def append(self, keys: Keys, values: Values) -> Seen:
        """Store the block in 8 bits; return everything in floating point."""
        self._check_block(keys, values)
        keys, key_scales = quantise_int8(keys, self.scales.dtype)
        values, value_scales = quantise_int8(values, self.scales.dtype)
        keys, values = self.numbers.append(keys, values)
        key_scales, value_scales = self.scales.append(key_scales, value_scales)
        return (
            dequantise_int8(keys, key_scales, self.dtype),
            dequantise_int8(values, value_scales, self.dtype),
        )

    @property
    def length(self) -> int:
        """How many tokens of each sequence it has seen."""
        return self.numbers.length

    @property
    def lengths(self) -> Int64[Tensor, " batch"]:
        """How many tokens of each sequence it has seen, one by one."""
        return self.numbers.lengths

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers and of their scales."""
        return self.numbers.nbytes + self.scales.nbytes

    def mask(self, num_queries: int) -> Bool[Tensor, "*batch queries keys"] | None:
        """The mask of its `policy`."""
        return self.numbers.mask(num_queries)

    def next_positions(self, num_tokens: int) -> Int64[Tensor, "*batch tokens"]:
        """Where the next tokens will stand in their sequences."""
        return self.numbers.next_positions(num_tokens)

    def skip(self, padding: PerRow) -> None:
        """With `policy=RaggedCache`: the first `padding[row]` tokens to come are padding."""
        self.numbers.skip(padding)
        self.scales.skip(padding)

    def truncate(self, length: int | PerRow) -> None:
        """Forget all tokens but the first `length`, as its `policy` does."""
        self.numbers.truncate(length)
        self.scales.truncate(length)

    def select(self, rows: Sequence[int] | Int64[Tensor, " rows"]) -> None:
        """Keep these sequences of the batch, in this order."""
        self.numbers.select(rows)
        self.scales.select(rows)
        self.batch_size = self.numbers.batch_size

    def reset(self) -> None:
        """Forget all tokens."""
        self.numbers.reset()
        self.scales.reset()
