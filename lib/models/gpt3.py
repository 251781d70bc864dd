"""GPT-3 (Brown et al., 2020): GPT-2, larger, and every second layer looks only near by.

The paper names the pattern, "alternating dense and locally banded sparse attention" as in the
Sparse Transformer (Child et al., 2019). How wide the band is it does not say.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lib.attention.dot_product import intersect
from lib.models.gpt2 import Gpt2
from lib.models.layer import Caches, next_positions


class Gpt3(Gpt2):
    """Token ids (batch, tokens) to the logits of the token after each, (batch, tokens, vocab).

    `config.window` is the width of the band. The caches must hold all tokens at their places.
    """

    def hidden_states(
        self,
        ids: Int[Tensor, "batch tokens"],
        mask: Bool[Tensor, "..."] | None = None,
        caches: Caches = None,
    ) -> Float[Tensor, "batch tokens hidden"]:
        """The last layer's hidden states, normalised. With `caches`, `ids` are the new tokens."""
        hidden = self.embed(ids, caches)
        masks = mask, intersect(mask, self._band(ids, caches))
        for index, layer in enumerate(self.layers):
            cache = caches[index] if caches else None
            hidden = layer(hidden, mask=masks[index % 2], is_causal=True, cache=cache)
        return self.norm(hidden)

    def _band(self, ids: Tensor, caches: Caches) -> Bool[Tensor, "*batch queries keys"]:
        """`sliding_window` by the places in each sequence, which differ in a ragged batch."""
        places = next_positions(ids, caches)[..., None]
        keys = torch.arange(ids.shape[1] + (caches[0].length if caches else 0), device=ids.device)
        band = (keys <= places) & (keys > places - self.config.window)
        return band if band.ndim == 2 else band[:, None]
