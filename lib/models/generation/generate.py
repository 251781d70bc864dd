"""Generation: choose the next token, hand it back to the model, until it says stop.

`stream` yields tokens as they come, `generate` collects them. The model reads each token once: what
it needs of the earlier ones lies in its caches.
"""

from collections.abc import Collection, Iterator, Sequence
from functools import partial

import torch
from jaxtyping import Int
from torch import Tensor, nn

from lib.kv_cache import RaggedCache
from lib.masks import padding
from lib.memory.sizes import check_sizes
from lib.models.generation.decoder import Decoder, EncoderDecoder, MakeCache, room_for
from lib.models.generation.sampling import GREEDY, Sampling

Prompts = Sequence[Sequence[int]]


@torch.no_grad()
def stream(
    decoder: Decoder,
    ids: Int[Tensor, "batch tokens"],
    *,
    max_new_tokens: int,
    sampling: Sampling = GREEDY,
    stop_ids: Collection[int] = (),
    generator: torch.Generator | None = None,
) -> Iterator[list[int | None]]:
    """One step after the other: the new token of each sequence, None for those that have ended.

    A sequence ends with the first token of `stop_ids`, which is still yielded; the others go on
    without it. Raises `ValueError` unless `max_new_tokens` is a positive whole number.
    """
    check_sizes(max_new_tokens=max_new_tokens)
    running, seen, new = list(range(len(ids))), ids, ids
    for _ in range(max_new_tokens):
        chosen = sampling.choose(decoder(new)[:, -1], seen, generator)
        step = dict(zip(running, chosen.tolist(), strict=True))
        yield [step.get(row) for row in range(len(ids))]
        new, seen = chosen[:, None], torch.cat([seen, chosen[:, None]], dim=1)
        going_on = [place for place, token in enumerate(step.values()) if token not in stop_ids]
        if not going_on:
            return
        if len(going_on) < len(running):
            rows = torch.tensor(going_on, device=ids.device)
            decoder.select(rows)
            new, seen, running = new[rows], seen[rows], [running[place] for place in going_on]


@torch.inference_mode()
def generate(
    model: nn.Module,
    prompts: Prompts,
    *,
    max_new_tokens: int,
    sampling: Sampling = GREEDY,
    stop_ids: Collection[int] = (),
    make_cache: MakeCache | None = None,
    generator: torch.Generator | None = None,
) -> list[list[int]]:
    """What the model adds to each prompt, without the token that ended it.

    `prompts` are lists of token ids, of any lengths. An encoder-decoder model reads them as its
    input, and what it adds is the target. `make_cache` is as in `Decoder`; the default holds
    whatever fits. The model should be in `eval()` mode.

    Raises `ValueError` for no prompt, an empty one, more tokens than the model has positions, and a
    model that writes nothing, such as BERT.
    """
    decoder, ids = prepare(model, prompts, max_new_tokens, make_cache)
    outputs: list[list[int]] = [[] for _ in prompts]
    for step in stream(
        decoder,
        ids,
        max_new_tokens=max_new_tokens,
        sampling=sampling,
        stop_ids=stop_ids,
        generator=generator,
    ):
        for output, token in zip(outputs, step, strict=True):
            if token is not None and token not in stop_ids:
                output.append(token)
    return outputs


def prepare(
    model: nn.Module,
    prompts: Prompts,
    max_new_tokens: int,
    make_cache: MakeCache | None = None,
    start_id: int = 0,
) -> tuple[Decoder, Int[Tensor, "batch tokens"]]:
    """A decoder with empty caches, and the tokens to give it first, for `stream`.

    For an encoder-decoder model, whose encoder runs here, that is `start_id` alone (0 in T5).
    """
    check_sizes(max_new_tokens=max_new_tokens)
    if not hasattr(model, "logits"):
        raise ValueError(f"a {type(model).__name__} has no decoder to write with")
    lengths = _check_prompts(prompts)
    longest, device = max(lengths), next(model.parameters()).device
    if hasattr(model, "encode"):
        padded = [[*prompt, *[start_id] * (longest - len(prompt))] for prompt in prompts]
        mask = padding(torch.tensor(lengths, device=device), longest)
        source = torch.tensor(padded, device=device)
        make_cache = make_cache or room_for(max_new_tokens)
        decoder = EncoderDecoder(model, make_cache, source, mask)
        return decoder, torch.full((len(prompts), 1), start_id, device=device)
    _check_positions(model, longest, max_new_tokens)
    # Padding repeats a prompt's own first token, so that a repetition penalty sees nothing new.
    padded = [[prompt[0]] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    return _decoder(model, lengths, max_new_tokens, make_cache), torch.tensor(padded, device=device)


def _decoder(
    model: nn.Module, lengths: list[int], max_new_tokens: int, make_cache: MakeCache | None
) -> Decoder:
    longest = max(lengths)
    capacity = longest + max_new_tokens
    if min(lengths) == longest:
        return Decoder(model, make_cache or room_for(capacity), len(lengths))
    decoder = Decoder(model, make_cache or partial(RaggedCache, capacity=capacity), len(lengths))
    try:
        for cache in decoder.caches:
            cache.skip([longest - length for length in lengths])
    except AttributeError:
        raise ValueError(
            f"prompts of different lengths {lengths} need a cache that knows of padding: "
            "RaggedCache (the default), PagedCache, or Int8Cache with policy=RaggedCache"
        ) from None
    return decoder


def _check_prompts(prompts: Prompts) -> list[int]:
    for prompt in prompts:
        is_list = isinstance(prompt, Sequence) and not isinstance(prompt, str)
        if not is_list or any(type(token) is not int for token in prompt):
            raise ValueError(f"prompts must be lists of whole numbers, token ids, got {prompt!r}")
    lengths = [len(prompt) for prompt in prompts]
    if not lengths or not min(lengths):
        raise ValueError(f"each prompt needs at least one token, got lengths {lengths}")
    return lengths


def _check_positions(model: nn.Module, longest: int, max_new_tokens: int) -> None:
    most = model.config.max_positions
    # The last token is chosen but not read.
    if longest + max_new_tokens - 1 > most:
        raise ValueError(
            f"a prompt of {longest} tokens and {max_new_tokens} new ones do not fit into the "
            f"{most} positions of the model"
        )
