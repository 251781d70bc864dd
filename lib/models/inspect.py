"""Looking inside: hidden states and attention weights, of any model built from these blocks.

PyTorch lets one hook into any module's call. `watch` hooks into every layer and every attention
for as long as its `with` lasts. Outside of it nothing is recorded, and nothing is slower.
"""

from collections import Counter
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
    take: batch · heads · queries · keys for each layer. A layer that one call runs several times,
    as ALBERT's, is recorded each time: `layer`, `layer, run 2` and so on.

    Raises `ValueError` for a model without such layers, a packed one for example, and for one that
    is being watched already.
    """
    _check_watchable(model)
    seen, runs = Seen(), _Runs()
    with ExitStack() as hooks:
        hooks.callback(model.register_forward_pre_hook(runs.begin).remove)
        for name, module in model.named_modules():
            if isinstance(module, TransformerLayer):
                keep = partial(_keep_hidden, seen.hidden_states, runs, name)
                hooks.callback(module.register_forward_hook(keep).remove)
            elif isinstance(module, MultiHeadAttention):
                keep = partial(_keep_weights, seen.attention_weights, runs, name)
                hooks.callback(module.register_forward_hook(keep).remove)
                ask = module.register_forward_pre_hook(_ask_for_weights, with_kwargs=True)
                hooks.callback(ask.remove)
        hooks.callback(model.register_forward_hook(runs.end, always_call=True).remove)
        yield seen


class _Runs:
    """How often each layer and attention ran in the call of the model that is under way."""

    def __init__(self) -> None:
        self.counts: Counter[str] | None = None

    def begin(self, *_: Any) -> None:
        """Count from here: the model is called."""
        self.counts = Counter()

    def end(self, *_: Any) -> None:
        """Count no more: a decoder calls parts of the model, each of them once a step."""
        self.counts = None

    def label(self, name: str) -> str:
        """The name to record this run under."""
        if self.counts is None:
            return name
        self.counts[name] += 1
        return name if self.counts[name] == 1 else f"{name}, run {self.counts[name]}"


def _keep_hidden(
    kept: dict[str, Tensor], runs: _Runs, name: str, _: nn.Module, __: Any, hidden: Tensor
) -> None:
    kept[runs.label(name)] = hidden


def _ask_for_weights(_: nn.Module, arguments: tuple, options: dict) -> tuple[tuple, dict]:
    return arguments, {**options, "return_weights": True}


def _keep_weights(
    kept: dict[str, Tensor],
    runs: _Runs,
    name: str,
    _: nn.Module,
    __: Any,
    result: tuple[Tensor, Tensor],
) -> Tensor:
    """Keep the weights and hand on the output alone, as without the hook."""
    output, kept[runs.label(name)] = result
    return output


def _check_watchable(model: nn.Module) -> None:
    attentions = [each for each in model.modules() if isinstance(each, MultiHeadAttention)]
    if not attentions:
        raise ValueError(
            f"there is no layer and no attention to watch in {type(model).__name__}: a packed "
            "model has none, watch the model that it was made of"
        )
    if any(_ask_for_weights in each._forward_pre_hooks.values() for each in attentions):
        raise ValueError(f"this {type(model).__name__} is being watched already")
