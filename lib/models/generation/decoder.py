"""A model that remembers: new tokens in, the logits of what comes next out.

Decoder-only and encoder-decoder models look alike from here, so that greedy, sampled, beam and
speculative decoding are each written once.
"""

from collections.abc import Callable
from functools import partial

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lib.attention.multi_head import KeysValues
from lib.kv_cache import KVCache, PreallocatedCache

MakeCache = Callable[..., KVCache]


class Decoder:
    """A decoder-only model and one cache for each of its layers.

    `make_cache` is a class of `lib.kv_cache` with everything filled in but the sizes that follow
    from the model: `partial(SlidingWindowCache, window=256)`.
    """

    def __init__(self, model: nn.Module, make_cache: MakeCache, batch_size: int = 1) -> None:
        self.model = model
        self.caches = new_caches(model, make_cache, batch_size)

    def __call__(
        self, ids: Int[Tensor, "batch tokens"], last: int = 1
    ) -> Float[Tensor, "batch last vocab"]:
        """Take in `ids`; the logits after each of the `last` of them."""
        hidden = self.model.hidden_states(ids, caches=self.caches)
        return self.model.logits(hidden[:, -last:])

    @property
    def length(self) -> int:
        """How many tokens it remembers, of the longest sequence."""
        return self.caches[0].length

    def select(self, rows: Int[Tensor, " rows"]) -> None:
        """Go on with these sequences, in this order."""
        for cache in self.caches:
            cache.select(rows)

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` tokens."""
        for cache in self.caches:
            cache.truncate(length)


class EncoderDecoder(Decoder):
    """An encoder-decoder model that has read its input: the encoder runs once, here."""

    def __init__(
        self,
        model: nn.Module,
        make_cache: MakeCache,
        source_ids: Int[Tensor, "batch source"],
        source_mask: Bool[Tensor, "batch 1 1 source"] | None = None,
    ) -> None:
        super().__init__(model, make_cache, len(source_ids))
        self.memory: list[KeysValues] = model.encode(source_ids, source_mask)
        self.memory_mask = source_mask

    def __call__(
        self, ids: Int[Tensor, "batch tokens"], last: int = 1
    ) -> Float[Tensor, "batch last vocab"]:
        """Take in `ids` of the target; the logits after each of the `last` of them."""
        logits = self.model.decode(ids, self.memory, self.memory_mask, self.caches)
        return logits[:, -last:]

    def select(self, rows: Int[Tensor, " rows"]) -> None:
        """Go on with these sequences, in this order."""
        super().select(rows)
        self.memory = [(keys[rows], values[rows]) for keys, values in self.memory]
        if self.memory_mask is not None:
            self.memory_mask = self.memory_mask[rows]


def new_caches(model: nn.Module, make_cache: MakeCache, batch_size: int = 1) -> list[KVCache]:
    """An empty cache for each self-attention layer of a decoder."""
    layers = model.decoder.layers if hasattr(model, "decoder") else model.layers
    any_weight = next(model.parameters())
    return [
        make_cache(
            batch_size=batch_size,
            dtype=any_weight.dtype,
            device=any_weight.device,
            **layer.cache_sizes,
        )
        for layer in layers
    ]


def room_for(num_tokens: int) -> MakeCache:
    """The default cache: preallocated, so that no step copies what is there."""
    return partial(PreallocatedCache, capacity=num_tokens)
