"""Looking inside: hidden states and attention weights, of any model built from these blocks.

PyTorch lets one hook into any module's call. `watch` hooks into every layer and every attention
for as long as its `with` lasts. Outside of it nothing is recorded, and nothing is slower.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor, nn

from lib.attention.multi_head import MultiHeadAttention
from lib.models.layer import TransformerLayer


@dataclass
class Seen:
    """What the layers and attentions did, by their names in the model, in the order of the calls.

    `hidden_states`: the residual stream after each layer, (batch, tokens, hidden_size).
    `attention_weights`: (batch, num_attention_heads, queries, keys) of each attention.
    """

    hidden_states: dict[str, Tensor] = field(default_factory=dict)
    attention_weights: dict[str, Tensor] = field(default_factory=dict)


@contextmanager
def watch(model: nn.Module) -> Iterator[Seen]:
    """Record what `model` does inside the `with`; a second call replaces what the first one left.

    Attention is computed in its explicit form meanwhile, and the weights take the memory that they
    take: batch · heads · queries · keys for each layer.
    """
    seen = Seen()
    with ExitStack() as hooks:
        for name, module in model.named_modules():
            if isinstance(module, TransformerLayer):
                keep = partial(_keep_hidden, seen.hidden_states, name)
                hooks.callback(module.register_forward_hook(keep).remove)
            elif isinstance(module, MultiHeadAttention):
                keep = partial(_keep_weights, seen.attention_weights, name)
                hooks.callback(module.register_forward_hook(keep).remove)
                ask = module.register_forward_pre_hook(_ask_for_weights, with_kwargs=True)
                hooks.callback(ask.remove)
        yield seen


def _keep_hidden(kept: dict[str, Tensor], name: str, _: nn.Module, __: Any, hidden: Tensor) -> None:
    kept[name] = hidden


def _ask_for_weights(_: nn.Module, arguments: tuple, options: dict) -> tuple[tuple, dict]:
    return arguments, {**options, "return_weights": True}


def _keep_weights(
    kept: dict[str, Tensor], name: str, _: nn.Module, __: Any, result: tuple[Tensor, Tensor]
) -> Tensor:
    """Keep the weights and hand on the output alone, as without the hook."""
    output, kept[name] = result
    return output
