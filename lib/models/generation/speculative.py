"""Speculative decoding: a small model drafts, the large one checks many tokens in one pass.

Decoding is bound by reading the weights, so that the large model checks five tokens in about the
time it takes to make one. What comes out is distributed exactly as if the large model had drawn
every token itself (Leviathan et al., 2023; Chen et al., 2023).
"""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lib.memory.sizes import check_sizes
from lib.models.generation.decoder import Decoder
from lib.models.generation.generate import prepare
from lib.models.generation.sampling import GREEDY, Sampling, draw_tokens


@dataclass(frozen=True)
class Speculation:
    """The new tokens, how many were drafted and accepted, and how often the large model ran."""

    ids: list[int]
    drafted: int
    accepted: int
    target_runs: int


@torch.no_grad()
def generate_speculatively(
    target: nn.Module,
    draft: nn.Module,
    prompt: list[int],
    *,
    max_new_tokens: int,
    lookahead: int = 4,
    sampling: Sampling = GREEDY,
    stop_ids: Collection[int] = (),
    generator: torch.Generator | None = None,
) -> Speculation:
    """What `target` adds to the prompt, drafted `lookahead` tokens at a time by `draft`.

    Both must have one vocabulary. With greedy sampling the tokens are those of `generate`; else
    they have the same distribution. Raises `ValueError` for different vocabularies, and for an
    encoder-decoder model.
    """
    check_sizes(lookahead=lookahead, max_new_tokens=max_new_tokens)
    _check_models(target, draft)
    writers = [prepare(model, [prompt], max_new_tokens)[0] for model in (target, draft)]
    ids, drafted, accepted, runs = list(prompt), 0, 0, 0
    end = len(prompt) + max_new_tokens
    while len(ids) < end:
        # One token comes from the target itself, so that the last needs no draft.
        ahead = min(lookahead, end - len(ids) - 1)
        guesses, guessed = _draft(writers[1], ids, ahead, sampling, generator)
        allowed = _distributions(writers[0], [*ids, *guesses], ahead + 1, sampling)
        kept = _accept(guesses, guessed, allowed, generator)
        new = [*guesses[:kept], _last(kept, guessed, allowed, generator)]
        drafted, accepted, runs = drafted + ahead, accepted + kept, runs + 1
        for writer in writers:
            writer.truncate(min(writer.length, len(ids) + kept))
        ids += new
        stop = next((i for i, token in enumerate(new) if token in stop_ids), None)
        if stop is not None:
            ids = ids[: len(ids) - len(new) + stop]
            break
    return Speculation(ids[len(prompt) :], drafted, accepted, runs)


def _check_models(target: nn.Module, draft: nn.Module) -> None:
    for role, model in (("target", target), ("draft", draft)):
        if hasattr(model, "encode"):
            raise ValueError(f"the {role} must be a decoder-only model, got {type(model).__name__}")
    if target.config.vocab_size != draft.config.vocab_size:
        raise ValueError(
            "target and draft must share a vocabulary, but have "
            f"{target.config.vocab_size} and {draft.config.vocab_size} tokens"
        )


def _draft(
    writer: Decoder,
    ids: list[int],
    lookahead: int,
    sampling: Sampling,
    generator: torch.Generator | None,
) -> tuple[list[int], list[Float[Tensor, " vocab"]]]:
    """The drafted tokens, and the distribution that each was drawn from."""
    guesses, guessed = [], []
    for _ in range(lookahead):
        probabilities = _distributions(writer, [*ids, *guesses], 1, sampling)
        guesses.append(int(draw_tokens(probabilities, generator)))
        guessed.append(probabilities[0])
    return guesses, guessed


def _distributions(
    writer: Decoder, ids: list[int], last: int, sampling: Sampling
) -> Float[Tensor, "last vocab"]:
    """What may follow each of the `last` tokens of `ids`, of which the model reads the new ones."""
    device = next(writer.model.parameters()).device
    all_ids = torch.tensor([ids], device=device)
    logits = writer(all_ids[:, writer.length :], last)[0]
    ends = range(len(ids) - last + 1, len(ids) + 1)
    rows = zip(logits, ends, strict=True)
    return torch.cat([sampling.probabilities(row[None], all_ids[:, :end]) for row, end in rows])


def _accept(
    guesses: list[int],
    guessed: list[Float[Tensor, " vocab"]],
    allowed: Float[Tensor, "one_more vocab"],
    generator: torch.Generator | None,
) -> int:
    """How many guesses stand: each with probability min(1, p / q), until the first that falls."""
    chances = torch.rand(len(guesses), generator=generator, device=allowed.device)
    for place, (token, chance) in enumerate(zip(guesses, chances.tolist(), strict=True)):
        if chance * guessed[place][token] >= allowed[place, token]:
            return place
    return len(guesses)


def _last(
    kept: int,
    guessed: list[Float[Tensor, " vocab"]],
    allowed: Float[Tensor, "one_more vocab"],
    generator: torch.Generator | None,
) -> int:
    """The token after the accepted ones. Where a guess fell, it is drawn from max(0, p - q)."""
    probabilities = allowed[kept]
    if kept < len(guessed):
        probabilities = (probabilities - guessed[kept]).clamp(min=0)
    return int(draw_tokens(probabilities[None], generator))
