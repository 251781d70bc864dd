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
) -> Number:
    """Bytes of the key-value cache: a key and a value for every token, head and layer."""
    check_sizes(batch_size=batch_size, seq_len=seq_len, num_layers=num_layers)
    check_sizes(num_key_value_heads=num_key_value_heads, head_dim=head_dim)
    check_positive(bytes_per_element=bytes_per_element)
    keys = batch_size * seq_len * num_layers * num_key_value_heads * head_dim
    return 2 * keys * bytes_per_element


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
