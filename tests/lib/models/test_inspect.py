"""`watch` records every layer and leaves nothing behind; with it, GPT-3's pattern and MAE."""

import pytest
import torch
import transformers

from lib import masks
from lib.attention.multi_head import MultiHeadAttention
from lib.kv_cache import GrowingCache
from lib.models import T5, Albert, Bert, Gpt2, Gpt3, Mae, Vit, configs, watch
from lib.models.generation import generate
from lib.models.hugging_face import entries, from_hugging_face
from lib.models.mae import draw_visible
from lib.models.packed import pack_model
from lib.models.vit import patches

SIZES = {
    "vocab_size": 30,
    "hidden_size": 16,
    "num_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
IDS = torch.randint(30, (2, 8), generator=torch.Generator().manual_seed(0))
WINDOW = 3
BANDED = configs.Gpt3Config(**SIZES, max_positions=8, window=WINDOW)

CALLS = {
    "bert": (lambda: Bert(configs.BertConfig(**SIZES)), (IDS,)),
    "gpt2": (lambda: Gpt2(configs.GptConfig(**SIZES)), (IDS,)),
    "t5": (lambda: T5(configs.T5Config(**SIZES, head_dim=8)), (IDS, IDS)),
}


@pytest.fixture(params=CALLS)
def call(request):
    build, inputs = CALLS[request.param]
    return build().eval(), inputs


def hooks(model):
    modules = list(model.modules())
    return [hook for m in modules for hook in (*m._forward_hooks, *m._forward_pre_hooks)]


def test_outside_of_the_with_nothing_is_different(call):
    model, inputs = call
    before, forwards = model(*inputs), [module.forward for module in model.modules()]
    with watch(model):
        assert hooks(model)
        model(*inputs)
    assert hooks(model) == []
    assert [module.forward for module in model.modules()] == forwards
    assert torch.equal(model(*inputs), before)


def test_an_error_inside_the_with_removes_the_hooks_too(call):
    model, _ = call
    with pytest.raises(ZeroDivisionError), watch(model):
        raise ZeroDivisionError
    assert hooks(model) == []


def test_every_layer_and_every_attention_is_recorded(call):
    model, inputs = call
    with watch(model) as seen:
        output = model(*inputs)
    torch.testing.assert_close(output, model(*inputs))
    attentions = [n for n, m in model.named_modules() if isinstance(m, MultiHeadAttention)]
    assert sorted(seen.attention_weights) == sorted(attentions)
    assert len(seen.hidden_states) == 4 * (2 if isinstance(model, T5) else 1)
    for hidden in seen.hidden_states.values():
        assert hidden.shape == (2, 8, 16)
    for weights in seen.attention_weights.values():
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 8))


def test_a_second_call_replaces_the_first_and_gradients_flow_through(call):
    model, inputs = call
    with watch(model) as seen:
        model(*inputs)
        first = dict(seen.hidden_states)
        model(*inputs)
    name, hidden = next(iter(seen.hidden_states.items()))
    assert list(first) == list(seen.hidden_states) and first[name] is not hidden
    assert torch.autograd.grad(hidden.square().sum(), next(model.parameters()))[0].abs().sum() > 0


def test_a_layer_that_runs_again_and_again_is_recorded_each_time():
    model = Albert(configs.AlbertConfig(**SIZES, embedding_size=8)).eval()
    labels = ["layer", "layer, run 2", "layer, run 3", "layer, run 4"]
    with watch(model) as seen:
        for _ in range(2):
            output = model(IDS)
            assert list(seen.hidden_states) == labels
    assert torch.equal(seen.hidden_states[labels[-1]], output)
    assert len({hidden[0, 0, 0].item() for hidden in seen.hidden_states.values()}) == 4
    attention = next(iter(seen.attention_weights))
    assert list(seen.attention_weights) == [label.replace("layer", attention) for label in labels]
    assert hooks(model) == []


def test_decoding_replaces_the_step_before():
    model = Gpt2(configs.GptConfig(**SIZES)).eval()
    with watch(model) as seen:
        generate(model, [[1, 2, 3]], max_new_tokens=3)
    assert len(seen.hidden_states) == len(seen.attention_weights) == 4
    assert {each.shape for each in seen.hidden_states.values()} == {(1, 1, 16)}
    assert {each.shape for each in seen.attention_weights.values()} == {(1, 2, 1, 5)}


def test_a_call_that_fails_does_not_count_towards_the_next(call):
    model, inputs = call
    with watch(model) as seen:
        with pytest.raises(ValueError, match="token ids"):
            model(*[torch.full_like(each, 99) for each in inputs])
        model(*inputs)
    assert not any("run" in name for name in seen.hidden_states)


def test_a_model_is_watched_once_at_a_time(call):
    model, inputs = call
    before = model(*inputs)
    with watch(model), pytest.raises(ValueError, match="is being watched already"), watch(model):
        pass
    assert hooks(model) == []
    assert torch.equal(model(*inputs), before)


def test_there_is_nothing_to_watch_in_a_packed_model():
    model = Gpt2(configs.GptConfig(**SIZES))
    for blind in (pack_model(model), model.tokens):
        with pytest.raises(ValueError, match="no layer and no attention to watch"), watch(blind):
            pass


def test_gpt3_alternates_dense_and_banded_layers():
    model = Gpt3(BANDED).eval()
    with watch(model) as seen:
        model(IDS)
    for index, weights in enumerate(seen.attention_weights.values()):
        banded = masks.sliding_window(8, window=WINDOW)
        sees = banded if index % 2 else masks.causal(8)
        assert torch.equal(weights > 0, sees.expand_as(weights)), index


