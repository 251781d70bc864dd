"""Tensor parallelism: every rank has a part of every matrix (Megatron-LM, Shoeybi et al., 2019).

The first matrix of a sublayer is cut by columns, so that each rank computes some of the heads or
some of the feed-forward width, and applies the softmax or the activation to them by itself. The
second is cut by rows and takes what the rank has; the results add up to the sublayer's. One sum
over ranks at its end, one of the gradient at its beginning: nothing else is sent. Norms, positions
and the biases of the second matrix are the same on all ranks, and so are their gradients.
"""

import copy
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from lib.attention.multi_head import MultiHeadAttention
from lib.memory.sizes import check_divides
from lib.models.decoder_only import DecoderOnlyModel
from lib.models.feed_forward import FeedForward
from lib.models.layer import TransformerLayer
from lib.parallel.conjugate import copy_to_ranks, sum_over_ranks
from lib.parallel.group import RankGroup
from lib.parallel.vocabulary_parallel import VocabularyParallelEmbedding

Model = TypeVar("Model", bound=DecoderOnlyModel)


def split_tensors(group: RankGroup, model: Model) -> Model:
    """This rank's part of a model: a copy, run and trained on all ranks with the same batch.

    The copy is a model of the same kind, whose logits are those of this rank's part of the
    vocabulary: `vocabulary_parallel_cross_entropy` is the loss.

    Raises `ValueError` for ranks that do not divide the heads, the key-value heads, the
    feed-forward width or the vocabulary; for a model that does not score tokens with the matrix
    that embeds them; and for dropout: each rank would drop other elements of the residual stream,
    which must be the same on all.
    """
    _check_no_dropout(model)
    if getattr(model, "head", None) is not None:
        raise ValueError(
            "the model scores tokens with a head of its own; expected a tied embedding"
        )
    part = copy.deepcopy(model)
    part.tokens = VocabularyParallelEmbedding(group, model.tokens)
    for layer in part.modules():
        if isinstance(layer, TransformerLayer):
            attention, feed_forward = layer.self_attention, layer.feed_forward
            attention.sublayer = split_attention(group, attention.sublayer)
            feed_forward.sublayer = split_feed_forward(group, feed_forward.sublayer)
    return part


def split_attention(group: RankGroup, attention: MultiHeadAttention) -> nn.Module:
    """This rank's heads: the columns of queries, keys and values, the rows of the output.

    Raises `ValueError` for ranks that do not divide the heads or the key-value heads.
    """
    part = copy.deepcopy(attention)
    for heads in ("num_attention_heads", "num_key_value_heads"):
        check_divides("the number of ranks", group.size, heads, getattr(attention, heads))
        setattr(part, heads, getattr(attention, heads) // group.size)
    for name in ("query", "key", "value"):
        setattr(part, name, column_parallel(group, getattr(attention, name)))
    part.output = RowParallelLinear(group, attention.output)
    return _Split(group, part)


def split_feed_forward(group: RankGroup, feed_forward: FeedForward) -> nn.Module:
    """This rank's part of the width: columns of the way out (and its gate), rows of the way back.

    Raises `ValueError` for ranks that do not divide the width.
    """
    width = feed_forward.up.out_features
    check_divides("the number of ranks", group.size, "intermediate_size", width)
    part = copy.deepcopy(feed_forward)
    part.up = column_parallel(group, feed_forward.up)
    if feed_forward.gate is not None:
        part.gate = column_parallel(group, feed_forward.gate)
    part.down = RowParallelLinear(group, feed_forward.down)
    return _Split(group, part)


def column_parallel(group: RankGroup, linear: nn.Linear) -> nn.Linear:
    """The map to this rank's part of the outputs. (PyTorch keeps a matrix's columns as rows.)"""
    part = copy.deepcopy(linear)
    part.out_features = linear.out_features // group.size
    part.weight = own_slice(group, linear.weight, dim=0)
    if linear.bias is not None:
        part.bias = own_slice(group, linear.bias, dim=0)
    return part


class RowParallelLinear(nn.Module):
    """The map from this rank's part of the inputs, summed over ranks; the bias is added once."""

    def __init__(self, group: RankGroup, linear: nn.Linear) -> None:
        super().__init__()
        self.group = group
        self.weight = own_slice(group, linear.weight, dim=1)
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.detach().clone())

    def forward(self, x: Float[Tensor, "*batch own_inputs"]) -> Float[Tensor, "*batch outputs"]:
        """The same on every rank."""
        total = sum_over_ranks(self.group, functional.linear(x, self.weight))
        return total if self.bias is None else total + self.bias


def own_slice(group: RankGroup, tensor: Tensor, dim: int) -> nn.Parameter:
    """This rank's part of a tensor along one of its dimensions, as a parameter of its own."""
    return nn.Parameter(torch.chunk(tensor.detach(), group.size, dim)[group.index].clone())


class _Split(nn.Module):
    """A sublayer of which every rank has a part, behind f. Its own last matrix ends with g."""

    def __init__(self, group: RankGroup, part: nn.Module) -> None:
        super().__init__()
        self.group, self.part = group, part

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        return self.part(copy_to_ranks(self.group, x), **options)


def _check_no_dropout(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout | MultiHeadAttention):
            dropout = module.p if isinstance(module, nn.Dropout) else module.dropout
            if dropout > 0:
                raise ValueError(
                    f"tensor parallelism here needs a dropout of 0, got {dropout}: each rank "
                    "would drop other elements of the same residual stream"
                )
