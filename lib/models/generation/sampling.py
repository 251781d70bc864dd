"""How the next token is chosen from its logits.

Each step of it changes the logits and leaves a distribution behind, so that they can be combined,
and so that speculative decoding can ask for the distribution itself. The order is Hugging Face's:
repetition penalty, temperature, top-k, top-p.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """What to do to the logits before drawing from them. A temperature of 0 takes the largest.

    Raises `ValueError` for a negative temperature, a `top_k` below 1, a `top_p` outside (0, 1], and
    a `repetition_penalty` that is not above 0.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise ValueError(f"temperature must be 0 or more, got {self.temperature!r}")
        if self.top_k is not None and (type(self.top_k) is not int or self.top_k < 1):
            raise ValueError(f"top_k must be a whole number, 1 or more, got {self.top_k!r}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, got {self.top_p!r}")
        if not self.repetition_penalty > 0:
            raise ValueError(f"repetition_penalty must be above 0, got {self.repetition_penalty!r}")

    def probabilities(
        self,
        logits: Float[Tensor, "batch vocab"],
        seen: Int[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch vocab"]:
        """The distribution to draw from. `seen` are the tokens so far, for the penalty."""
        if self.repetition_penalty != 1 and seen is not None:
            logits = penalise_repetition(logits, seen, self.repetition_penalty)
        if self.temperature == 0:
            return torch.zeros_like(logits).scatter(-1, logits.argmax(-1, keepdim=True), 1.0)
        logits = logits / self.temperature
        if self.top_k is not None:
            logits = keep_top_k(logits, self.top_k)
        if self.top_p is not None:
            logits = keep_top_p(logits, self.top_p)
        return logits.softmax(dim=-1)

    def choose(
        self,
        logits: Float[Tensor, "batch vocab"],
        seen: Int[Tensor, "batch tokens"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Int[Tensor, " batch"]:
        """The next token of each sequence."""
        if self.temperature == 0 and self.repetition_penalty == 1:
            return logits.argmax(dim=-1)
        return draw_tokens(self.probabilities(logits, seen), generator)


GREEDY = Sampling(temperature=0.0)
"""Always the most probable token."""


def draw_tokens(
    probabilities: Float[Tensor, "batch vocab"], generator: torch.Generator | None = None
) -> Int[Tensor, " batch"]:
    """One token from each row."""
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0]


def keep_top_k(logits: Float[Tensor, "batch vocab"], k: int) -> Float[Tensor, "batch vocab"]:
    """All but the k largest to minus infinity; ties with the k-th stay (Fan et al., 2018)."""
    smallest = logits.topk(min(k, logits.shape[-1])).values[:, -1:]
    return logits.masked_fill(logits < smallest, float("-inf"))


def keep_top_p(logits: Float[Tensor, "batch vocab"], p: float) -> Float[Tensor, "batch vocab"]:
    """Only the fewest tokens that together have probability p or more (Holtzman et al., 2020).

    Nucleus sampling: few where the model is sure, many where it is not. At least one stays.
    """
    ordered, order = logits.sort(descending=True)
    probabilities = ordered.softmax(dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities
    out = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before >= p)
    return logits.masked_fill(out, float("-inf"))


def penalise_repetition(
    logits: Float[Tensor, "batch vocab"], seen: Int[Tensor, "batch tokens"], penalty: float
) -> Float[Tensor, "batch vocab"]:
    """Make each token that was there before less likely (Keskar et al., 2019, CTRL).

    Its logit is divided by the penalty where positive, multiplied by it where negative.
    """
    theirs = logits.gather(-1, seen)
    return logits.scatter(-1, seen, torch.where(theirs > 0, theirs / penalty, theirs * penalty))
