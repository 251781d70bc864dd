"""Activation checkpointing (Chen et al., 2016): keep a few activations, compute the rest again.

A segment of `every` layers keeps its input alone; the backward pass runs it forward once more
before it goes back through it. One more forward pass for the whole model, a third of a step's
products, against all but one in `every` of the residual stream's copies.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lib.memory.sizes import check_sizes
from lib.training.nested import list_tensors, map_tensors


class Recompute(torch.autograd.Function):
    """`segment(*inputs)`, of which only the inputs are kept; its gradients by running it again.

    `tensors` are `num_inputs` inputs and then the parameters that the segment uses: autograd sees
    nothing but the arguments. The second run has the first one's dropout and autocast.
    """

    @staticmethod
    def forward(
        ctx: Any, segment: Callable[..., Tensor], num_inputs: int, *tensors: Tensor
    ) -> Tensor:
        """Run the segment; autograd records nothing in here."""
        inputs, ctx.parameters = tensors[:num_inputs], tensors[num_inputs:]
        ctx.segment, ctx.conditions = segment, Conditions(inputs[0].device.type)
        ctx.save_for_backward(*inputs)
        return segment(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Run it again, recorded, and go back through it."""
        # Detached: the gradients end here, and autograd carries them on.
        inputs = [each.detach().requires_grad_(each.requires_grad) for each in ctx.saved_tensors]
        with ctx.conditions.restored(), torch.enable_grad():
            output = ctx.segment(*inputs)
        tensors = [*inputs, *ctx.parameters]
        wanted = [each for each in tensors if each.requires_grad]
        found = iter(torch.autograd.grad(output, wanted, gradient, allow_unused=True))
        return None, None, *(next(found) if each.requires_grad else None for each in tensors)


class Conditions:
    """What a forward pass depends on beside its arguments: random numbers, autocast."""

    def __init__(self, device: str) -> None:
        self.generator, self.device = torch.get_rng_state(), device
        self.device_generators = torch.cuda.get_rng_state_all()
        self.autocast = torch.is_autocast_enabled(device)
        self.dtype = torch.get_autocast_dtype(device)

    @contextmanager
    def restored(self) -> Iterator[None]:
        """The same conditions once more; afterwards those of now."""
        autocast = torch.autocast(self.device, dtype=self.dtype, enabled=self.autocast)
        with torch.random.fork_rng(), autocast:
            torch.set_rng_state(self.generator)
            torch.cuda.set_rng_state_all(self.device_generators)
            yield


class _Segment:
    """Layers that run one after the other when the last of them is called.

    Those before it only note their options, so that whoever calls the layers in turn, each with its
    own, need not know of segments.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self.layers, self.options = layers, []
        for layer in layers[:-1]:
            layer.forward = self.wait
        layers[-1].forward = self.run

    def wait(self, hidden: Tensor, **options: Any) -> Tensor:
        self.options.append(options)
        return hidden

    def run(self, hidden: Tensor, **options: Any) -> Tensor:
        calls, self.options = [*self.options, options], []
        # Made outside and in need of a gradient: a bias, the keys and values of an encoder.
        shared = {id(each): each for each in list_tensors(calls) if each.requires_grad}

        def segment(hidden: Tensor, *inputs: Tensor) -> Tensor:
            own = dict(zip(shared, inputs, strict=True))
            for layer, call in zip(self.layers, calls, strict=True):
                call = map_tensors(lambda each: own.get(id(each), each), call)
                hidden = type(layer).forward(layer, hidden, **call)
            return hidden

        parameters = [each for layer in self.layers for each in layer.parameters()]
        return Recompute.apply(segment, 1 + len(shared), hidden, *shared.values(), *parameters)


def recompute_layers(layers: nn.ModuleList, *, every: int) -> None:
    """From now on, keep of these layers the input of each `every`-th, and compute the rest again.

    `layers` is a stack of a model of `lib.models`, such as `model.layers`. Names, parameters and
    results stay the same, gradients too. The last segment may be shorter.

    Raises `ValueError` unless `every` is a positive whole number.
    """
    check_sizes(every=every)
    keep_activations(layers)
    for first in range(0, len(layers), every):
        _Segment(list(layers[first : first + every]))


def keep_activations(layers: nn.ModuleList) -> None:
    """Undo `recompute_layers`."""
    for layer in layers:
        layer.__dict__.pop("forward", None)
