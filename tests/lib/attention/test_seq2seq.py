"""Encoder and decoder against loops over single vectors and torch's cells written out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lib.attention.scores import AdditiveScores, GeneralScores, dot_scores
from lib.attention.seq2seq import CELLS, AttendedContext, FixedContext, Seq2Seq

HIDDEN, SOURCE_VOCAB, TARGET_VOCAB = 6, 9, 7
START, END = 1, 2

SCORES = {
    "fixed": lambda: None,
    "dot": lambda: dot_scores,
    "general": lambda: GeneralScores(HIDDEN, HIDDEN),
    "additive": lambda: AdditiveScores(HIDDEN, HIDDEN, 5),
}
every_cell = pytest.mark.parametrize("cell", CELLS)
every_context = pytest.mark.parametrize("context", SCORES)


def make_model(cell="gru", context="additive", seed=0):
    torch.manual_seed(seed)
    score = SCORES[context]()
    return Seq2Seq(SOURCE_VOCAB, TARGET_VOCAB, HIDDEN, cell=cell, score=score).double()


def make_batch(lengths=(5, 1, 3), target=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    source = torch.randint(3, SOURCE_VOCAB, (len(lengths), max(lengths)), generator=generator)
    inputs = torch.randint(1, TARGET_VOCAB, (len(lengths), target), generator=generator)
    return source, torch.tensor(lengths), inputs


def step_by_hand(weights, cell, x, state):
    """One step of a recurrent network, as the papers write it; state is (output, memory)."""
    w_x, w_h, b_x, b_h = weights
    output, memory = state
    from_input, from_state = w_x @ x + b_x, w_h @ output + b_h
    if cell == "rnn":
        return torch.tanh(from_input + from_state), memory
    if cell == "lstm":
        i, f, g, o = (from_input + from_state).chunk(4)
        memory = f.sigmoid() * memory + i.sigmoid() * g.tanh()
        return o.sigmoid() * memory.tanh(), memory
    (r_x, z_x, n_x), (r_h, z_h, n_h) = from_input.chunk(3), from_state.chunk(3)
    reset, update = (r_x + r_h).sigmoid(), (z_x + z_h).sigmoid()
    return (1 - update) * (n_x + reset * n_h).tanh() + update * output, memory


def context_by_hand(model, query, states):
    """Bahdanau et al., 2015, equations 5 and 6; or the last state (Cho et al., 2014)."""
    if isinstance(model.context, FixedContext):
        return states[-1], torch.eye(len(states), dtype=torch.float64)[-1]
    score = model.context.score
    if isinstance(score, GeneralScores):
        energies = [query @ score.W.weight @ state for state in states]
    elif isinstance(score, AdditiveScores):
        hidden = [score.W_q.weight @ query + score.W_k.weight @ state for state in states]
        energies = [score.v.weight[0] @ h.tanh() for h in hidden]
    else:
        energies = [query @ state for state in states]
    weights = torch.stack(energies).exp() / torch.stack(energies).exp().sum()
    return sum(weight * state for weight, state in zip(weights, states, strict=True)), weights


def sequence_by_hand(model, cell, source, inputs):
    """One pair of sequences without padding, one vector at a time."""
    zeros = torch.zeros(HIDDEN, dtype=torch.float64)
    state, states = (zeros, zeros), []
    for token in source:
        x = model.source_embedding.weight[token]
        state = step_by_hand(list(model.encoder.parameters()), cell, x, state)
        states.append(state[0])
    logits, alignments = [], []
    for token in inputs:
        context, weights = context_by_hand(model, state[0], states)
        x = torch.cat([model.target_embedding.weight[token], context])
        state = step_by_hand(list(model.decoder.parameters()), cell, x, state)
        output = model.output
        logits.append(output.weight @ torch.cat([state[0], context]) + output.bias)
        alignments.append(weights)
    return torch.stack(logits), torch.stack(alignments)


@every_cell
@every_context
@torch.no_grad()
def test_the_batch_equals_loops_over_single_vectors(cell, context):
    model, (source, lengths, inputs) = make_model(cell, context), make_batch()
    logits, weights = model(source, lengths, inputs)
    for row, length in enumerate(lengths.tolist()):
        expected = sequence_by_hand(model, cell, source[row, :length], inputs[row])
        torch.testing.assert_close(logits[row], expected[0])
        torch.testing.assert_close(weights[row, :, :length], expected[1])
        assert not weights[row, :, length:].any()


@every_cell
@every_context
@settings(max_examples=10)
@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    extra=st.integers(1, 3),
    junk=st.integers(0, SOURCE_VOCAB - 1),
)
def test_padding_changes_nothing(cell, context, lengths, extra, junk):
    model, (source, lengths, inputs) = make_model(cell, context), make_batch(lengths)
    plain = model(source, lengths, inputs)
    padded = torch.cat([source, torch.full((len(lengths), extra), junk)], dim=1)
    padded[torch.arange(padded.shape[1]) >= lengths[:, None]] = junk
    logits, weights = model(padded, lengths, inputs)
    torch.testing.assert_close(logits, plain[0])
    torch.testing.assert_close(weights[..., : source.shape[1]], plain[1])
    assert not weights[..., source.shape[1] :].any()


def test_padding_gets_no_gradient():
    model, (source, lengths, inputs) = make_model(), make_batch()
    source[torch.arange(5) >= lengths[:, None]] = 0
    model(source, lengths, inputs)[0].square().sum().backward()
    gradient = model.source_embedding.weight.grad
    assert not gradient[0].any() and gradient[source[0, 0]].any()


@every_cell
@every_context
def test_every_parameter_learns(cell, context):
    model, (source, lengths, inputs) = make_model(cell, context), make_batch()
    model(source, lengths, inputs)[0].square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.any(), name


@every_context
def test_weights_are_shares_of_what_was_read(context):
    model, batch = make_model(context=context), make_batch()
    _, weights = model(*batch)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 4, dtype=torch.float64))
    assert (weights >= 0).all()


def test_a_fixed_context_never_looks_elsewhere():
    """And attention does: its weights differ from step to step."""
    source, lengths, inputs = make_batch()
    _, fixed = make_model(context="fixed")(source, lengths, inputs)
    assert fixed.argmax(-1).tolist() == [[4] * 4, [0] * 4, [2] * 4]
    assert set(fixed.unique().tolist()) == {0.0, 1.0}
    _, moving = make_model(context="additive")(source, lengths, inputs)
    assert (moving[0, 1:] - moving[0, :-1]).abs().amax(-1).min() > 1e-6


@every_cell
@every_context
def test_teacher_forcing_is_the_steps_one_by_one(cell, context):
    model, (source, lengths, inputs) = make_model(cell, context), make_batch()
    logits, weights = model(source, lengths, inputs)
    encoded = model.encode(source, lengths)
    state = encoded.final
    for step in range(inputs.shape[1]):
        one, state, looked = model.step(inputs[:, step], state, encoded)
        torch.testing.assert_close(one, logits[:, step])
        torch.testing.assert_close(looked, weights[:, step])


def test_the_future_of_the_target_does_not_reach_back():
    model, (source, lengths, inputs) = make_model(), make_batch()
    before, _ = model(source, lengths, inputs)
    inputs[:, 2] = (inputs[:, 2] + 1) % TARGET_VOCAB
    after, _ = model(source, lengths, inputs)
    torch.testing.assert_close(after[:, :2], before[:, :2], rtol=0, atol=0)
    assert (after[:, 2:] != before[:, 2:]).all()


@pytest.mark.parametrize("seed", range(5))
@every_context
def test_greedy_decoding_agrees_with_teacher_forcing_on_what_it_wrote(context, seed):
    model, (source, lengths, _) = make_model(context=context, seed=seed), make_batch(seed=seed)
    tokens, weights = model.greedy_decode(source, lengths, start=START, end=END, max_steps=8)
    inputs = torch.cat([torch.full((3, 1), START), tokens[:, :-1]], dim=1)
    logits, forced = model(source, lengths, inputs)
    over = (inputs == END).cumsum(dim=1) > 0
    torch.testing.assert_close(logits.argmax(-1)[~over], tokens[~over])
    torch.testing.assert_close(forced[~over], weights[~over])
    assert (tokens[over] == END).all()


def test_greedy_decoding_stops_when_all_have_ended():
    model, (source, lengths, _) = make_model(), make_batch()
    with torch.no_grad():
        model.output.bias[END] = 100.0
    tokens, weights = model.greedy_decode(source, lengths, start=START, end=END, max_steps=8)
    assert tokens.tolist() == [[END]] * 3 and weights.shape == (3, 1, 5)
    with torch.no_grad():
        model.output.bias[END] = -100.0
    tokens, _ = model.greedy_decode(source, lengths, start=START, end=END, max_steps=8)
    assert tokens.shape == (3, 8) and not (tokens == END).any()


@pytest.mark.parametrize(("cell", "gates"), [("rnn", 1), ("gru", 3), ("lstm", 4)])
def test_parameter_counts(cell, gates):
    d = HIDDEN
    encoder, decoder = gates * (d * d + d * d + 2 * d), gates * (2 * d * d + d * d + 2 * d)
    embeddings, output = (SOURCE_VOCAB + TARGET_VOCAB) * d, (2 * d + 1) * TARGET_VOCAB
    fixed = encoder + decoder + embeddings + output
    more = {"fixed": 0, "dot": 0, "general": d * d, "additive": 5 * (d + d) + 5}
    for context, extra in more.items():
        model = make_model(cell, context)
        assert sum(p.numel() for p in model.parameters()) == fixed + extra


def test_the_models_differ_in_their_context_alone():
    parts = [dict(make_model(context=context).named_children()) for context in SCORES]
    assert [list(part) for part in parts] == [list(parts[0])] * len(SCORES)
    kinds = [type(part.pop("context")) for part in parts]
    assert kinds == [FixedContext] + [AttendedContext] * 3
    assert len({str(list(part.values())) for part in parts}) == 1


@every_cell
def test_cells_and_layers_are_torchs_of_one_kind(cell):
    layer, step = CELLS[cell]
    assert issubclass(layer, nn.RNNBase) and issubclass(step, nn.RNNCellBase)
    assert layer.__name__ + "Cell" == step.__name__


def test_bad_input_is_refused(import_unchecked):
    unchecked = import_unchecked("lib.attention.seq2seq")
    with pytest.raises(ValueError, match="one of rnn, lstm, gru, got 'transformer'"):
        unchecked.Seq2Seq(4, 4, 4, cell="transformer")
    for sizes in [(0, 4, 4), (4, -1, 4), (4, 4, 2.5)]:
        with pytest.raises(ValueError, match="must be a positive whole number"):
            unchecked.Seq2Seq(*sizes)


@pytest.mark.parametrize("lengths", [(0, 1, 3), (6, 1, 3)])
def test_lengths_that_do_not_fit_are_refused(lengths):
    model, (source, _, inputs) = make_model(), make_batch()
    with pytest.raises(ValueError, match=r"lie between 1 and 5, got \["):
        model(source, torch.tensor(lengths), inputs)


def test_decoding_needs_at_least_one_step():
    model, (source, lengths, _) = make_model(), make_batch()
    with pytest.raises(ValueError, match="max_steps must be a positive"):
        model.greedy_decode(source, lengths, start=START, end=END, max_steps=0)
