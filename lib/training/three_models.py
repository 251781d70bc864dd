"""BERT, GPT-2 and T5 in one small size, each with its own objective: what the experiments compare.

What a model is made of, how a window of text becomes a question, and what the loss is: the table
`ARCHITECTURES` says it for each of the three, and all else is the same for all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lib.data.tokenizer_training import END_OF_TEXT, sentinel_ids
from lib.models.bert import Bert
from lib.models.configs import BertConfig, GptConfig, T5Config
from lib.models.gpt2 import Gpt2
from lib.models.heads import BertForPreTraining
from lib.models.t5 import T5
from lib.objectives import (
    IGNORE_INDEX,
    MaskedLMCollator,
    MaskingVocabulary,
    next_tokens,
    span_corruption,
)

Windows = Int[Tensor, "batch seq_len"]


@dataclass(frozen=True)
class ModelSize:
    """The size that the three models share; `num_layers` is even, T5 has half of them twice."""

    vocab_size: int
    hidden_size: int = 128
    num_layers: int = 4
    num_attention_heads: int = 4
    max_positions: int = 128
    dropout: float = 0.1

    def shared(self) -> dict[str, Any]:
        """What the configurations of all three call by the same name."""
        names = ("vocab_size", "hidden_size", "num_attention_heads", "dropout")
        return {name: getattr(self, name) for name in names}


class Architecture(NamedTuple):
    """One of the three: its model, its questions about a window of text, its loss, its features.

    `make_collate` takes a tokenizer to a function of windows and a generator; `features` are the
    last hidden states, (batch, tokens, hidden_size), of what reads the text: in T5, the encoder.
    """

    make: Callable[[ModelSize], nn.Module]
    make_collate: Callable[[Any], Callable[[Tensor, torch.Generator], Any]]
    loss: Callable[[nn.Module, Any], Tensor]
    features: Callable[[nn.Module, Tensor, Tensor], Tensor]


def make_architecture(name: str, size: ModelSize, *, seed: int) -> nn.Module:
    """The model of this name in this size, its weights drawn from the seed.

    torch's own generator is left as it was. Raises `ValueError` for a name not in `ARCHITECTURES`.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"no architecture {name!r}; there are {', '.join(ARCHITECTURES)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ARCHITECTURES[name].make(size)


def _make_bert(size: ModelSize) -> nn.Module:
    config = BertConfig(
        **size.shared(),
        num_layers=size.num_layers,
        intermediate_size=4 * size.hidden_size,
        max_positions=size.max_positions,
    )
    return BertForPreTraining(Bert(config))


def _make_gpt2(size: ModelSize) -> nn.Module:
    config = GptConfig(
        **size.shared(),
        num_layers=size.num_layers,
        intermediate_size=4 * size.hidden_size,
        max_positions=size.max_positions,
    )
    return Gpt2(config)


def _make_t5(size: ModelSize) -> nn.Module:
    """Cross-attention costs 4 hidden_size² more a layer: 3 for 4 in the width makes up for it."""
    config = T5Config(
        **size.shared(),
        num_layers=size.num_layers // 2,
        head_dim=size.hidden_size // size.num_attention_heads,
        intermediate_size=3 * size.hidden_size,
    )
    return T5(config)


def _masked_tokens(tokenizer: Any) -> Callable[[Tensor, torch.Generator], Any]:
    special = ("[PAD]", END_OF_TEXT)
    vocabulary = MaskingVocabulary(
        tokenizer.get_vocab_size(),
        mask=tokenizer.token_to_id("[MASK]"),
        special=[*map(tokenizer.token_to_id, special), *sentinel_ids(tokenizer)],
    )
    collate = MaskedLMCollator(vocabulary)
    return lambda windows, generator: collate(windows, generator=generator)


def _next_tokens(tokenizer: Any) -> Callable[[Tensor, torch.Generator], Any]:
    return lambda windows, generator: next_tokens(windows)


def _spans(tokenizer: Any) -> Callable[[Tensor, torch.Generator], Any]:
    sentinels, end = sentinel_ids(tokenizer), tokenizer.token_to_id(END_OF_TEXT)
    start = tokenizer.token_to_id("[PAD]")
    return lambda windows, generator: span_corruption(
        windows, sentinels, end=end, start=start, generator=generator
    )


def _masked_loss(model: nn.Module, batch: Any) -> Float[Tensor, ""]:
    chosen = batch.labels != IGNORE_INDEX
    logits, _ = model(batch.inputs, chosen=chosen)
    return F.cross_entropy(logits, batch.labels[chosen])


def _cross_entropy(logits: Tensor, labels: Tensor) -> Float[Tensor, ""]:
    """Of all places, one below the other: the kernel wants the vocabulary in its last axis.

    Given `logits.mT` it takes three times as long on a CPU.
    """
    return F.cross_entropy(logits.flatten(end_dim=1), labels.flatten())


def _next_token_loss(model: nn.Module, batch: Any) -> Float[Tensor, ""]:
    return _cross_entropy(model(batch.inputs), batch.labels)


def _span_loss(model: nn.Module, batch: Any) -> Float[Tensor, ""]:
    return _cross_entropy(model(batch.inputs, batch.decoder_inputs), batch.targets)


def _bert_features(model: nn.Module, ids: Tensor, mask: Bool[Tensor, "..."]) -> Tensor:
    return model.bert(ids, mask=mask)


def _gpt2_features(model: nn.Module, ids: Tensor, mask: Bool[Tensor, "..."]) -> Tensor:
    return model.hidden_states(ids, mask)


def _t5_features(model: nn.Module, ids: Tensor, mask: Bool[Tensor, "..."]) -> Tensor:
    return model.encoder(model.embed(ids), mask)


ARCHITECTURES = {
    "bert": Architecture(_make_bert, _masked_tokens, _masked_loss, _bert_features),
    "gpt2": Architecture(_make_gpt2, _next_tokens, _next_token_loss, _gpt2_features),
    "t5": Architecture(_make_t5, _spans, _span_loss, _t5_features),
}
"""The three, by the names that the commands take."""
