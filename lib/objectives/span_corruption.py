"""Span corruption (Raffel et al., T5, 2020): the decoder writes what is missing from the input.

    text    thank you for inviting me to your party last week
    input   thank you <X> me to your party <Y> week
    target  <X> for inviting <Y> last <Z>

Each hidden span leaves one sentinel behind, a different one each time, and the target says what it
stood for. So input and target are both shorter than the text: decoding 15 % of it is cheap.

Where to hide is drawn as in T5's code: the number of hidden tokens and of spans follow from the
length; text and spans take turns, the first is text and the last a span; all ways to cut them to
these numbers are equally likely. So all rows of a batch come out equally long, and none is padded.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from lib.memory.sizes import check_positive, check_sizes
from lib.objectives.ids import check_share
from lib.objectives.teacher_forcing import shift_right


class CorruptedSpans(NamedTuple):
    """What the encoder reads, what the decoder should write, and what the decoder reads."""

    inputs: Int[Tensor, "batch input_len"]
    targets: Int[Tensor, "batch target_len"]
    decoder_inputs: Int[Tensor, "batch target_len"]


class NoiseCounts(NamedTuple):
    """How many tokens of a text are hidden, in how many spans, and how many stay."""

    hidden: int
    spans: int
    kept: int

    def input_len(self, *, end: bool = True) -> int:
        """Tokens of the input: those that stay, the sentinels, with `end` one more."""
        return self.kept + self.spans + end

    def target_len(self, *, end: bool = True, final_sentinel: bool = True) -> int:
        """Tokens of the target: the hidden ones, the sentinels, with `end` one more."""
        return self.hidden + self.spans + final_sentinel + end


def noise_counts(
    length: int, *, density: float = 0.15, mean_span_length: float = 3.0
) -> NoiseCounts:
    """The share `density` of the tokens, in spans of that mean length, both rounded as T5 does.

    A half goes to the even side; at least one token is hidden, at least one stays. Raises
    `ValueError` for a length below 2, a density of 0 or 1, a mean below 1, and where fewer tokens
    would stay than there are spans to keep apart.
    """
    check_sizes(length=length)
    check_share(density=density)
    check_positive(mean_span_length=mean_span_length)
    if mean_span_length < 1:
        raise ValueError(f"a span has at least one token, got a mean of {mean_span_length}")
    if length < 2:
        raise ValueError("a text needs 2 tokens, one to hide and one to keep, got 1")
    hidden = min(max(round(length * density), 1), length - 1)
    spans = max(round(hidden / mean_span_length), 1)
    if spans > length - hidden:
        raise ValueError(
            f"{spans} spans need as many tokens of text before them, but of {length} tokens only "
            f"{length - hidden} stay: lower the density or raise the mean span length"
        )
    return NoiseCounts(hidden, spans, length - hidden)


def longest_text(input_len: int, *, density: float = 0.15, mean_span_length: float = 3.0) -> int:
    """The most tokens of text whose input, with the end, takes no more than `input_len` places.

    For 512 it is 568, as in T5: 512 to read, 114 to write. Raises `ValueError` as `noise_counts`
    does, and for an input too short for any text.
    """
    check_sizes(input_len=input_len)
    sizes = {"density": density, "mean_span_length": mean_span_length}
    if input_len < noise_counts(2, **sizes).input_len():
        raise ValueError(f"no text fits into an input of {input_len} tokens")
    length = 2
    while noise_counts(length + 1, **sizes).input_len() <= input_len:
        length += 1
    return length


def random_segmentation(
    rows: int, num_items: int, num_segments: int, *, generator: torch.Generator
) -> Int[Tensor, "{rows} {num_segments}"]:
    """For each row `num_segments` lengths, none below 1, that add up to `num_items`.

    All such are equally likely: between the items there are num_items - 1 places to cut, and
    num_segments - 1 of them are drawn. Raises `ValueError` for more segments than items.
    """
    check_sizes(rows=rows, num_items=num_items, num_segments=num_segments)
    if num_segments > num_items:
        raise ValueError(f"{num_items} items cannot be cut into {num_segments} segments")
    cuts = _draw_places(rows, num_items - 1, num_segments - 1, generator) + 1
    edges = np.zeros((rows, num_segments + 1), dtype=np.int64)
    edges[:, 1:-1], edges[:, -1] = cuts, num_items
    return torch.from_numpy(np.diff(edges))


def random_spans_noise_mask(
    rows: int,
    length: int,
    *,
    density: float = 0.15,
    mean_span_length: float = 3.0,
    generator: torch.Generator,
) -> Bool[Tensor, "{rows} {length}"]:
    """True where tokens are hidden: text and hidden spans in turn, text first, a span last.

    Raises `ValueError` as `noise_counts` does.
    """
    check_sizes(rows=rows)
    counts = noise_counts(length, density=density, mean_span_length=mean_span_length)
    hidden = random_segmentation(rows, counts.hidden, counts.spans, generator=generator)
    kept = random_segmentation(rows, counts.kept, counts.spans, generator=generator)
    in_turn = torch.stack([kept, hidden], dim=2).flatten().numpy()
    text_or_span = np.tile([False, True], rows * counts.spans)
    return torch.from_numpy(np.repeat(text_or_span, in_turn).reshape(rows, length))


def corrupt_spans_loop(
    text: Sequence[int],
    hidden: Sequence[bool],
    sentinels: Sequence[int],
    *,
    end: int | None = None,
    final_sentinel: bool = True,
) -> tuple[list[int], list[int]]:
    """Input and target of one text, token by token; `hidden` may be any mask.

    The final sentinel closes the target: it stands for nothing and says that no span follows (T5's
    paper; its code leaves it out, as `end` closes the target too). Raises `ValueError` for more
    spans than sentinels, no tokens, a text that holds a sentinel, and for a mask of other length.
    """
    _check_text(torch.tensor([text]), torch.tensor([hidden]), sentinels)
    inputs, targets, span = [], [], -1
    for place, token in enumerate(text):
        if hidden[place] and (place == 0 or not hidden[place - 1]):
            span += 1
            _check_sentinels(span + 1 + final_sentinel, sentinels)
            inputs.append(sentinels[span])
            targets.append(sentinels[span])
        (targets if hidden[place] else inputs).append(token)
    closing = ([sentinels[span + 1]] if final_sentinel else [], [] if end is None else [end])
    return inputs + closing[1], targets + closing[0] + closing[1]


def corrupt_spans(
    ids: Int[Tensor, "batch length"],
    hidden: Bool[Tensor, "batch length"],
    sentinels: Sequence[int],
    *,
    end: int | None = None,
    final_sentinel: bool = True,
) -> tuple[Int[Tensor, "batch input_len"], Int[Tensor, "batch target_len"]]:
    """Inputs and targets of a batch whose rows hide equally many tokens in equally many spans.

    What `corrupt_spans_loop` gives for each row. Raises `ValueError` as it does, and for rows that
    differ in their numbers.
    """
    _check_text(ids, hidden, sentinels)
    # One more place in front, so that the token before a span is there also for the first token.
    tokens = np.pad(ids.numpy(), ((0, 0), (1, 0)))
    hides = np.pad(hidden.numpy(), ((0, 0), (1, 0)))
    before = np.zeros_like(hides)
    before[:, :-1] = hides[:, 1:] & ~hides[:, :-1]
    spans = _equal_in_all_rows(before.sum(axis=1), "spans")
    count = _equal_in_all_rows(hides.sum(axis=1), "hidden tokens")
    _check_sentinels(spans + final_sentinel, sentinels)
    names = np.tile(np.asarray(sentinels[:spans], dtype=tokens.dtype), len(tokens))
    # In the target the sentinel takes the place before the span, in the input the span's first.
    written, read = tokens.copy(), tokens
    written[before] = names
    first = np.zeros_like(before)
    first[:, 1:] = before[:, :-1]
    read[first] = names
    targets = written[hides | before].reshape(len(tokens), count + spans)
    inputs = read[:, 1:][(~hides | first)[:, 1:]].reshape(len(tokens), -1)
    ending = [] if end is None else [end]
    final = [sentinels[spans]] if final_sentinel else []
    return _append(inputs, ending), _append(targets, final + ending)


def span_corruption(
    ids: Int[Tensor, "batch length"],
    sentinels: Sequence[int],
    *,
    end: int | None,
    start: int,
    density: float = 0.15,
    mean_span_length: float = 3.0,
    final_sentinel: bool = True,
    generator: torch.Generator,
) -> CorruptedSpans:
    """A batch of texts to a batch of T5: spans drawn, hidden and asked for, the decoder's shifted.

    `start` is what the decoder reads first: T5's padding token, 0. Raises `ValueError` as
    `noise_counts` and `corrupt_spans` do.
    """
    sizes = {"density": density, "mean_span_length": mean_span_length}
    hidden = random_spans_noise_mask(*ids.shape, **sizes, generator=generator)
    inputs, targets = corrupt_spans(ids, hidden, sentinels, end=end, final_sentinel=final_sentinel)
    return CorruptedSpans(inputs, targets, shift_right(targets, start=start))


def restore_spans(
    inputs: Iterable[int], targets: Iterable[int], sentinels: Sequence[int], *, end: int | None
) -> list[int]:
    """The text, from one input and its target: each sentinel becomes what the target says.

    Raises `ValueError` for a target that does not begin with a sentinel, names one twice, or does
    not name one of the input's.
    """
    spans: dict[int, list[int]] = {}
    for token in (token for token in targets if token != end):
        if token in sentinels:
            if token in spans:
                raise ValueError(f"the target names sentinel {token} twice")
            spans[token] = current = []
        elif not spans:
            raise ValueError(f"the target must begin with a sentinel, got {token}")
        else:
            current.append(token)
    text = []
    for token in (token for token in inputs if token != end):
        if token in sentinels and token not in spans:
            raise ValueError(f"the target does not say what sentinel {token} stands for")
        text += spans[token] if token in sentinels else [token]
    return text


def t5_sentinels(vocab_size: int = 32100, count: int = 100) -> list[int]:
    """The ids of <extra_id_0>, <extra_id_1>, ...: from the last of the vocabulary downwards."""
    check_sizes(vocab_size=vocab_size, count=count)
    if count > vocab_size:
        raise ValueError(f"a vocabulary of {vocab_size} has no room for {count} sentinels")
    return list(range(vocab_size - 1, vocab_size - 1 - count, -1))


def _draw_places(rows: int, places: int, count: int, generator: torch.Generator) -> np.ndarray:
    """For each row `count` of the places, in order, all sets equally likely.

    Every place gets a random number whose last digits are the place itself, and those with the
    smallest numbers are taken: numpy finds them without sorting, and no two are equal.
    """
    if not count:
        return np.empty((rows, 0), dtype=np.int64)
    digits = max(places - 1, 1).bit_length()
    lots = torch.empty(rows, places, dtype=torch.int64).random_(generator=generator).numpy()
    lots = (lots >> digits << digits) | np.arange(places)
    lots.partition(count - 1, axis=1)
    return np.sort(lots[:, :count] & ((1 << digits) - 1))


def _append(rows: np.ndarray, ending: list[int]) -> Tensor:
    whole = np.empty((len(rows), rows.shape[1] + len(ending)), dtype=rows.dtype)
    whole[:, : rows.shape[1]], whole[:, rows.shape[1] :] = rows, ending
    return torch.from_numpy(whole)


def _equal_in_all_rows(counts: np.ndarray, what: str) -> int:
    if (counts != counts[0]).any():
        raise ValueError(
            f"all rows must have equally many {what}, got {counts.tolist()}: take "
            "`corrupt_spans_loop` row by row, and pad"
        )
    return int(counts[0])


def _check_sentinels(needed: int, sentinels: Sequence[int]) -> None:
    if needed > len(sentinels):
        raise ValueError(
            f"the text needs {needed} sentinels, one for each span and the final one if it is "
            f"asked for, but there are only {len(sentinels)}"
        )


def _check_text(ids: Tensor, hidden: Tensor, sentinels: Sequence[int]) -> None:
    if ids.shape != hidden.shape or not ids.numel():
        raise ValueError(
            f"hidden must say of each token whether it is hidden: got {tuple(hidden.shape)} for "
            f"tokens of {tuple(ids.shape)}"
        )
    if len(set(sentinels)) != len(sentinels):
        raise ValueError("two sentinels are the same")
    # Sentinels lie together at the end of a vocabulary: most texts stay below all of them.
    if len(sentinels) and int(ids.max()) >= min(sentinels):
        found = ids[torch.isin(ids, torch.tensor(sentinels))]
        if len(found):
            raise ValueError(f"the text holds sentinel {int(found[0])} itself")
