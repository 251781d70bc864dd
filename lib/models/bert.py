"""BERT (Devlin et al., 2019): the encoder. Every token sees every token.

Post-norm, learned positions, segments, GELU. What is masked is the input, not the attention.
"""

from functools import partial

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lib.attention.multi_head import MultiHeadAttention
from lib.dropout import Dropout
from lib.models.configs import BertConfig
from lib.models.embeddings import TokenEmbedding
from lib.models.feed_forward import FeedForward
from lib.models.initialise import initialise_normal
from lib.models.layer import TransformerLayer, next_positions, run_layers
from lib.models.norms import LayerNorm
from lib.models.residual import PostNorm
from lib.positions.learned import LearnedPositions


class Bert(nn.Module):
    """Token ids (batch, tokens) to hidden states (batch, tokens, hidden_size)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = TokenEmbedding(config.vocab_size, config.hidden_size)
        self.positions = LearnedPositions(config.max_positions, config.hidden_size)
        self.segments = TokenEmbedding(config.num_segments, config.hidden_size)
        self.norm = LayerNorm(config.hidden_size, config.eps)
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(bert_layer(config) for _ in range(config.num_layers))
        initialise_normal(self)

    def forward(
        self,
        ids: Int[Tensor, "batch tokens"],
        segments: Int[Tensor, "batch tokens"] | None = None,
        mask: Bool[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "batch tokens hidden"]:
        """The hidden states of the last layer. `mask` hides padding: `masks.padding(lengths)`."""
        segments = ids.new_zeros(ids.shape) if segments is None else segments
        hidden = self.tokens(ids) + self.positions(next_positions(ids)) + self.segments(segments)
        return run_layers(self.layers, self.dropout(self.norm(hidden)), mask=mask)


def bert_layer(config: BertConfig) -> TransformerLayer:
    """Attention and feed-forward network, each with its norm after the sum."""
    norm = partial(LayerNorm, config.hidden_size, config.eps)
    return TransformerLayer(
        partial(PostNorm, norm=norm, dropout=config.dropout),
        MultiHeadAttention(config.hidden_size, config.num_attention_heads, dropout=config.dropout),
        FeedForward(config.hidden_size, config.intermediate_size, activation=config.activation),
    )
