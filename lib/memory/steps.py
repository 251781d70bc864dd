"""Steps that wait for one another: what no amount of hardware can do at the same time.

FLOPs and bytes shrink with more processors; this does not. The batch is not in it: its sequences
take their steps side by side.
"""

from lib.memory.sizes import Size, check_sizes


def sequential_steps(
    *, source_len: Size, target_len: Size, recurrent: bool, generating: bool = False
) -> Size:
    """Steps, one after the other, of one encoder and one decoder layer over a pair of sequences.

    A recurrent layer takes one per position, as each state needs the one before: source_len +
    target_len, and attention between encoder and decoder takes none of them away. An attention
    layer sees all positions at once: 1 + 1, whatever the lengths (Vaswani et al., 2017, table 1).
    That is training, where the target is known. `generating` it, every token waits for the one
    before, with attention too: 1 + target_len.

    Raises `ValueError` for lengths that are not positive.
    """
    check_sizes(source_len=source_len, target_len=target_len)
    if recurrent:
        return source_len + target_len
    return 1 + (target_len if generating else 1)
