"""What training holds in memory: states of the weights, activations, logits; and whether it fits.

Where 16 bytes a parameter come from: a 16-bit weight and gradient, and in float32 the master copy
and Adam's two moments, 2 + 2 + 4 + 4 + 4 (Rajbhandari et al., 2020). Plain float32 with Adam has 16
as well: 4 + 4 + 4 + 4. The rest grows with the batch. Bytes throughout; sizes are positive whole
numbers or SymPy expressions, anything else raises `ValueError`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

import sympy

from lib.memory.activations import activation_bytes
from lib.memory.layer import linear_maps
from lib.memory.shapes import ModelShape
from lib.memory.sizes import Number, Size, check_divides, check_positive, check_sizes
from lib.memory.storage import training_state_bytes

PRECISIONS: dict[str, dict[str, Number | bool]] = {
    "float32": {"weight_bytes": 4, "gradient_bytes": 4, "master_weights": False},
    "mixed": {"weight_bytes": 2, "gradient_bytes": 2, "master_weights": True},
}
"""By name, what `training_state_bytes` takes: all in float32, or 16 bits with a float32 copy."""

OPTIMIZERS: dict[str, dict[str, Number]] = {
    "sgd": {"optimizer_states": 0},
    "momentum": {"optimizer_states": 1},
    "adam": {"optimizer_states": 2},
    "adamw": {"optimizer_states": 2},
    "lamb": {"optimizer_states": 2},
    "adam8bit": {"optimizer_states": 2, "state_bytes": 1 + Fraction(4, 2048)},
}
"""The states that each keeps for a parameter, in float32; of 8 bits with a scale for 2,048."""


def training_bytes(
    shape: ModelShape,
    *,
    batch_size: Size,
    seq_len: Size,
    precision: str = "mixed",
    optimizer: str = "adam",
    num_parameters: Size | None = None,
    accumulation: Size = 1,
    recompute_every: Size | None = None,
    lora_rank: Size | None = None,
    lora_names: Iterable[str] = ("query", "value"),
    dropout: bool = False,
    fused: bool = True,
) -> dict[str, Number]:
    """Bytes at the moment when training holds most: the backward pass begins.

    By what they are for; the total is the sum of the values. `num_parameters` is that of the shape
    unless given. `accumulation` splits the batch into as many parts: only one is in memory.
    `recompute_every` layers keep one input. With `lora_rank` the weights are frozen, and gradients,
    master copies and optimizer states are those of the low-rank maps at `lora_names` alone; the
    activations are counted as without it, which is a little too much.

    Raises `ValueError` for an unknown precision or optimizer, and parts that do not divide.
    """
    check_sizes(batch_size=batch_size, seq_len=seq_len, accumulation=accumulation)
    check_divides("accumulation", accumulation, "batch_size", batch_size)
    width = _named("precision", precision, PRECISIONS)["weight_bytes"]
    sizes = {"batch_size": _divided(batch_size, accumulation), "seq_len": seq_len}
    sizes |= {"bytes_per_element": width}
    count = shape.num_parameters if num_parameters is None else num_parameters
    frozen = {}
    if lora_rank is not None:
        frozen = {"frozen weights": width * count}
        count = lora_parameters(shape, rank=lora_rank, names=lora_names)
    options = {"recompute_every": recompute_every, "dropout": dropout, "fused": fused}
    return {
        **frozen,
        **model_state_bytes(count, precision=precision, optimizer=optimizer),
        **kept_activations(shape, **sizes, **options),
        **lm_head_bytes(shape, **sizes),
    }


def model_state_bytes(
    num_parameters: Size, *, precision: str = "mixed", optimizer: str = "adam"
) -> dict[str, Number]:
    """`training_state_bytes` by the names of a precision and an optimizer.

    Raises `ValueError` for a name that is neither in `PRECISIONS` nor `OPTIMIZERS`.
    """
    options = _named("precision", precision, PRECISIONS) | _named(
        "optimizer", optimizer, OPTIMIZERS
    )
    return training_state_bytes(num_parameters, **options)


def eight_bit_state_bytes(numel: Size, *, block_size: Size = 2048, smallest: Size = 4096) -> Number:
    """Both moments of one parameter tensor in 8 bits: exact, where `OPTIMIZERS` has the average.

    A byte a number and 4 a block, begun ones too; below `smallest` numbers, float32.
    """
    check_sizes(numel=numel, block_size=block_size, smallest=smallest)
    if not _symbolic(numel, smallest) and numel < smallest:
        return 8 * numel
    return 2 * (numel + 4 * _blocks(numel, block_size))


def lora_parameters(
    shape: ModelShape, *, rank: Size, names: Iterable[str] = ("query", "value")
) -> Size:
    """The numbers that LoRA trains: rank · (d_in + d_out) for each chosen map of each layer.

    Names are those of `linear_maps`. Raises `ValueError` for another one, and for none.
    """
    check_sizes(rank=rank)
    maps, names = linear_maps(shape), tuple(names)
    if not names or set(names) - set(maps):
        raise ValueError(f"names must be some of {', '.join(maps)}, got {names}")
    return shape.num_layers * rank * sum(sum(maps[name]) for name in names)


def kept_activations(
    shape: ModelShape,
    *,
    batch_size: Size,
    seq_len: Size,
    bytes_per_element: Number = 2,
    recompute_every: Size | None = None,
    dropout: bool = False,
    fused: bool = True,
) -> dict[str, Number]:
    """What the layers keep between the two passes, and what the backward pass computes again.

    Without recomputation all layers keep all. With it, each segment of `recompute_every` layers
    keeps its input until the end, and one segment at a time is there in full; of its activations
    the first is the input that was kept. A layer keeps many times its input, so short segments are
    best; √num_layers (Chen et al., 2016) is for steps that keep no more than their input.
    """
    layer = sum(
        activation_bytes(
            shape,
            batch_size=batch_size,
            seq_len=seq_len,
            bytes_per_element=bytes_per_element,
            dropout=dropout,
            fused=fused,
        ).values()
    )
    if recompute_every is None:
        return {"activations": shape.num_layers * layer}
    check_sizes(recompute_every=recompute_every)
    one_input = bytes_per_element * batch_size * seq_len * shape.hidden_size
    symbolic = _symbolic(shape.num_layers, recompute_every)
    longest = (sympy.Min if symbolic else min)(recompute_every, shape.num_layers)
    return {
        "segments' inputs": _blocks(shape.num_layers, recompute_every) * one_input,
        "one segment's activations": longest * layer - one_input,
    }


def lm_head_bytes(
    shape: ModelShape, *, batch_size: Size, seq_len: Size, bytes_per_element: Number = 2
) -> dict[str, Number]:
    """Behind the last layer: the final norm, the LM head's input, and the scores of all tokens.

    The cross-entropy keeps the logarithms of the probabilities in float32, and the backward pass
    begins by making the logits' gradient beside them: with a large vocabulary, more than the
    activations of a layer.
    """
    tokens = batch_size * seq_len
    hidden = bytes_per_element * tokens * shape.hidden_size
    scores = 4 * tokens * shape.vocab_size
    norm = hidden + 2 * 4 * tokens
    return {
        "final norm and head": norm + hidden,
        "log-probabilities": scores,
        "gradient of the logits": scores,
    }


@dataclass(frozen=True)
class TrainingFit:
    """Whether a training run fits into memory, and what takes the most."""

    parts: Mapping[str, Number]
    memory_bytes: Number

    @property
    def needed(self) -> Number:
        """All parts together."""
        return sum(self.parts.values())

    @property
    def fits(self) -> bool:
        """Whether there is room for all of them."""
        return bool(self.needed <= self.memory_bytes)

    @property
    def largest(self) -> str:
        """The part to begin with."""
        return max(self.parts, key=lambda name: float(self.parts[name]))

    def __str__(self) -> str:
        needed, memory = float(self.needed) / 1e9, float(self.memory_bytes) / 1e9
        verdict = (
            f"fits, {memory - needed:.1f} GB free"
            if self.fits
            else (f"does not fit, {needed - memory:.1f} GB too much")
        )
        share = float(self.parts[self.largest]) / 1e9 / needed
        return (
            f"{verdict}: {needed:.1f} GB of {memory:.1f} GB, {share:.0%} of it for {self.largest}"
        )


def training_fit(parts: Mapping[str, Number], memory_bytes: Number) -> TrainingFit:
    """Compare what `training_bytes` says with a device's memory.

    Raises `ValueError` for a memory that is not above zero, and for parts with symbols.
    """
    check_positive(memory_bytes=memory_bytes)
    symbols = [name for name, size in parts.items() if getattr(size, "free_symbols", None)]
    if not parts or symbols:
        raise ValueError(f"parts must be numbers, and at least one, got symbols in {symbols}")
    return TrainingFit(dict(parts), memory_bytes)


def _blocks(size: Size, block_size: Size) -> Size:
    """How many blocks it takes, the last one perhaps not full."""
    symbolic = _symbolic(size, block_size)
    return sympy.ceiling(size / block_size) if symbolic else -(-size // block_size)


def _divided(size: Size, parts: Size) -> Size:
    return size / parts if _symbolic(size, parts) else size // parts


def _symbolic(*sizes: Number) -> bool:
    return any(isinstance(size, sympy.Expr) for size in sizes)


def _named(kind: str, name: str, table: Mapping[str, dict]) -> dict:
    if name not in table:
        raise ValueError(f"{kind} must be one of {', '.join(table)}, got {name!r}")
    return table[name]
