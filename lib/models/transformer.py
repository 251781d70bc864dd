"""The original Transformer (Vaswani et al., 2017): an encoder and a decoder, for translation.

Post-norm with LayerNorm, sinusoidal positions added to embeddings that are scaled by √hidden_size,
ReLU, one matrix for both embeddings and the output.
"""

from functools import partial
from math import sqrt

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lib.attention.multi_head import MultiHeadAttention
from lib.dropout import Dropout
from lib.models.configs import TransformerConfig
from lib.models.embeddings import TokenEmbedding
from lib.models.encoder_decoder import EncoderDecoderModel
from lib.models.feed_forward import FeedForward
from lib.models.initialise import initialise_xavier
from lib.models.layer import (
    Caches,
    TransformerLayer,
    next_positions,
    run_layers,
)
from lib.models.norms import LayerNorm
from lib.models.residual import PostNorm
from lib.positions.sinusoidal import sinusoidal_table


class TransformerStack(nn.Module):
    """The encoder, or the decoder: its layers."""

    def __init__(self, config: TransformerConfig, *, decoder: bool) -> None:
        super().__init__()
        self.config, self.decoder = config, decoder
        self.layers = nn.ModuleList(self.make_layer() for _ in range(config.num_layers))

    def make_layer(self) -> TransformerLayer:
        """Self-attention, in the decoder cross-attention, and the feed-forward network."""
        c = self.config
        norm = partial(LayerNorm, c.hidden_size, c.eps)
        attention = partial(
            MultiHeadAttention, c.hidden_size, c.num_attention_heads, dropout=c.dropout
        )
        return TransformerLayer(
            partial(PostNorm, norm=norm, dropout=c.dropout),
            attention(),
            FeedForward(c.hidden_size, c.intermediate_size, activation="relu", dropout=c.dropout),
            cross_attention=attention() if self.decoder else None,
        )

    def forward(
        self,
        hidden: Float[Tensor, "batch tokens hidden"],
        mask: Bool[Tensor, "..."] | None = None,
        caches: Caches = None,
        **cross: object,
    ) -> Float[Tensor, "batch tokens hidden"]:
        """The stack's output. `cross` is what the decoder reads of the encoder, with its mask."""
        return run_layers(self.layers, hidden, caches, mask=mask, is_causal=self.decoder, **cross)


class Transformer(EncoderDecoderModel):
    """Ids of the input and of the target so far to the logits of the target's next tokens."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = TokenEmbedding(config.vocab_size, config.hidden_size)
        self.dropout = Dropout(config.dropout)
        self.encoder = TransformerStack(config, decoder=False)
        self.decoder = TransformerStack(config, decoder=True)
        initialise_xavier(self)

    def embed(
        self, ids: Int[Tensor, "batch tokens"], caches: Caches = None
    ) -> Float[Tensor, "batch tokens hidden"]:
        """The tokens' vectors, scaled, plus those of their positions."""
        hidden = self.tokens(ids) * sqrt(self.config.hidden_size)
        positions = next_positions(ids, caches)
        table = sinusoidal_table(int(positions.max()) + 1, self.config.hidden_size)
        return self.dropout(hidden + table.to(hidden)[positions])

    def logits(self, hidden: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch vocab"]:
        """Scores of all tokens, by the matrix that embeds them."""
        return self.tokens.logits(hidden)
