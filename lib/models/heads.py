"""What is put on top of BERT: heads for masked tokens, sentence pairs, whole texts, tokens."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from lib.dropout import Dropout
from lib.memory.sizes import check_sizes
from lib.models.bert import Bert
from lib.models.initialise import initialise_normal
from lib.models.norms import LayerNorm


class MaskedTokenHead(nn.Module):
    """Hidden states to logits over the vocabulary, through the matrix that also embeds the tokens.

    A transformation, a norm, and a bias of its own lie between. Only 15 % of the places are asked
    for in pre-training: hand over those alone, (places, hidden_size), and the largest product of
    the model shrinks to a sixth.
    """

    def __init__(self, bert: Bert) -> None:
        super().__init__()
        hidden_size, eps = bert.config.hidden_size, bert.config.eps
        self.transform = nn.Linear(hidden_size, hidden_size)
        self.norm = LayerNorm(hidden_size, eps)
        self.bias = nn.Parameter(torch.zeros(bert.config.vocab_size))
        initialise_normal(self)

    def forward(
        self, hidden: Float[Tensor, "*batch hidden"], tokens: nn.Embedding
    ) -> Float[Tensor, "*batch vocab"]:
        """Logits; `tokens` is the model's own embedding."""
        hidden = self.norm(functional.gelu(self.transform(hidden)))
        return functional.linear(hidden, tokens.weight, self.bias)


class Pooler(nn.Module):
    """tanh of a linear map of the first token, [CLS], which stands for the whole text."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.map = nn.Linear(hidden_size, hidden_size)
        initialise_normal(self)

    def forward(
        self, hidden: Float[Tensor, "batch tokens hidden"]
    ) -> Float[Tensor, "batch hidden"]:
        """(batch, tokens, hidden_size) to (batch, hidden_size)."""
        return torch.tanh(self.map(hidden[:, 0]))


class BertForPreTraining(nn.Module):
    """BERT with its two objectives: masked tokens, and whether the second sentence came next."""

    def __init__(self, bert: Bert) -> None:
        super().__init__()
        self.config = bert.config
        self.bert, self.masked_tokens = bert, MaskedTokenHead(bert)
        self.pooler = Pooler(bert.config.hidden_size)
        self.next_sentence = nn.Linear(bert.config.hidden_size, 2)
        initialise_normal(self.next_sentence)

    def forward(
        self,
        ids: Int[Tensor, "batch tokens"],
        segments: Int[Tensor, "batch tokens"] | None = None,
        mask: Bool[Tensor, "..."] | None = None,
        chosen: Bool[Tensor, "batch tokens"] | None = None,
    ) -> tuple[Float[Tensor, "*places vocab"], Float[Tensor, "batch 2"]]:
        """Logits of the tokens, and of the pair: index 0 means that the sentences belong together.

        With `chosen`, the token logits are those of the chosen places alone, (places, vocab).
        """
        hidden = self.bert(ids, segments, mask)
        asked = hidden if chosen is None else hidden[chosen]
        logits = self.masked_tokens(asked, self.bert.tokens)
        return logits, self.next_sentence(self.pooler(hidden))


class _BertClassifier(nn.Module):
    """BERT, what it pools, and one linear map to the logits of the classes."""

    def __init__(self, bert: Bert, num_classes: int, pooler: nn.Module) -> None:
        super().__init__()
        check_sizes(num_classes=num_classes)
        self.config = bert.config
        self.bert, self.pooler = bert, pooler
        self.dropout = Dropout(bert.config.dropout)
        self.classifier = nn.Linear(bert.config.hidden_size, num_classes)
        initialise_normal(self.classifier)

    def forward(
        self,
        ids: Int[Tensor, "batch tokens"],
        segments: Int[Tensor, "batch tokens"] | None = None,
        mask: Bool[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "batch *tokens classes"]:
        """The logits of the classes, for each text or for each token."""
        return self.classifier(self.dropout(self.pooler(self.bert(ids, segments, mask))))


class BertForSequenceClassification(_BertClassifier):
    """BERT fine-tuned: a class for each text, from the pooled [CLS]. (batch, num_classes)."""

    def __init__(self, bert: Bert, num_classes: int) -> None:
        super().__init__(bert, num_classes, Pooler(bert.config.hidden_size))


class BertForTokenClassification(_BertClassifier):
    """BERT fine-tuned: a class for each token. (batch, tokens, num_classes)."""

    def __init__(self, bert: Bert, num_classes: int) -> None:
        super().__init__(bert, num_classes, nn.Identity())
