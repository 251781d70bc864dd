"""Distillation (Hinton et al., 2015): a small model learns what a large one finds likely.

A label says which token is right; the teacher also says which wrong ones would have been nearly
right. A temperature above 1 flattens both distributions, so that those are heard.
"""

from jaxtyping import Bool, Float, Int
from torch import Tensor

from lib.memory.sizes import check_positive
from lib.objectives.cross_entropy import token_cross_entropy
from lib.objectives.ids import check_probability


def distillation_loss(
    student: Float[Tensor, "*batch vocab"],
    teacher: Float[Tensor, "*batch vocab"],
    *,
    temperature: float = 1.0,
    where: Bool[Tensor, "*batch"] | None = None,
) -> Float[Tensor, ""]:
    """Temperature² times KL(teacher || student) of the flattened softmaxes, per place, in nats.

    Flattening makes the gradients smaller by about temperature²; the factor undoes that, so that
    the weight against another loss need not change. The teacher gets no gradient. Only the places
    `where` counts say True, all without it.

    Raises `ValueError` for a temperature that is not above 0, logits of different shapes, no place.
    """
    check_positive(temperature=temperature)
    student, teacher = _chosen(student, where), _chosen(teacher, where)
    _check_same(student, teacher)
    mine = (student / temperature).log_softmax(dim=-1)
    its = (teacher.detach() / temperature).log_softmax(dim=-1)
    return temperature**2 * (its.exp() * (its - mine)).sum(dim=-1).mean()


def distillation_gradient(
    student: Float[Tensor, "*batch vocab"],
    teacher: Float[Tensor, "*batch vocab"],
    *,
    temperature: float = 1.0,
) -> Float[Tensor, "*batch vocab"]:
    """Its derivative by the student's logits: temperature (student's softmax − teacher's) / places.

    For large temperatures it tends to (student − teacher) / (vocab_size places), each set of logits
    taken from its own mean: the student then matches logits.
    """
    check_positive(temperature=temperature)
    _check_same(student, teacher)
    difference = (student / temperature).softmax(-1) - (teacher / temperature).softmax(-1)
    return temperature * difference / student[..., 0].numel()


def teacher_and_labels_loss(
    student: Float[Tensor, "*batch vocab"],
    teacher: Float[Tensor, "*batch vocab"],
    labels: Int[Tensor, "*batch"],
    *,
    temperature: float = 2.0,
    teacher_share: float = 0.5,
) -> Float[Tensor, ""]:
    """The teacher's share of `distillation_loss`, the rest of the cross-entropy with the labels.

    Both over the places that have a label. Raises `ValueError` as the two do, and for a share
    outside 0 to 1.
    """
    check_probability(teacher_share=teacher_share)
    hard = token_cross_entropy(student, labels)
    soft = distillation_loss(student, teacher, temperature=temperature, where=labels >= 0)
    return teacher_share * soft + (1 - teacher_share) * hard


def hidden_cosine_loss(
    student: Float[Tensor, "*batch hidden"],
    teacher: Float[Tensor, "*batch hidden"],
    *,
    where: Bool[Tensor, "*batch"] | None = None,
) -> Float[Tensor, ""]:
    """1 − cosine of the two models' hidden states, per place: they should point the same way.

    DistilBERT adds it, with weight 1, to 5 times the distillation and 2 times the masked language
    modelling loss (Sanh et al., 2019). Raises `ValueError` for shapes that differ and for no place.
    """
    student, teacher = _chosen(student, where), _chosen(teacher, where).detach()
    _check_same(student, teacher)
    lengths = student.norm(dim=-1) * teacher.norm(dim=-1)
    return 1 - ((student * teacher).sum(dim=-1) / lengths.clamp(min=1e-8)).mean()


def _chosen(rows: Tensor, where: Tensor | None) -> Tensor:
    return rows if where is None else rows[where]


def _check_same(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape or not student.numel():
        raise ValueError(
            "student and teacher must have the same shape and at least one place, got "
            f"{tuple(student.shape)} and {tuple(teacher.shape)}"
        )
