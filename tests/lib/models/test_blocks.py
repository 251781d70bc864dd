"""The blocks, each against its definition and against torch's."""

from math import sqrt

import pytest
import torch
from torch import nn
from torch.nn import functional

from lib.models import T5, Bert, Gpt2, Transformer, activations, configs
from lib.models.embeddings import TokenEmbedding
from lib.models.feed_forward import FeedForward
from lib.models.norms import BatchNorm, LayerNorm, RMSNorm
from lib.models.residual import PostNorm, PreNorm

X = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 + 1


def randomised(module):
    generator = torch.Generator().manual_seed(1)
    module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(generator=generator)
    return module


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(LayerNorm(8, 0.1), nn.LayerNorm(8, 0.1)), (RMSNorm(8, 0.1), nn.RMSNorm(8, 0.1))],
)
def test_norms_by_definition_as_computed_and_by_torch(ours, theirs):
    theirs.load_state_dict(randomised(ours).state_dict())
    expected = theirs.double()(X)
    torch.testing.assert_close(ours(X), expected)
    torch.testing.assert_close(ours.by_definition(X), expected)


def test_batch_norm_in_training_and_after_it():
    ours, theirs = randomised(BatchNorm(8)), nn.BatchNorm1d(8).double()
    theirs.load_state_dict({"weight": ours.weight, "bias": ours.bias}, strict=False)
    for batch in (X, 3 * X - 1):
        torch.testing.assert_close(ours(batch).mT, theirs(batch.mT))
    torch.testing.assert_close(ours.running_variance, theirs.running_var)
    torch.testing.assert_close(ours.eval()(X).mT, theirs.eval()(X.mT))


def test_only_batch_norm_lets_sequences_of_a_batch_see_each_other():
    other = X.clone()
    other[1] += torch.arange(8)
    for norm, alone in (LayerNorm(8), True), (RMSNorm(8), True), (BatchNorm(8), False):
        norm.double()
        assert torch.equal(norm(X)[0], norm(other)[0]) is alone


@pytest.mark.parametrize("name", activations.ACTIVATIONS)
def test_activations_as_their_formulas_read(name):
    written_out = getattr(activations, name)
    torch.testing.assert_close(written_out(X), activations.activation(name)(X))


def test_the_two_gelus_are_near_and_not_equal():
    x = torch.linspace(-6, 6, 1_001, dtype=torch.float64)
    distance = (activations.gelu(x) - activations.gelu_tanh(x)).abs().max()
    assert 4e-4 < distance < 5e-4


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("gated", [True, False])
def test_feed_forward_networks(gated, bias):
    network = randomised(FeedForward(8, 12, activation="silu", gated=gated, bias=bias))
    state = network.state_dict()

    def linear(name, x):
        return x @ state[f"{name}.weight"].T + state.get(f"{name}.bias", 0)

    wide = functional.silu(linear("gate", X)) * linear("up", X) if gated else None
    wide = functional.silu(linear("up", X)) if wide is None else wide
    torch.testing.assert_close(network(X), linear("down", wide))
    assert len(state) == (3 if gated else 2) * (2 if bias else 1)


def test_pre_norm_and_post_norm():
    sublayer, norm = randomised(nn.Linear(8, 8)), randomised(LayerNorm(8))
    pre = PreNorm(sublayer, norm=lambda: norm)
    post = PostNorm(sublayer, norm=lambda: norm)
    torch.testing.assert_close(pre(X), X + sublayer(norm(X)))
    torch.testing.assert_close(post(X), norm(X + sublayer(X)))


def test_dropout_falls_on_what_the_sublayer_adds_and_only_in_training():
    residual = PreNorm(nn.Identity(), norm=lambda: nn.Identity(), dropout=0.5)
    added = residual(X) - X
    assert {round(value, 6) for value in (added / X).unique().tolist()} == {0.0, 2.0}
    assert torch.equal(residual.eval()(X), 2 * X)


def test_the_tied_head_scores_by_dot_products_with_the_rows():
    tokens = randomised(TokenEmbedding(10, 8))
    expected = torch.stack([X @ row for row in tokens.weight], dim=-1)
    torch.testing.assert_close(tokens.logits(X), expected)


SIZES = {
    "vocab_size": 300,
    "hidden_size": 128,
    "num_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 256,
}


def assert_std(tensor, expected):
    """Within five standard errors of a standard deviation, 1 / √(2 n) of it."""
    assert tensor.std().item() == pytest.approx(expected, rel=5 / sqrt(2 * tensor.numel()))
    assert abs(tensor.mean().item()) < 5 * expected / sqrt(tensor.numel())


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def test_bert_and_gpt2_start_from_a_normal_distribution():
    for model in Bert(configs.BertConfig(**SIZES)), Gpt2(configs.GptConfig(**SIZES)):
        layer = model.layers[1]
        read = [layer.self_attention.sublayer.query, layer.feed_forward.sublayer.up]
        write = [layer.self_attention.sublayer.output, layer.feed_forward.sublayer.down]
        scale = 1 if isinstance(model, Bert) else sqrt(2 * 4)
        for module in (model.tokens, model.positions, *read):
            assert_std(module.weight, 0.02)
        for module in write:
            assert_std(module.weight, 0.02 / scale)
            assert not module.bias.any()
        assert (model.norm.weight == 1).all() and not model.norm.bias.any()


def test_t5_puts_the_scale_of_the_scores_into_the_queries():
    model = T5(configs.T5Config(**SIZES, head_dim=32))
    layer = model.decoder.layers[0]
    for attention in layer.self_attention.sublayer, layer.cross_attention.sublayer:
        assert_std(attention.query.weight, (128 * 32) ** -0.5)
        assert_std(attention.key.weight, 128**-0.5)
    assert_std(layer.feed_forward.sublayer.down.weight, 256**-0.5)
    assert_std(model.tokens.weight, 1)


def test_the_original_transformer_is_uniform():
    model = Transformer(configs.TransformerConfig(**SIZES))
    weight = model.encoder.layers[0].feed_forward.sublayer.up.weight
    assert_std(weight, sqrt(2 / (128 + 256)))
    assert weight.abs().max() <= sqrt(6 / (128 + 256))
    assert_std(model.tokens.weight, 128**-0.5)
