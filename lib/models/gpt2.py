"""GPT-2 (Radford et al., 2019): the decoder. Every token sees itself and those before it.

Pre-norm with one more norm at the end, learned positions, GELU by tanh, one matrix for both ends.
"""

from functools import partial

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lib.attention.multi_head import MultiHeadAttention
from lib.dropout import Dropout
from lib.models.configs import GptConfig
from lib.models.decoder_only import DecoderOnlyModel
from lib.models.embeddings import TokenEmbedding
from lib.models.feed_forward import FeedForward
from lib.models.initialise import initialise_normal, scale_residual_projections
from lib.models.layer import Caches, TransformerLayer, next_positions, run_layers
from lib.models.norms import LayerNorm
from lib.models.residual import PreNorm
from lib.positions.learned import LearnedPositions


class Gpt2(DecoderOnlyModel):
    """Token ids (batch, tokens) to the logits of the token after each, (batch, tokens, vocab)."""

    def __init__(self, config: GptConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = TokenEmbedding(config.vocab_size, config.hidden_size)
        self.positions = LearnedPositions(config.max_positions, config.hidden_size)
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(self.make_layer() for _ in range(config.num_layers))
        self.norm = LayerNorm(config.hidden_size, config.eps)
        initialise_normal(self)
        scale_residual_projections(self, config.num_layers)

    def make_layer(self) -> TransformerLayer:
        """Attention and feed-forward network, each with its norm before it."""
        c = self.config
        norm = partial(LayerNorm, c.hidden_size, c.eps)
        return TransformerLayer(
            partial(PreNorm, norm=norm, dropout=c.dropout),
            MultiHeadAttention(c.hidden_size, c.num_attention_heads, dropout=c.dropout),
            FeedForward(c.hidden_size, c.intermediate_size, activation="gelu_tanh"),
        )

    def embed(
        self, ids: Int[Tensor, "batch tokens"], caches: Caches = None
    ) -> Float[Tensor, "batch tokens hidden"]:
        """The tokens' vectors, plus those of their positions. With `caches`, `ids` are the new."""
        return self.dropout(self.tokens(ids) + self.positions(next_positions(ids, caches)))

    def hidden_states(
        self,
        ids: Int[Tensor, "batch tokens"],
        mask: Bool[Tensor, "..."] | None = None,
        caches: Caches = None,
    ) -> Float[Tensor, "batch tokens hidden"]:
        """The last layer's hidden states, normalised. With `caches`, `ids` are the new tokens."""
        hidden = self.embed(ids, caches)
        return self.norm(run_layers(self.layers, hidden, caches, mask=mask, is_causal=True))

    def logits(self, hidden: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch vocab"]:
        """Scores of all tokens, by the matrix that embeds them."""
        return self.tokens.logits(hidden)
