"""Models packed for decoding: the same weights, as one token after the other reads them.

To decode a token is to read every weight once and to do two operations with each. What counts is
how fast memory is read, and, in a small model, how little is done between two products:

- The queries, keys and values of a layer come from one matrix instead of three.
- A matrix is stored as its product reads it. How, depends on how many rows it meets: `panels` for
  one sequence, `tiles` for several side by side, `int8` with fewer bits for each of the two.
- A layer is plain calls of functions. The modules that it replaces look for hooks, parameters and
  options at each of theirs.

Nothing else is computed than in the layer that is replaced; sums may run in another order.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from math import sqrt
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from lib.attention.dot_product import fused_dot_product_attention, intersect
from lib.attention.multi_head import MultiHeadAttention, merge_heads, split_heads
from lib.kv_cache import KVCache
from lib.models.embeddings import check_ids
from lib.models.feed_forward import FeedForward
from lib.models.layer import TransformerLayer
from lib.models.norms import LayerNorm, RMSNorm
from lib.models.panels import PanelMap, Rows
from lib.models.residual import PostNorm


@runtime_checkable
class PackedMap(Protocol):
    """x Wᵀ + bias for rows x, from a weight that is stored for it."""

    d_in: int
    nbytes: int
    """Bytes that one step reads."""

    def __call__(self, x: Rows) -> Rows:
        """(rows, d_in) to (rows, d_out)."""

    def rows(self, ids: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch d_in"]:
        """These rows of W."""


MakeMap = Callable[[Tensor, Tensor | None], PackedMap]
"""From a weight (d_out, d_in), and a bias or None: a class such as `PanelMap`."""


class PackedEmbedding(nn.Module):
    """A token embedding that also scores tokens, both from one packed matrix."""

    def __init__(self, weight: Float[Tensor, "vocab hidden"], make_map: MakeMap) -> None:
        super().__init__()
        self.map, self.vocab_size = make_map(weight, None), len(weight)

    def forward(self, ids: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch hidden"]:
        """The row of each id. Raises `ValueError` for an id that has none."""
        check_ids(ids, self.vocab_size)
        return self.map.rows(ids)

    def logits(self, hidden: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch vocab"]:
        """The score of every token at every place."""
        return self.map(hidden.flatten(end_dim=-2)).unflatten(0, hidden.shape[:-1])


def pack_model(model: nn.Module, make_map: MakeMap = PanelMap) -> nn.Module:
    """A copy of a decoder, or of an encoder-decoder, to `generate` with: its layers are packed.

    `make_map` says how matrices are stored: `PanelMap` to decode one sequence, `TileMap` for
    several; in 8 bits `Int8PanelMap` and `Int8Map`. Each takes any number of rows.

    An encoder, which runs once, and all that is no matrix are shared with `model`. For decoding
    only: a packed model is not trained, and `watch` does not see into its layers.

    Raises `ValueError` for a model whose decoder is not made of `TransformerLayer`, and for one
    that is packed already.
    """
    layers = getattr(getattr(model, "decoder", model), "layers", [None])
    are_whole = all(isinstance(layer, TransformerLayer) for layer in layers)
    if not are_whole or not hasattr(model, "tokens"):
        raise ValueError(
            f"expected a model with tokens and a decoder of TransformerLayers, not packed yet, "
            f"got {type(model).__name__}"
        )
    shared = {id(each): each for each in (*model.parameters(), *model.buffers())}
    packed = deepcopy(model, memo=shared).eval()
    stack = getattr(packed, "decoder", packed)
    stack.layers = nn.ModuleList(PackedLayer(layer, make_map) for layer in stack.layers)
    if getattr(model, "head", None) is None:
        packed.tokens = PackedEmbedding(model.tokens.weight.detach(), make_map)
    else:
        del packed.head
        packed.head = PackedEmbedding(model.head.weight.detach(), make_map).logits
    return packed


class PackedLayer(nn.Module):
    """What a `TransformerLayer` computes in evaluation, with the same arguments."""

    def __init__(self, layer: TransformerLayer, make_map: MakeMap) -> None:
        super().__init__()
        self.cache_sizes, self.cross_attention = layer.cache_sizes, layer.cross_attention
        wrapped = [layer.self_attention, layer.cross_attention, layer.feed_forward]
        self.is_post_norm = isinstance(layer.feed_forward, PostNorm)
        kinds = [PackedSelfAttention, PackedCrossAttention, PackedFeedForward]
        self.sublayers = [
            (kind(each.sublayer, make_map), packed_norm(each.norm))
            for kind, each in zip(kinds, wrapped, strict=True)
            if each is not None
        ]

    def forward(
        self, hidden: Float[Tensor, "batch tokens hidden"], **options: Any
    ) -> Float[Tensor, "batch tokens hidden"]:
        """The residual stream after this layer."""
        x, step = hidden.flatten(end_dim=1), PackedStep(len(hidden), **options)
        for sublayer, norm in self.sublayers:
            x = norm(x + sublayer(x, step)) if self.is_post_norm else x + sublayer(norm(x), step)
        return x.view(hidden.shape)


@dataclass
class PackedStep:
    """What a layer is given beside the hidden states: see `MultiHeadAttention.forward`."""

    batch_size: int
    mask: Bool[Tensor, "..."] | None = None
    bias: Float[Tensor, "..."] | None = None
    is_causal: bool = False
    rotary: Callable[[Tensor], Tensor] | None = None
    cache: KVCache | None = None
    cross: dict[str, Any] | None = None

    def by_sequence(self, x: Rows) -> Float[Tensor, "batch tokens _"]:
        """Rows, one sequence after the other, with an axis for the sequences."""
        return x.view(self.batch_size, -1, x.shape[1])


class PackedSelfAttention:
    """Self-attention; queries, keys and values are one product, and are turned in one."""

    def __init__(self, attention: MultiHeadAttention, make_map: MakeMap) -> None:
        self.heads, self.groups = attention.num_attention_heads, attention.num_key_value_heads
        self.scale = attention.scale
        projections = attention.query, attention.key, attention.value
        self.query_key_value = packed_map(make_map, *projections)
        self.output = packed_map(make_map, attention.output)

    def __call__(self, x: Rows, step: PackedStep) -> Rows:
        """What attention adds to each row."""
        heads, groups = self.heads, self.groups
        together = step.by_sequence(self.query_key_value(x))
        together = split_heads(together, heads + 2 * groups)
        if step.rotary is None:
            q, k, v = together.split_with_sizes((heads, groups, groups), dim=1)
        else:
            qk, v = together.split_with_sizes((heads + groups, groups), dim=1)
            q, k = step.rotary(qk).split_with_sizes((heads, groups), dim=1)
        mask, is_causal = step.mask, step.is_causal
        if step.cache is not None:
            k, v = step.cache.append(k, v)
            mask, is_causal = intersect(mask, step.cache.mask(q.shape[2])), False
        options = {"bias": step.bias, "is_causal": is_causal, "scale": self.scale}
        heads_out = fused_dot_product_attention(q, k, v, mask, **options)
        return self.output(merge_heads(heads_out).flatten(end_dim=1))


class PackedCrossAttention:
    """Attention to keys and values that are there before the first step."""

    def __init__(self, attention: MultiHeadAttention, make_map: MakeMap) -> None:
        self.heads, self.scale = attention.num_attention_heads, attention.scale
        self.query = packed_map(make_map, attention.query)
        self.output = packed_map(make_map, attention.output)

    def __call__(self, x: Rows, step: PackedStep) -> Rows:
        """What attention adds to each row."""
        q = split_heads(step.by_sequence(self.query(x)), self.heads)
        k, v = step.cross["keys_values"]
        heads = fused_dot_product_attention(q, k, v, step.cross["mask"], scale=self.scale)
        return self.output(merge_heads(heads).flatten(end_dim=1))


class PackedFeedForward:
    """The feed-forward network, with its gate if it has one."""

    def __init__(self, feed_forward: FeedForward, make_map: MakeMap) -> None:
        gate = feed_forward.gate
        self.gate = None if gate is None else packed_map(make_map, gate)
        self.up = packed_map(make_map, feed_forward.up)
        self.down = packed_map(make_map, feed_forward.down)
        self.activation = feed_forward.activation

    def __call__(self, x: Rows, step: PackedStep) -> Rows:
        """What the network adds to each row."""
        if self.gate is None:
            return self.down(self.activation(self.up(x)))
        return self.down(self.activation(self.gate(x)) * self.up(x))


def packed_map(make_map: MakeMap, *maps: nn.Linear) -> PackedMap:
    """One map with the outputs of all of these, one after the other."""
    weight = torch.cat([each.weight.detach() for each in maps])
    if maps[0].bias is None:
        return make_map(weight, None)
    return make_map(weight, torch.cat([each.bias.detach() for each in maps]))


def packed_norm(norm: nn.Module) -> Callable[[Rows], Rows]:
    """The norm as a function. RMSNorm in four calls, where torch's own on a CPU makes eight."""
    if not isinstance(norm, LayerNorm | RMSNorm):
        raise ValueError(f"expected LayerNorm or RMSNorm to pack, got {type(norm).__name__}")
    weight = norm.weight.detach()
    if isinstance(norm, LayerNorm):
        bias = norm.bias.detach()
        return lambda x: functional.layer_norm(x, weight.shape, weight, bias, norm.eps)
    # √n x / √(Σx² + n eps), and hypot(a, b) is √(a² + b²).
    gain, floor = weight * sqrt(len(weight)), torch.tensor(sqrt(len(weight) * norm.eps)).to(weight)

    def rms_norm(x: Rows) -> Rows:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return x / torch.hypot(length, floor) * gain

    return rms_norm
