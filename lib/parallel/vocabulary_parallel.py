"""The vocabulary divided among ranks: embedding, scores and cross-entropy without whole logits.

The logits of a batch are its largest tensor. Each rank computes those of its own tokens, and three
numbers a token are all that the cross-entropy has to send (Shoeybi et al., 2019).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from lib.memory.sizes import check_divides
from lib.models.embeddings import TokenEmbedding
from lib.parallel.conjugate import copy_to_ranks, sum_over_ranks
from lib.parallel.group import RankGroup
from lib.parallel.ring import ring_all_reduce


class VocabularyParallelEmbedding(nn.Module):
    """This rank's rows of a `TokenEmbedding`, which it can stand for.

    Raises `ValueError` for ranks that do not divide the vocabulary.
    """

    def __init__(self, group: RankGroup, embedding: TokenEmbedding) -> None:
        super().__init__()
        check_divides("the number of ranks", group.size, "vocab_size", embedding.num_embeddings)
        self.group = group
        self.weight = nn.Parameter(embedding.weight.detach().chunk(group.size)[group.index].clone())

    def forward(self, ids: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch hidden"]:
        """The row of each id: zeros from all ranks but the one that has it, added up.

        Raises `ValueError` for an id that no rank has.
        """
        places, is_own = own_places(self.group, ids, len(self.weight))
        rows = functional.embedding(places, self.weight) * is_own.unsqueeze(-1)
        return sum_over_ranks(self.group, rows)

    def logits(self, hidden: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch own_vocab"]:
        """The scores of this rank's tokens."""
        return functional.linear(copy_to_ranks(self.group, hidden), self.weight)


def vocabulary_parallel_cross_entropy(
    group: RankGroup,
    logits: Float[Tensor, "*batch own_vocab"],
    targets: Int[Tensor, "*batch"],
) -> Float[Tensor, ""]:
    """Mean of log Σ exp(logits) - the target's logit, from each rank's part of the logits.

    Raises `ValueError` for a target that no rank has.
    """
    places, is_own = own_places(group, targets, logits.shape[-1])
    largest = logits.detach().amax(dim=-1)
    ring_all_reduce(group, largest, torch.maximum)
    shifted = logits - largest.unsqueeze(-1)
    total = sum_over_ranks(group, shifted.exp().sum(dim=-1))
    own = shifted.gather(-1, places.unsqueeze(-1)).squeeze(-1) * is_own
    return (total.log() - sum_over_ranks(group, own)).mean()


def own_places(
    group: RankGroup, ids: Int[Tensor, "*batch"], own_size: int
) -> tuple[Int[Tensor, "*batch"], Tensor]:
    """Where the ids stand among this rank's `own_size` tokens, and which of them do (else 0).

    Raises `ValueError` for an id that no rank has.
    """
    vocab_size = own_size * group.size
    if ids.min() < 0 or ids.max() >= vocab_size:
        raise ValueError(
            f"token ids must lie between 0 and {vocab_size - 1}, "
            f"got ids from {ids.min()} to {ids.max()}"
        )
    places = ids - group.index * own_size
    is_own = (places >= 0) & (places < own_size)
    return places * is_own, is_own
