"""ELECTRA (Clark et al., 2020): BERT asked of every token whether it has been replaced.

A small generator fills in masked tokens; this model, the discriminator, finds out which. Every
place teaches it, not only the 15 % that are masked.
"""

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from lib.models.bert import Bert
from lib.models.initialise import initialise_normal


class Electra(nn.Module):
    """BERT and a head of two maps. A logit above 0 says that the token has been replaced."""

    def __init__(self, bert: Bert) -> None:
        super().__init__()
        self.config = bert.config
        self.bert = bert
        self.transform = nn.Linear(bert.config.hidden_size, bert.config.hidden_size)
        self.replaced = nn.Linear(bert.config.hidden_size, 1)
        initialise_normal(self.transform)
        initialise_normal(self.replaced)

    def forward(
        self,
        ids: Int[Tensor, "batch tokens"],
        segments: Int[Tensor, "batch tokens"] | None = None,
        mask: Bool[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "batch tokens"]:
        """The logit of each token. `mask` hides padding."""
        hidden = functional.gelu(self.transform(self.bert(ids, segments, mask)))
        return self.replaced(hidden)[..., 0]
