"""What training on several devices sends: bytes that leave one of them in each step.

The collectives are rings, in which every rank sends to the next one only (Patarasuk and Yuan,
2009). Bytes are those that one rank sends, which is also what it receives; all ranks do so at
once. Whole numbers, fractions where a tensor does not divide, or SymPy expressions; sizes that are
not positive raise `ValueError`.
"""

from lib.memory.sizes import Number, Size, check_not_negative, check_positive, check_sizes, quotient


def reduce_scatter_bytes(num_bytes: Number, num_ranks: Size) -> Number:
    """(n - 1) / n of the tensor: every chunk passes on but the one that ends here."""
    check_positive(num_bytes=num_bytes)
    check_sizes(num_ranks=num_ranks)
    return quotient((num_ranks - 1) * num_bytes, num_ranks)


def all_gather_bytes(num_bytes: Number, num_ranks: Size) -> Number:
    """(n - 1) / n of the tensor that all hold at the end: the same journey, with copies."""
    return reduce_scatter_bytes(num_bytes, num_ranks)


def all_reduce_bytes(num_bytes: Number, num_ranks: Size) -> Number:
    """2 (n - 1) / n of the tensor: a reduce-scatter and an all-gather. Below 2 for any n."""
    return 2 * reduce_scatter_bytes(num_bytes, num_ranks)


def central_all_reduce_bytes(num_bytes: Number, num_ranks: Size) -> Number:
    """n - 1 copies of the tensor: what the busiest rank sends where one adds up for all."""
    check_positive(num_bytes=num_bytes)
    check_sizes(num_ranks=num_ranks)
    return (num_ranks - 1) * num_bytes


def all_reduce_seconds(
    num_bytes: Number, num_ranks: Size, *, bandwidth: Number, latency: Number = 0
) -> Number:
    """Seconds of a ring all-reduce: 2 (n - 1) steps of one chunk each, at `bandwidth` bytes/s.

    `bandwidth` is that of a link in one direction, `latency` what a step takes before bytes flow.
    """
    check_positive(bandwidth=bandwidth)
    check_not_negative(latency=latency)
    return all_reduce_bytes(num_bytes, num_ranks) / bandwidth + 2 * (num_ranks - 1) * latency


def zero_traffic_bytes(
    num_parameters: Size,
    num_ranks: Size,
    *,
    stage: int,
    weight_bytes: Number = 2,
    gradient_bytes: Number = 2,
    num_micro_batches: Size = 1,
) -> Number:
    """Bytes of data parallelism with ZeRO's `stage` (Rajbhandari et al., 2020); 0 is without.

    Without, the gradients are all-reduced once a step. Stage 1 cuts this in two: a reduce-scatter
    of the gradients, an all-gather of the weights that each rank has updated. Stage 2 keeps no
    whole gradient, so that each micro-batch reduces its own. Stage 3 keeps no whole weights either
    and gathers them for each forward and each backward pass. With one micro-batch and numbers of
    equal width stages 0 to 2 send the same, and stage 3 half as much again.

    Raises `ValueError` for a stage that is not 0, 1, 2 or 3.
    """
    check_stage_of_zero(stage)
    check_sizes(num_parameters=num_parameters, num_micro_batches=num_micro_batches)
    gradients = reduce_scatter_bytes(gradient_bytes * num_parameters, num_ranks)
    if stage == 0:
        return 2 * gradients
    weights = all_gather_bytes(weight_bytes * num_parameters, num_ranks)
    reductions = 1 if stage == 1 else num_micro_batches
    gathers = 2 * num_micro_batches if stage == 3 else 1
    return reductions * gradients + gathers * weights


def check_stage_of_zero(stage: int) -> None:
    """Raise `ValueError` unless the stage is 0 (plain data parallelism), 1, 2 or 3."""
    if type(stage) is not int or not 0 <= stage <= 3:
        raise ValueError(f"ZeRO has the stages 1, 2 and 3, and 0 for none; got {stage!r}")


def tensor_parallel_bytes(
    *,
    num_layers: Size,
    hidden_size: Size,
    batch_size: Size,
    seq_len: Size,
    num_ranks: Size,
    bytes_per_element: Number = 2,
) -> Number:
    """Bytes of Megatron's split (Shoeybi et al., 2019), forward and backward.

    Four all-reduces a layer, each of one residual stream: behind attention and behind the
    feed-forward network, and in the backward pass in front of both.
    """
    check_sizes(num_layers=num_layers)
    stream = residual_stream_bytes(batch_size, seq_len, hidden_size, bytes_per_element)
    return 4 * num_layers * all_reduce_bytes(stream, num_ranks)


def vocabulary_parallel_bytes(
    *,
    hidden_size: Size,
    batch_size: Size,
    seq_len: Size,
    num_ranks: Size,
    bytes_per_element: Number = 2,
    statistic_bytes: Number = 4,
) -> Number:
    """Bytes of an embedding and an LM head that are split by tokens of the vocabulary.

    Two all-reduces of a residual stream, behind the embedding and, backward, in front of the head;
    and three of one number a token, for the cross-entropy: the largest logit, the sum of the
    exponentials, the target's logit. The logits themselves are never sent.
    """
    stream = residual_stream_bytes(batch_size, seq_len, hidden_size, bytes_per_element)
    statistics = 3 * all_reduce_bytes(statistic_bytes * batch_size * seq_len, num_ranks)
    return 2 * all_reduce_bytes(stream, num_ranks) + statistics


def pipeline_bytes(
    *,
    stage: int,
    num_stages: int,
    hidden_size: Size,
    batch_size: Size,
    seq_len: Size,
    bytes_per_element: Number = 2,
) -> Number:
    """Bytes that one stage of a pipeline sends in a step, whatever the micro-batches.

    The residual stream of the whole batch to the stage behind it, and as much of its gradient to
    the stage before it; the last and the first lack one of the two. Stages count from 0.
    """
    check_pipeline_stage(stage, num_stages)
    neighbours = (stage > 0) + (stage < num_stages - 1)
    stream = residual_stream_bytes(batch_size, seq_len, hidden_size, bytes_per_element)
    return neighbours * stream


def check_pipeline_stage(stage: int, num_stages: int) -> None:
    """Raise `ValueError` unless there is a stage of this number, counted from 0."""
    if type(num_stages) is not int or type(stage) is not int or not 0 <= stage < num_stages:
        raise ValueError(
            f"stage must lie between 0 and num_stages - 1, got {stage} of {num_stages}"
        )


def residual_stream_bytes(
    batch_size: Size, seq_len: Size, hidden_size: Size, bytes_per_element: Number = 2
) -> Number:
    """One vector a token: what layers hand on."""
    check_sizes(batch_size=batch_size, seq_len=seq_len, hidden_size=hidden_size)
    check_positive(bytes_per_element=bytes_per_element)
    return bytes_per_element * batch_size * seq_len * hidden_size
