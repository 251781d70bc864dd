"""Span corruption as T5's code and nanoT5 do it: one example after the other, in NumPy.

Written anew from the description of T5's preprocessors; the random numbers are NumPy's.
"""

import numpy as np


def segmentation(items, segments, rng):
    """Shuffle which items begin a segment, number the segments, and count."""
    begins = np.arange(items - 1) < segments - 1
    rng.shuffle(begins)
    numbers = np.cumsum(np.pad(begins, [[1, 0]]))
    return np.unique(numbers, return_counts=True)[1]


def noise_mask(length, density, mean_span_length, rng):
    """One example's mask: True is noise."""
    noise = int(np.round(length * density))
    noise = min(max(noise, 1), length - 1)
    spans = max(int(np.round(noise / mean_span_length)), 1)
    noise_lengths = segmentation(noise, spans, rng)
    text_lengths = segmentation(length - noise, spans, rng)
    in_turn = np.reshape(np.stack([text_lengths, noise_lengths], axis=1), [spans * 2])
    starts = np.cumsum(in_turn)[:-1]
    begins = np.zeros((length,), dtype=np.int8)
    begins[starts] = True
    return np.cumsum(begins) % 2 == 1


def sentinel_ids(mask, vocab_size):
    """Sentinels where a run of the mask begins, -1 on the rest of it, 0 elsewhere."""
    begins = mask - np.roll(mask, 1, axis=-1) * mask
    begins[:, 0] = mask[:, 0]
    ids = np.where(begins != 0, np.cumsum(begins, axis=-1), begins)
    ids = np.where(ids != 0, vocab_size - ids, 0)
    return ids - (mask - begins)


def without_the_hidden(ids, sentinels, end):
    """Each row with its sentinels in place and what they stand for taken out, and the end."""
    full = np.where(sentinels != 0, sentinels, ids)
    kept = full[full >= 0].reshape((len(ids), -1))
    return np.concatenate([kept, np.full((len(ids), 1), end, dtype=np.int32)], axis=-1)


def corrupt(ids, masks, vocab_size=32100, end=1):
    """Inputs and targets for given masks."""
    inputs = without_the_hidden(ids, sentinel_ids(masks.astype(np.int8), vocab_size), end)
    targets = without_the_hidden(ids, sentinel_ids((~masks).astype(np.int8), vocab_size), end)
    return inputs, targets


def collate(ids, rng, density=0.15, mean_span_length=3.0):
    """Draw a mask for each example, then corrupt all."""
    masks = np.asarray([noise_mask(ids.shape[1], density, mean_span_length, rng) for _ in ids])
    return corrupt(ids, masks)
