"""What decoder-only models share: tokens in, the logits of the next token out."""

from abc import ABC, abstractmethod

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lib.models.layer import Caches


class DecoderOnlyModel(nn.Module, ABC):
    """Token ids (batch, tokens) to the logits of the token after each, (batch, tokens, vocab)."""

    @abstractmethod
    def hidden_states(
        self,
        ids: Int[Tensor, "batch tokens"],
        mask: Bool[Tensor, "..."] | None = None,
        caches: Caches = None,
    ) -> Float[Tensor, "batch tokens hidden"]:
        """The last layer's hidden states, normalised. With `caches`, `ids` are the new tokens."""

    @abstractmethod
    def logits(self, hidden: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch vocab"]:
        """The score of every token of the vocabulary."""

    def forward(
        self,
        ids: Int[Tensor, "batch tokens"],
        mask: Bool[Tensor, "..."] | None = None,
        caches: Caches = None,
    ) -> Float[Tensor, "batch tokens vocab"]:
        """The logits of the next token at each place. `mask` hides padding, or more."""
        return self.logits(self.hidden_states(ids, mask, caches))
