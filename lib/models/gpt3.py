"""GPT-3 (Brown et al., 2020): GPT-2, larger, and every second layer looks only near by.

The paper names the pattern, "alternating dense and locally banded sparse attention" as in the
Sparse Transformer (Child et al., 2019). How wide the band is it does not say.
"""

from jaxtyping import Bool, Float, Int
from torch import Tensor

from lib.attention.dot_product import intersect
from lib.masks import sliding_window
from lib.models.gpt2 import Gpt2
from lib.models.layer import Caches


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
        queries = ids.shape[1]
        keys = queries + (caches[0].length if caches else 0)
        band = sliding_window(queries, keys, window=self.config.window).to(ids.device)
        masks = mask, intersect(mask, band)
        for index, layer in enumerate(self.layers):
            cache = caches[index] if caches else None
            hidden = layer(hidden, mask=masks[index % 2], is_causal=True, cache=cache)
        return self.norm(hidden)
