"""What must be kept in global memory: the cache of decoding, the model states of training.

What training keeps of its activations is in `activations`. Bytes throughout. Sizes are positive
whole numbers or SymPy expressions; anything else raises `ValueError`.
"""

import sympy

from lib.memory.sizes import Number, Size, check_not_negative, check_positive, check_sizes


def kv_cache_bytes(
    *,
    batch_size: Size,
    seq_len: Size,
    num_layers: Size,
    num_key_value_heads: Size,
    head_dim: Size,
    bytes_per_element: Number = 2,
    window: Size | None = None,
    num_sinks: Size = 0,
) -> Number:
    """Bytes of the key-value cache: a key and a value for every token, head and layer.

    With a `window`, of no more tokens than that and the `num_sinks` first ones (StreamingLLM, Xiao
    et al., 2024).
    """
    check_sizes(batch_size=batch_size, seq_len=seq_len, num_layers=num_layers)
    check_sizes(num_key_value_heads=num_key_value_heads, head_dim=head_dim)
    check_positive(bytes_per_element=bytes_per_element)
    tokens = batch_size * num_layers * _held_tokens(seq_len, window, num_sinks)
    return 2 * tokens * num_key_value_heads * head_dim * bytes_per_element


def _held_tokens(seq_len: Size, window: Size | None, num_sinks: Size) -> Size:
    if num_sinks != 0:
        check_sizes(num_sinks=num_sinks)
    if window is None:
        if num_sinks != 0:
            raise ValueError(f"num_sinks needs a window beside it, got {num_sinks!r} and no window")
        return seq_len
    check_sizes(window=window)
    held = num_sinks + window
    symbolic = isinstance(held, sympy.Expr) or isinstance(seq_len, sympy.Expr)
    return sympy.Min(seq_len, held) if symbolic else min(seq_len, held)


def latent_cache_bytes(
    *,
    batch_size: Size,
    seq_len: Size,
    num_layers: Size,
    latent_dim: Size,
    rope_dim: Size,
    bytes_per_element: Number = 2,
) -> Number:
    """Bytes of the cache of multi-head latent attention (DeepSeek-V2, 2024).

    One latent vector and one rotated key for every token and layer, however many heads there are.
    """
    check_sizes(batch_size=batch_size, seq_len=seq_len, num_layers=num_layers)
    check_sizes(latent_dim=latent_dim, rope_dim=rope_dim)
    check_positive(bytes_per_element=bytes_per_element)
    return batch_size * seq_len * num_layers * (latent_dim + rope_dim) * bytes_per_element


def quantised_cache_bytes(
    *,
    batch_size: Size,
    seq_len: Size,
    num_layers: Size,
    num_key_value_heads: Size,
    head_dim: Size,
    bytes_per_element: Number = 1,
    scale_bytes: Number = 4,
) -> Number:
    """Bytes of a cache of small numbers, with one scale for each key and each value.

    A scale for every token, head and layer, twice: of 4 bytes, to 8-bit vectors of 128, it adds 3 %
    (to 4-bit ones, `bytes_per_element=0.5`, 6 %).
    """
    check_positive(scale_bytes=scale_bytes)
    sizes = {"batch_size": batch_size, "seq_len": seq_len, "num_layers": num_layers}
    heads = {"num_key_value_heads": num_key_value_heads}
    numbers = kv_cache_bytes(
        **sizes, **heads, head_dim=head_dim, bytes_per_element=bytes_per_element
    )
    return numbers + kv_cache_bytes(**sizes, **heads, head_dim=1, bytes_per_element=scale_bytes)


def paged_cache_bytes(
    *,
    batch_size: Size,
    seq_len: Size,
    block_size: Size,
    num_layers: Size,
    num_key_value_heads: Size,
    head_dim: Size,
    bytes_per_element: Number = 2,
) -> Number:
    """Bytes of the blocks that sequences of this length hold (PagedAttention, Kwon et al., 2023).

    As many tokens as fill whole blocks of `block_size`. For different lengths add up calls with
    `batch_size=1`.
    """
    check_sizes(seq_len=seq_len, block_size=block_size)
    symbolic = isinstance(seq_len, sympy.Expr) or isinstance(block_size, sympy.Expr)
    blocks = sympy.ceiling(seq_len / block_size) if symbolic else -(-seq_len // block_size)
    return kv_cache_bytes(
        batch_size=batch_size,
        seq_len=blocks * block_size,
        num_layers=num_layers,
        num_key_value_heads=num_key_value_heads,
        head_dim=head_dim,
        bytes_per_element=bytes_per_element,
    )


def max_batch_size(
    *, memory_bytes: Number, bytes_per_sequence: Number, reserved_bytes: Number = 0
) -> Number:
    """How many sequences' caches fit beside what is already taken (the weights, say).

    0 when not even one does. Raises `ValueError` when the reserved bytes alone do not fit.
    """
    check_positive(memory_bytes=memory_bytes, bytes_per_sequence=bytes_per_sequence)
    check_not_negative(reserved_bytes=reserved_bytes)
    free = memory_bytes - reserved_bytes
    if not isinstance(free, sympy.Expr) and free < 0:
        raise ValueError(
            f"reserved_bytes must lie between 0 and memory_bytes = {memory_bytes:,}, "
            f"got {reserved_bytes:,}"
        )
    fitting = free // bytes_per_sequence
    return fitting if isinstance(fitting, sympy.Expr) else int(fitting)


def training_state_bytes(
    num_parameters: Size,
    *,
    weight_bytes: Number = 2,
    gradient_bytes: Number = 2,
    master_weights: bool = True,
    optimizer_states: int = 2,
    state_bytes: Number = 4,
) -> dict[str, Number]:
    """Bytes that training holds for every parameter, by what they are for.

    The defaults are mixed precision with Adam (Micikevicius et al., 2018; Rajbhandari et al.,
    2020): 2 + 2 + 4 + 4 + 4 = 16 bytes a parameter. Plain float32 with Adam is `weight_bytes=4,
    gradient_bytes=4, master_weights=False`; SGD has `optimizer_states=0`, with momentum 1.
    """
    check_sizes(num_parameters=num_parameters)
    check_positive(
        weight_bytes=weight_bytes, gradient_bytes=gradient_bytes, state_bytes=state_bytes
    )
    if type(optimizer_states) is not int or optimizer_states < 0:
        raise ValueError(
            f"optimizer_states must be a whole number, 0 or more, got {optimizer_states!r}"
        )
    parts = {"weights": weight_bytes, "gradients": gradient_bytes}
    if master_weights:
        parts["master weights"] = 4
    if optimizer_states:
        parts["optimizer states"] = optimizer_states * state_bytes
    return {name: each * num_parameters for name, each in parts.items()}
