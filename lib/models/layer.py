"""One Transformer layer: sublayers around the residual stream, in the one order they all have."""

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lib.attention.multi_head import KeysValues
from lib.kv_cache import KVCache

Caches = Sequence[KVCache] | None


class TransformerLayer(nn.Module):
    """Self-attention, in a decoder that reads an encoder cross-attention, feed-forward network.

    `residual` wraps each sublayer: `PreNorm` or `PostNorm` with its norm and dropout filled in.
    """

    def __init__(
        self,
        residual: Callable[[nn.Module], nn.Module],
        self_attention: nn.Module,
        feed_forward: nn.Module,
        *,
        cross_attention: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.self_attention = residual(self_attention)
        self.cross_attention = None if cross_attention is None else residual(cross_attention)
        self.feed_forward = residual(feed_forward)

    @property
    def cache_sizes(self) -> dict[str, int]:
        """What a key-value cache for the self-attention has to know of it."""
        attention = self.self_attention.sublayer
        return {
            "num_key_value_heads": attention.num_key_value_heads,
            "head_dim": attention.head_dim,
        }

    def forward(
        self,
        hidden: Float[Tensor, "batch tokens hidden"],
        *,
        cross: dict[str, Any] | None = None,
        **options: Any,
    ) -> Float[Tensor, "batch tokens hidden"]:
        """The residual stream after this layer.

        `options` go to the self-attention (`mask`, `bias`, `rotary`, `cache`), `cross` to the
        cross-attention (`source` or `keys_values`, and `mask`).
        """
        hidden = self.self_attention(hidden, **options)
        if self.cross_attention is not None:
            hidden = self.cross_attention(hidden, **cross)
        return self.feed_forward(hidden)


def run_layers(
    layers: Iterable[TransformerLayer],
    hidden: Float[Tensor, "batch tokens hidden"],
    caches: Caches = None,
    cross: Sequence[KeysValues] | None = None,
    cross_mask: Bool[Tensor, "..."] | None = None,
    **options: Any,
) -> Float[Tensor, "batch tokens hidden"]:
    """One layer after the other, each with its own cache and its own view of the encoder.

    Raises `ValueError` for more or fewer caches, or views of the encoder, than layers.
    """
    layers = list(layers)
    for name, given in (("caches", caches), ("keys and values of an encoder", cross)):
        if given and len(given) != len(layers):
            raise ValueError(f"{len(layers)} layers need as many {name}, got {len(given)}")
    for layer, cache, read in zip(
        layers, caches or repeat(None), cross or repeat(None), strict=False
    ):
        memory = None if read is None else {"keys_values": read, "mask": cross_mask}
        hidden = layer(hidden, cross=memory, cache=cache, **options)
    return hidden


def next_positions(
    ids: Int[Tensor, "batch tokens"], caches: Caches = None
) -> Int[Tensor, "*batch tokens"]:
    """Where these tokens stand in their sequences: from 0, or behind what the caches hold.

    Raises `ValueError` for a batch without sequences or sequences without tokens.
    """
    check_tokens(ids)
    if caches:
        return caches[0].next_positions(ids.shape[1])
    return torch.arange(ids.shape[1], device=ids.device)


def check_tokens(ids: Int[Tensor, "batch tokens"]) -> None:
    """Raise `ValueError` for a batch without sequences, or sequences without tokens."""
    if not ids.numel():
        raise ValueError(f"there are no tokens in ids of shape {tuple(ids.shape)}")
