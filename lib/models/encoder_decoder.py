"""What encoder-decoder models share: the encoder reads, the decoder writes and looks at it."""

from abc import ABC, abstractmethod

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lib.attention.multi_head import KeysValues
from lib.models.layer import Caches


class EncoderDecoderModel(nn.Module, ABC):
    """Ids of the input and of the target so far to the logits of the target's next tokens.

    `encoder` and `decoder` are stacks: modules with `layers`, from hidden states to hidden states.
    """

    encoder: nn.Module
    decoder: nn.Module

    @abstractmethod
    def embed(
        self, ids: Int[Tensor, "batch tokens"], caches: Caches = None
    ) -> Float[Tensor, "batch tokens hidden"]:
        """The tokens as the first layer sees them. With `caches`, `ids` are the new ones."""

    @abstractmethod
    def logits(self, hidden: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch vocab"]:
        """The score of every token of the vocabulary."""

    def encode(
        self, ids: Int[Tensor, "batch tokens"], mask: Bool[Tensor, "..."] | None = None
    ) -> list[KeysValues]:
        """Read the input, once: the keys and values for each decoder layer's cross-attention."""
        hidden = self.encoder(self.embed(ids), mask)
        readers = (layer.cross_attention.sublayer for layer in self.decoder.layers)
        return [reader.project_source(hidden) for reader in readers]

    def decode(
        self,
        ids: Int[Tensor, "batch tokens"],
        memory: list[KeysValues],
        memory_mask: Bool[Tensor, "..."] | None = None,
        caches: Caches = None,
    ) -> Float[Tensor, "batch tokens vocab"]:
        """The logits of the target's next token at each place; `memory` is what `encode` returned.

        `memory_mask` hides the input's padding. With `caches`, `ids` are the new tokens.
        Raises `ValueError` if the two are not of as many sequences.
        """
        if memory and len(memory[0][0]) != len(ids):
            raise ValueError(
                f"{len(ids)} targets cannot look at {len(memory[0][0])} inputs: one for each"
            )
        hidden = self.embed(ids, caches)
        hidden = self.decoder(hidden, caches=caches, cross=memory, cross_mask=memory_mask)
        return self.logits(hidden)

    def forward(
        self,
        ids: Int[Tensor, "batch source"],
        target_ids: Int[Tensor, "batch target"],
        mask: Bool[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "batch target vocab"]:
        """Encode `ids`, decode `target_ids`: the target, shifted by one. `mask` hides padding."""
        return self.decode(target_ids, self.encode(ids, mask), mask)
