"""Beam search: the few most probable beginnings, carried on side by side."""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lib.memory.sizes import check_sizes
from lib.models.generation.decoder import MakeCache
from lib.models.generation.generate import prepare


@dataclass(frozen=True)
class Hypothesis:
    """Generated tokens, with the one that ended them, and the logarithm of their probability."""

    ids: tuple[int, ...]
    log_probability: float

    def score(self, length_penalty: float) -> float:
        """log probability / length^penalty. Each token makes it less probable; 1 evens that out."""
        return self.log_probability / len(self.ids) ** length_penalty


@torch.no_grad()
def beam_search(
    model: nn.Module,
    prompt: list[int],
    *,
    num_beams: int,
    max_new_tokens: int,
    stop_ids: Collection[int] = (),
    length_penalty: float = 1.0,
    make_cache: MakeCache | None = None,
) -> list[Hypothesis]:
    """The `num_beams` best continuations that were found, the best first (Graves, 2012).

    At every step the `num_beams` most probable beginnings go on. One that ends is set aside; the
    search ends when as many are set aside as there are beams and no running one scores better, or
    at `max_new_tokens`. One beam is greedy decoding.
    """
    check_sizes(num_beams=num_beams, max_new_tokens=max_new_tokens)
    decoder, new = prepare(model, [prompt], max_new_tokens, make_cache)
    running, finished = [Hypothesis((), 0.0)], []
    for _ in range(max_new_tokens):
        logits = decoder(new)[:, -1]
        candidates = _candidates(logits, running, (1 + len(stop_ids)) * num_beams)
        ended = [each for row, each in candidates[:num_beams] if each.ids[-1] in stop_ids]
        open_ones = [(row, each) for row, each in candidates if each.ids[-1] not in stop_ids]
        finished = _best([*finished, *ended], num_beams, length_penalty)
        rows = [row for row, _ in open_ones[:num_beams]]
        running = [each for _, each in open_ones[:num_beams]]
        if not running or _is_over(running, finished, num_beams, length_penalty):
            return finished
        decoder.select(torch.tensor(rows, device=new.device))
        new = torch.tensor([[each.ids[-1]] for each in running], device=new.device)
    return _best([*finished, *running], num_beams, length_penalty)


def _candidates(
    logits: Float[Tensor, "beams vocab"], running: list[Hypothesis], most: int
) -> list[tuple[int, Hypothesis]]:
    """The most probable ways to go on, each with the row of the hypothesis that it continues."""
    so_far = torch.tensor([each.log_probability for each in running], device=logits.device)
    total = so_far[:, None].to(logits.dtype) + logits.log_softmax(dim=-1)
    best = total.flatten().topk(min(most, total.numel()))
    return [
        (place // logits.shape[1], _extend(running, place, logits.shape[1], value))
        for place, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def _extend(running: list[Hypothesis], place: int, vocab_size: int, value: float) -> Hypothesis:
    row, token = divmod(place, vocab_size)
    return Hypothesis((*running[row].ids, token), value)


def _best(hypotheses: list[Hypothesis], most: int, length_penalty: float) -> list[Hypothesis]:
    return sorted(hypotheses, key=lambda each: -each.score(length_penalty))[:most]


def _is_over(
    running: list[Hypothesis],
    finished: list[Hypothesis],
    num_beams: int,
    length_penalty: float,
) -> bool:
    if len(finished) < num_beams:
        return False
    best_running = max(each.score(length_penalty) for each in running)
    return best_running <= finished[-1].score(length_penalty)