def test_gpt3_with_a_wide_band_is_gpt2():
    wide = Gpt3(configs.Gpt3Config(**SIZES, max_positions=8, window=8)).eval()
    dense = Gpt2(configs.GptConfig(**SIZES, max_positions=8)).eval()
    dense.load_state_dict(wide.state_dict())
    torch.testing.assert_close(wide(IDS), dense(IDS))


def test_gpt3_decodes_with_caches_what_it_computes_at_once():
    model = Gpt3(BANDED).double().eval()
    sizes = {"batch_size": 2, "num_key_value_heads": 2, "head_dim": 8, "dtype": torch.float64}
    caches = [GrowingCache(**sizes) for _ in model.layers]
    steps = [model(IDS[:, :3], caches=caches)]
    steps += [model(IDS[:, i : i + 1], caches=caches) for i in range(3, 8)]
    torch.testing.assert_close(torch.cat(steps, dim=1), model(IDS))


def test_visible_patches_are_drawn_without_repetition_from_the_generator():
    drawn = draw_visible(50, 12, 3, torch.Generator().manual_seed(0))
    assert torch.equal(drawn, draw_visible(50, 12, 3, torch.Generator().manual_seed(0)))
    assert all(len(set(row)) == 3 for row in drawn.tolist())
    assert drawn.unique().tolist() == list(range(12))


VIT = configs.VitConfig(**{**SIZES, "num_layers": 2}, image_size=8, patch_size=2)
IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
DECODER = {"hidden_size": 8, "num_layers": 1, "num_attention_heads": 2}


def randomised(model):
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3, generator=generator)
    return model


def test_mae_sees_the_visible_patches_alone():
    mae = randomised(Mae(Vit(VIT), **DECODER).double().eval())
    visible = draw_visible(2, 16, 4, torch.Generator().manual_seed(0))
    painted = mae(IMAGES, visible)
    assert painted.shape == patches(IMAGES, 2).shape == (2, 16, 12)
    hidden = torch.ones(2, 16, dtype=torch.bool).scatter(1, visible, False)
    # Another pixel in a hidden patch of the first image, then in a visible one.
    for patch, same in (hidden[0].nonzero()[0].item(), True), (visible[0, 0].item(), False):
        changed = IMAGES.clone()
        changed[0, 0, patch // 4 * 2, patch % 4 * 2] += 1
        assert torch.equal(mae(changed, visible), painted) is same
    errors = (painted - patches(IMAGES, 2))[hidden].square().mean()
    torch.testing.assert_close(mae.loss(IMAGES, visible), errors)


def test_mae_does_not_care_for_the_order_of_the_visible_patches():
    mae = randomised(Mae(Vit(VIT), **DECODER).double().eval())
    visible = draw_visible(2, 16, 5, torch.Generator().manual_seed(0))
    torch.testing.assert_close(mae(IMAGES, visible), mae(IMAGES, visible.flip(1)))


def their_mae():
    config = transformers.ViTMAEConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=8,
        patch_size=2,
        decoder_hidden_size=8,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=32,
        mask_ratio=0.75,
    )
    return randomised(transformers.ViTMAEForPreTraining(config).double().eval())


def mae_from_hugging_face(theirs):
    """Their names for the encoder are ViT's; their pixels stand rows, columns, channels."""
    mae = Mae(Vit(VIT), **DECODER).double().eval()
    state = theirs.state_dict()
    classifier = {f"classifier.{n}": p for n, p in mae.vit.classifier.state_dict().items()}
    mae.vit.load_state_dict(from_hugging_face({**state, **classifier}, mae.vit))
    decoder = Vit(configs.VitConfig(**{**SIZES, "num_layers": 1}, image_size=8, patch_size=2))
    for entry in entries(decoder):
        theirs_name = entry.theirs.replace("vit.layers", "decoder.decoder_layers")
        if "layers" in theirs_name:
            for name, tensor in entry.split(state[theirs_name]).items():
                mae.get_parameter(name).data.copy_(tensor)
    for kind in ("weight", "bias"):
        mae.get_parameter(f"narrow.{kind}").data.copy_(state[f"decoder.decoder_embed.{kind}"])
        mae.get_parameter(f"norm.{kind}").data.copy_(state[f"decoder.decoder_norm.{kind}"])
        rows = state[f"decoder.decoder_pred.{kind}"].unflatten(0, (2, 2, 3))
        mae.get_parameter(f"paint.{kind}").data.copy_(rows.movedim(2, 0).flatten(end_dim=2))
    mae.hidden_patch.data.copy_(state["decoder.mask_token"])
    mae.positions.data.copy_(state["decoder.decoder_pos_embed"])
    return mae


def test_mae_equals_hugging_face():
    theirs = their_mae()
    mae = mae_from_hugging_face(theirs)
    noise = torch.rand(2, 16, generator=torch.Generator().manual_seed(3))
    visible = noise.argsort(dim=1)[:, :4]
    expected = theirs(IMAGES, noise=noise)
    torch.testing.assert_close(mae.loss(IMAGES, visible), expected.loss, rtol=1e-10, atol=1e-10)
    painted = mae(IMAGES, visible).unflatten(2, (3, 2, 2)).movedim(2, -1).flatten(start_dim=2)
    torch.testing.assert_close(painted, expected.logits, rtol=1e-10, atol=1e-10)
