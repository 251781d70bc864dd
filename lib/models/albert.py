"""ALBERT (Lan et al., 2020): BERT with one layer for all, and narrow embeddings.

The layer's parameters are shared over the whole depth, so that there are 12 times fewer; as much
is computed as before. Words have few numbers of their own, and one matrix widens them.
"""

from itertools import repeat

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lib.dropout import Dropout
from lib.models.bert import bert_layer
from lib.models.configs import AlbertConfig
from lib.models.embeddings import TokenEmbedding
from lib.models.initialise import initialise_normal
from lib.models.layer import next_positions, run_layers
from lib.models.norms import LayerNorm
from lib.positions.learned import LearnedPositions


class Albert(nn.Module):
    """Token ids (batch, tokens) to hidden states (batch, tokens, hidden_size)."""

    def __init__(self, config: AlbertConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = TokenEmbedding(config.vocab_size, config.embedding_size)
        self.positions = LearnedPositions(config.max_positions, config.embedding_size)
        self.segments = TokenEmbedding(config.num_segments, config.embedding_size)
        self.norm = LayerNorm(config.embedding_size, config.eps)
        self.dropout = Dropout(config.dropout)
        self.widen = nn.Linear(config.embedding_size, config.hidden_size)
        self.layer = bert_layer(config)  # with the GELU by tanh
        initialise_normal(self)

    def forward(
        self,
        ids: Int[Tensor, "batch tokens"],
        segments: Int[Tensor, "batch tokens"] | None = None,
        mask: Bool[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "batch tokens hidden"]:
        """The hidden states after the layer has run `num_layers` times. `mask` hides padding."""
        segments = ids.new_zeros(ids.shape) if segments is None else segments
        narrow = self.tokens(ids) + self.positions(next_positions(ids)) + self.segments(segments)
        hidden = self.widen(self.dropout(self.norm(narrow)))
        return run_layers(repeat(self.layer, self.config.num_layers), hidden, mask=mask)
