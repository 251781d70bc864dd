"""GPT-1 (Radford et al., 2018): GPT-2 with the norm after each sum, and so none at the end."""

from functools import partial

from torch import nn

from lib.attention.multi_head import MultiHeadAttention
from lib.models.configs import Gpt1Config
from lib.models.feed_forward import FeedForward
from lib.models.gpt2 import Gpt2
from lib.models.initialise import initialise_normal
from lib.models.layer import TransformerLayer
from lib.models.norms import LayerNorm
from lib.models.residual import PostNorm


class Gpt1(Gpt2):
    """Token ids (batch, tokens) to the logits of the token after each, (batch, tokens, vocab)."""

    def __init__(self, config: Gpt1Config) -> None:
        super().__init__(config)
        self.norm = nn.Identity()
        # Scaling the residual projections by the depth came with GPT-2.
        initialise_normal(self)

    def make_layer(self) -> TransformerLayer:
        """Attention and feed-forward network, each with its norm after the sum."""
        c = self.config
        norm = partial(LayerNorm, c.hidden_size, c.eps)
        return TransformerLayer(
            partial(PostNorm, norm=norm, dropout=c.dropout),
            MultiHeadAttention(c.hidden_size, c.num_attention_heads, dropout=c.dropout),
            FeedForward(c.hidden_size, c.intermediate_size, activation="gelu_tanh"),
        )
