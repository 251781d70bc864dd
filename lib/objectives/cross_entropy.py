"""The loss of all the language models here: how surprised is the model by the right token?

−log softmax(logits)[label], on average over the labels. First as the formula is written, then as
training needs it: without exp of a large number, only where there is a label, for all at once.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lib.objectives.ids import IGNORE_INDEX, check_probability


def cross_entropy_loop(
    logits: Float[Tensor, "places vocab"], labels: Int[Tensor, " places"]
) -> Float[Tensor, ""]:
    """Softmax, then its logarithm, one place after the other: the formula, for small logits.

    exp of a float32 above 88.7 is infinite, and infinity over infinity is NaN. Raises `ValueError`
    as `token_cross_entropy` does.
    """
    check_labels(logits, labels)
    losses = []
    for scores, label in zip(logits, labels.tolist(), strict=True):
        if label != IGNORE_INDEX:
            probabilities = scores.exp() / scores.exp().sum()
            losses.append(-probabilities[label].log())
    return torch.stack(losses).mean()


def token_cross_entropy(
    logits: Float[Tensor, "*batch vocab"],
    labels: Int[Tensor, "*batch"],
    *,
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """log Σ exp(logits) − logits[label], the mean over all places that have a label.

    The log-sum-exp subtracts the largest logit first, so nothing overflows. With `label_smoothing`
    ε the label counts 1 − ε, and ε is spread over the vocabulary (Szegedy et al., 2016).

    Raises `ValueError` for a label that is neither in the vocabulary nor `IGNORE_INDEX`, for none
    at all, and for a smoothing outside 0 to 1.
    """
    check_labels(logits, labels)
    check_probability(label_smoothing=label_smoothing)
    asked = labels != IGNORE_INDEX
    scores, right = logits[asked], labels[asked].long()
    total = scores.logsumexp(dim=-1)
    loss = total - scores.gather(-1, right[:, None])[:, 0]
    if label_smoothing:
        spread = total - scores.mean(dim=-1)
        loss = (1 - label_smoothing) * loss + label_smoothing * spread
    return loss.mean()


def smooth_targets(
    labels: Int[Tensor, "*batch"], vocab_size: int, label_smoothing: float
) -> Float[Tensor, "*batch {vocab_size}"]:
    """What smoothing asks for: 1 − ε for the label, ε shared by all ids, the label among them.

    Zeros where the label is `IGNORE_INDEX`. Raises `ValueError` as `token_cross_entropy` does.
    """
    check_probability(label_smoothing=label_smoothing)
    targets = torch.full((*labels.shape, vocab_size), label_smoothing / vocab_size)
    check_labels(targets, labels)
    asked = labels != IGNORE_INDEX
    places = labels.masked_fill(~asked, 0).long()[..., None]
    targets.scatter_add_(-1, places, torch.full(places.shape, 1 - label_smoothing))
    return targets * asked[..., None]


def cross_entropy_gradient(
    logits: Float[Tensor, "*batch vocab"],
    labels: Int[Tensor, "*batch"],
    *,
    label_smoothing: float = 0.0,
) -> Float[Tensor, "*batch vocab"]:
    """The derivative of `token_cross_entropy` by the logits: (softmax − target) / number of labels.

    Every wrong token is pushed down by its probability, the right one up by what it lacks; the
    pushes at one place add up to zero. Where there is no label there is no push.
    """
    check_labels(logits, labels)
    asked = labels != IGNORE_INDEX
    target = smooth_targets(labels, logits.shape[-1], label_smoothing).to(logits.dtype)
    return (logits.softmax(dim=-1) - target) * asked[..., None] / asked.sum()


def check_labels(logits: Tensor, labels: Tensor) -> None:
    """Raise `ValueError` unless there is a label for each place, in the vocabulary, and any at all.

    `IGNORE_INDEX` is a label too, but a batch of nothing else has no loss.
    """
    if logits.shape[:-1] != labels.shape:
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} ask for labels of shape "
            f"{tuple(logits.shape[:-1])}, got {tuple(labels.shape)}"
        )
    asked, vocab_size = labels[labels != IGNORE_INDEX], logits.shape[-1]
    if not len(asked):
        raise ValueError(f"no place has a label: all {labels.numel()} are {IGNORE_INDEX}")
    wrong = asked[(asked < 0) | (asked >= vocab_size)]
    if len(wrong):
        raise ValueError(
            f"a label must be one of 0 to {vocab_size - 1} or {IGNORE_INDEX}, got {int(wrong[0])}"
        )


def perplexity(nats_per_token: float) -> float:
    """exp of the loss: among how many equally likely tokens the model hesitates, on average."""
    return math.exp(nats_per_token) if nats_per_token < 709 else math.inf
