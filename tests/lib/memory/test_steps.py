"""Steps that wait for one another, counted in what PyTorch executes."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lib.attention import scaled_dot_product_attention
from lib.attention.scores import GeneralScores
from lib.attention.seq2seq import Seq2Seq
from lib.masks import causal
from lib.memory.steps import sequential_steps


class LongestChain(TorchDispatchMode):
    """How many calls of one operation had to wait for one another: the longest chain of them."""

    def __init__(self, operation: str) -> None:
        super().__init__()
        # The storages are kept, so that none is freed and its address given to another.
        self.operation, self.kept, self.depth = operation, [], {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        outputs, inputs = self.addresses(result), self.addresses((args, kwargs))
        depth = max((self.depth.get(address, 0) for address in inputs), default=0)
        depth += func.overloadpacket.__name__ == self.operation
        for address in outputs:
            self.depth[address] = max(self.depth.get(address, 0), depth)
        return result

    def addresses(self, values):
        storages = [x.untyped_storage() for x in tree_leaves(values) if torch.is_tensor(x)]
        self.kept += storages
        return [storage.data_ptr() for storage in storages]

    @property
    def longest(self) -> int:
        return max(self.depth.values())


def recurrent_chain(source_len, target_len, score):
    """A plain RNN takes exactly one tanh a step."""
    model = Seq2Seq(4, 4, 3, cell="rnn", score=score)
    source = torch.ones(2, source_len, dtype=torch.int64)
    inputs = torch.ones(2, target_len, dtype=torch.int64)
    with LongestChain("tanh") as chain:
        model(source, torch.tensor([source_len] * 2), inputs)
    return chain.longest


def attention_chain(source_len, target_len):
    """Self-attention reads; causal self-attention, then cross-attention write: one softmax each."""
    source, target = torch.rand(source_len, 4), torch.rand(target_len, 4)
    with LongestChain("_softmax") as chain:
        read = scaled_dot_product_attention(source, source, source)
        written = scaled_dot_product_attention(target, target, target, causal(target_len))
        scaled_dot_product_attention(written, read, read)
    return chain.longest


def generating_chain(source_len, target_len):
    """The same layers, when each token is made of the output before it."""
    source, tokens = torch.rand(source_len, 4), torch.rand(1, 4)
    with LongestChain("_softmax") as chain:
        read = scaled_dot_product_attention(source, source, source)
        for _ in range(target_len):
            written = scaled_dot_product_attention(tokens[-1:], tokens, tokens)
            token = scaled_dot_product_attention(written, read, read)
            tokens = torch.cat([tokens, token])
    return chain.longest


@pytest.mark.parametrize("lengths", [(1, 1), (4, 2), (3, 7)])
@pytest.mark.parametrize("attends", [False, True])
def test_a_recurrent_network_takes_a_step_per_position_with_attention_too(lengths, attends):
    source_len, target_len = lengths
    steps = sequential_steps(source_len=source_len, target_len=target_len, recurrent=True)
    assert recurrent_chain(*lengths, GeneralScores(3, 3) if attends else None) == steps


def test_attention_takes_as_many_steps_however_long_the_sequences():
    """Its decoder layer is two attentions deep, and so is every chain through it."""
    assert attention_chain(1, 1) == attention_chain(9, 5) == 2
    lengths = [(1, 1), (9, 5), (4096, 512)]
    steps = [sequential_steps(source_len=n, target_len=m, recurrent=False) for n, m in lengths]
    assert steps == [2, 2, 2]


@pytest.mark.parametrize("target_len", [1, 2, 6])
def test_generating_waits_for_every_token(target_len):
    """Each token takes one pass of the decoder layer, two attentions deep."""
    steps = sequential_steps(source_len=3, target_len=target_len, recurrent=False, generating=True)
    encoder_steps = 1
    assert generating_chain(3, target_len) == 2 * (steps - encoder_steps)


def test_generating_changes_nothing_for_a_recurrent_network():
    sizes = {"source_len": 5, "target_len": 7, "recurrent": True}
    assert sequential_steps(**sizes, generating=True) == sequential_steps(**sizes) == 12


def test_bad_lengths_are_refused(import_unchecked):
    steps = import_unchecked("lib.memory.steps").sequential_steps
    for lengths in [{"source_len": 0, "target_len": 1}, {"source_len": 1, "target_len": 1.5}]:
        with pytest.raises(ValueError, match="must be a positive whole number"):
            steps(**lengths, recurrent=False)
