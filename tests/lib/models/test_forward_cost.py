"""What a whole model computes in one pass, by the formula and by PyTorch's own count."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lib.memory.layer import forward_cost
from lib.memory.shapes import ModelShape
from lib.models import Llama
from lib.models.configs import LlamaConfig
from lib.models.generation import Decoder
from lib.models.generation.decoder import room_for

CONFIG = LlamaConfig(
    vocab_size=50,
    hidden_size=24,
    num_layers=3,
    num_attention_heads=6,
    num_key_value_heads=2,
    intermediate_size=40,
    max_positions=64,
)
SHAPE = ModelShape(
    vocab_size=50,
    hidden_size=24,
    num_layers=3,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=4,
    intermediate_size=40,
    gated=True,
)


@pytest.mark.parametrize(("queries", "before"), [(9, 0), (1, 11), (4, 5)])
def test_flops_of_prefill_and_decoding(queries, before):
    decoder = Decoder(Llama(CONFIG).eval(), room_for(16), batch_size=2)
    keys = before + queries
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        if before:
            decoder(torch.zeros(2, before, dtype=torch.long))
        with FlopCounterMode(display=False) as counter:
            decoder(torch.zeros(2, queries, dtype=torch.long))
    softmax = 5 * 3 * 2 * 6 * queries * keys
    cost = forward_cost(SHAPE, batch_size=2, queries=queries, keys=keys)
    assert cost.flops == counter.get_total_flops() + softmax
