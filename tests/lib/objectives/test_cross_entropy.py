"""The formula, torch's loss and the closed gradient: the same numbers; and distillation beside."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from objective_cases import seeded
from torch.nn import functional as F

from lib.objectives.cross_entropy import (
    cross_entropy_gradient,
    cross_entropy_loop,
    perplexity,
    smooth_targets,
    token_cross_entropy,
)
from lib.objectives.distillation import (
    distillation_gradient,
    distillation_loss,
    hidden_cosine_loss,
    teacher_and_labels_loss,
)
from lib.objectives.ids import IGNORE_INDEX

few = settings(max_examples=15)
smoothings = st.sampled_from([0.0, 0.1, 0.5, 1.0])
VOCAB = 11


def logits_of(*shape, seed=0, spread=3.0):
    return spread * torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


@st.composite
def problems(draw):
    """Logits, labels of which at least one asks, and a seed."""
    batch, places = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    label = st.sampled_from([IGNORE_INDEX, *range(VOCAB)])
    labels = draw(st.lists(label, min_size=batch * places, max_size=batch * places))
    labels[draw(st.integers(0, len(labels) - 1))] = draw(st.integers(0, VOCAB - 1))
    return logits_of(batch, places, VOCAB, seed=draw(st.integers(0, 99))), torch.tensor(
        labels
    ).view(batch, places)


@few
@given(problems(), smoothings)
def test_the_loss_is_torchs(problem, smoothing):
    logits, labels = problem
    theirs = F.cross_entropy(logits.mT, labels, label_smoothing=smoothing)
    ours = token_cross_entropy(logits, labels, label_smoothing=smoothing)
    torch.testing.assert_close(ours, theirs)


@few
@given(problems())
def test_the_formula_gives_the_same(problem):
    logits, labels = problem[0].flatten(0, 1), problem[1].flatten()
    torch.testing.assert_close(
        cross_entropy_loop(logits, labels), token_cross_entropy(logits, labels)
    )


def test_the_formula_overflows_where_training_does_not():
    logits, labels = torch.tensor([[100.0, 0.0, -100.0]]), torch.tensor([1])
    assert cross_entropy_loop(logits, labels).isinf() or cross_entropy_loop(logits, labels).isnan()
    assert token_cross_entropy(logits, labels).item() == pytest.approx(100)
    assert cross_entropy_loop(logits.double(), labels).item() == pytest.approx(100)


@few
@given(problems(), smoothings)
def test_the_gradient_in_closed_form_is_autograds(problem, smoothing):
    logits, labels = problem
    asked = logits.clone().requires_grad_()
    token_cross_entropy(asked, labels, label_smoothing=smoothing).backward()
    closed = cross_entropy_gradient(logits, labels, label_smoothing=smoothing)
    torch.testing.assert_close(closed, asked.grad)
    assert not closed[labels == IGNORE_INDEX].any()
    torch.testing.assert_close(closed.sum(dim=-1), torch.zeros(labels.shape, dtype=torch.float64))


def test_one_gradient_by_hand():
    """Two equally likely tokens: the right one is pulled up by a half, the other pushed down."""
    logits = torch.zeros(1, 2)
    assert cross_entropy_gradient(logits, torch.tensor([0])).tolist() == [[-0.5, 0.5]]


@few
@given(problems(), st.floats(0, 1))
def test_smoothing_is_the_cross_entropy_with_smoothed_targets(problem, smoothing):
    logits, labels = problem
    targets = smooth_targets(labels, VOCAB, smoothing)
    asked = labels != IGNORE_INDEX
    torch.testing.assert_close(targets.sum(dim=-1), asked.float())
    loss = -(targets * logits.log_softmax(dim=-1)).sum() / asked.sum()
    ours = token_cross_entropy(logits, labels, label_smoothing=smoothing)
    torch.testing.assert_close(ours, loss, atol=1e-6, rtol=1e-5)


def test_a_model_that_knows_nothing_hesitates_among_all():
    loss = token_cross_entropy(torch.zeros(4, VOCAB), torch.arange(4)).item()
    assert loss == pytest.approx(math.log(VOCAB))
    assert perplexity(loss) == pytest.approx(VOCAB)
    assert perplexity(0.0) == 1 and perplexity(1e4) == math.inf


# Distillation.


@few
@given(st.integers(1, 6), st.floats(0.5, 10), st.integers(0, 99))
def test_distillation_is_torchs_kl_times_the_temperature_squared(places, temperature, seed):
    student, teacher = logits_of(places, VOCAB, seed=seed), logits_of(places, VOCAB, seed=seed + 1)
    theirs = F.kl_div(
        (student / temperature).log_softmax(-1),
        (teacher / temperature).log_softmax(-1),
        reduction="batchmean",
        log_target=True,
    )
    ours = distillation_loss(student, teacher, temperature=temperature)
    torch.testing.assert_close(ours, temperature**2 * theirs)
    assert ours >= 0
    same = distillation_loss(student, student, temperature=temperature)
    torch.testing.assert_close(same, torch.zeros_like(same))


@few
@given(st.integers(1, 6), st.floats(0.5, 10), st.integers(0, 99))
def test_its_gradient_is_autograds_and_the_teacher_has_none(places, temperature, seed):
    student = logits_of(places, VOCAB, seed=seed).requires_grad_()
    teacher = logits_of(places, VOCAB, seed=seed + 1).requires_grad_()
    distillation_loss(student, teacher, temperature=temperature).backward()
    closed = distillation_gradient(student.detach(), teacher.detach(), temperature=temperature)
    torch.testing.assert_close(student.grad, closed)
    assert teacher.grad is None


def test_at_high_temperatures_the_student_matches_logits():
    student, teacher = logits_of(4, VOCAB), logits_of(4, VOCAB, seed=1)
    gradient = distillation_gradient(student, teacher, temperature=1e4)
    centred = [logits - logits.mean(dim=-1, keepdim=True) for logits in (student, teacher)]
    torch.testing.assert_close(
        gradient, (centred[0] - centred[1]) / (VOCAB * 4), rtol=1e-2, atol=1e-4
    )


def test_only_the_places_that_count_are_distilled():
    student, teacher = logits_of(2, 3, VOCAB), logits_of(2, 3, VOCAB, seed=1)
    where = torch.tensor([[True, False, False], [False, True, True]])
    ours = distillation_loss(student, teacher, where=where)
    torch.testing.assert_close(ours, distillation_loss(student[where], teacher[where]))


def test_teacher_and_labels_are_weighed():
    student, teacher = logits_of(2, 3, VOCAB), logits_of(2, 3, VOCAB, seed=1)
    labels = torch.tensor([[4, IGNORE_INDEX, 0], [IGNORE_INDEX, 10, 3]])
    hard = token_cross_entropy(student, labels)
    soft = distillation_loss(student, teacher, temperature=2.0, where=labels != IGNORE_INDEX)
    for share in (0.0, 0.3, 1.0):
        both = teacher_and_labels_loss(student, teacher, labels, teacher_share=share)
        torch.testing.assert_close(both, share * soft + (1 - share) * hard)


def test_hidden_states_are_compared_as_torch_does():
    student, teacher = logits_of(4, 8), logits_of(4, 8, seed=1)
    theirs = F.cosine_embedding_loss(student, teacher, torch.ones(4))
    torch.testing.assert_close(hidden_cosine_loss(student, teacher), theirs)
    where = torch.tensor([True, False, True, False])
    theirs = F.cosine_embedding_loss(student[::2], teacher[::2], torch.ones(2))
    torch.testing.assert_close(hidden_cosine_loss(student, teacher, where=where), theirs)


# Bad input.


@pytest.mark.parametrize("wrong", [-1, VOCAB, -99])
@pytest.mark.parametrize("loss", [token_cross_entropy, cross_entropy_loop, cross_entropy_gradient])
def test_labels_are_in_the_vocabulary(loss, wrong):
    with pytest.raises(ValueError, match=rf"one of 0 to 10 or -100, got {wrong}"):
        loss(logits_of(2, VOCAB), torch.tensor([3, wrong]))


@pytest.mark.parametrize("loss", [token_cross_entropy, cross_entropy_loop, cross_entropy_gradient])
def test_a_batch_without_labels_has_no_loss(loss):
    with pytest.raises(ValueError, match="no place has a label: all 2 are -100"):
        loss(logits_of(2, VOCAB), torch.full((2,), IGNORE_INDEX))


def test_labels_and_logits_have_the_same_places(import_unchecked):
    module = import_unchecked("lib.objectives.cross_entropy")
    with pytest.raises(ValueError, match=r"ask for labels of shape \(2,\), got \(3,\)"):
        module.token_cross_entropy(logits_of(2, VOCAB), torch.tensor([1, 2, 3]))


@pytest.mark.parametrize("smoothing", [-0.1, 1.1])
def test_smoothing_is_a_share(smoothing):
    with pytest.raises(ValueError, match="label_smoothing must be a number from 0 to 1"):
        token_cross_entropy(logits_of(1, VOCAB), torch.tensor([1]), label_smoothing=smoothing)


def test_distillation_refuses_what_does_not_fit(import_unchecked):
    module = import_unchecked("lib.objectives.distillation")
    with pytest.raises(ValueError, match="temperature must be a number above zero, got 0"):
        module.distillation_loss(logits_of(2, 5), logits_of(2, 5), temperature=0)
    with pytest.raises(ValueError, match=r"same shape .* got \(2, 5\) and \(2, 6\)"):
        module.distillation_loss(logits_of(2, 5), logits_of(2, 6))
    with pytest.raises(ValueError, match="at least one place"):
        module.distillation_loss(
            logits_of(2, 5), logits_of(2, 5), where=torch.zeros(2, dtype=torch.bool)
        )
    with pytest.raises(ValueError, match="teacher_share must be a number from 0 to 1, got 2"):
        module.teacher_and_labels_loss(
            logits_of(2, 5), logits_of(2, 5), torch.tensor([1, 2]), teacher_share=2
        )
