"""Mistakes in the model's distribution over labels, and in the root of its Fisher."""

from collections.abc import Callable

import torch
from torch import Tensor

from ekfac_ref.conformance.mutants.columns.wrong import (
    Asked,
    Wrong,
    as_outputs,
    classes_last,
    exact_with,
    with_columns,
)
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.question.columns import Exact
from ekfac_ref.question.likelihoods import Bernoulli, Categorical, Poisson


def _root_columns(asked: Asked, root: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """One column per position and class, from a root [.., column, entry] of p and the identity."""
    p = torch.softmax(classes_last(asked, asked.f), -1)
    return _spread(asked, root(p[..., None, :], torch.eye(p.shape[-1]).to(p)))


def _spread(asked: Asked, root: Tensor) -> Tensor:
    assert isinstance(asked.likelihood, Categorical)
    valid = asked.likelihood.counted(asked.y).reshape(*root.shape[:2], 1, 1)
    apart = torch.eye(root.shape[1]).to(root)
    S = torch.einsum("ntkj,ts->ntksj", root * valid, apart)
    return as_outputs(asked, S.flatten(1, 2))


def _transposed(p: Tensor) -> Tensor:
    return p.transpose(-1, -2)


def _diagonal(root: Tensor) -> Tensor:
    flat = root.reshape(len(root), -1)
    return torch.diag_embed(flat).reshape(*flat.shape, *root.shape[1:])


def _along_positions(asked: Asked) -> Tensor:
    """Softmax over the axis of positions."""
    assert isinstance(asked.likelihood, Categorical)
    logits = classes_last(asked, asked.f)
    p = torch.softmax(logits, 1)
    if isinstance(asked.fisher, Exact):
        return _spread(
            asked, p.sqrt()[..., None] * (torch.eye(p.shape[-1]).to(p) - p[..., None, :])
        )
    valid = asked.likelihood.counted(asked.y).reshape(*p.shape[:2], 1)
    off = (p - torch.softmax(logits, -1)) * valid
    return asked.right + as_outputs(asked, off[:, None])


def _of_other_outputs(change: Callable[[Asked], Tensor]) -> Wrong:
    """The right columns of changed outputs."""

    def wrong(asked: Asked) -> Tensor:
        return asked.fisher.columns(asked.likelihood, change(asked), asked.y, 0)

    return wrong


def _softmaxed(asked: Asked) -> Tensor:
    assert isinstance(asked.likelihood, Categorical)
    return torch.softmax(asked.f, asked.likelihood.class_axis)


def _positions_at_once(asked: Asked) -> Tensor:
    S = asked.right
    classes = classes_last(asked, asked.f).shape[-1]
    return S.unflatten(1, (-1, classes)).sum(1)


LIKELIHOODS = (
    Mutant(
        name="labels-drawn-uniformly",
        mistake="gives every label the same weight (right: its probability)",
        story="A loop over classes that forgets to weigh.",
        ekfac=exact_with(
            lambda asked: _root_columns(asked, lambda p, eye: (eye - p) / len(eye) ** 0.5),
            Categorical,
        ),
        laws=("trace", "eigenvalues"),
        only="the exact Fisher of classes, two or more of them",
    ),
    Mutant(
        name="probabilities-not-rooted",
        mistake="weighs column k by p_k (right: by its square root)",
        story="Columns are squared later on, which a loop over classes with weights p_k overlooks.",
        ekfac=exact_with(
            lambda asked: _root_columns(asked, lambda p, eye: _transposed(p) * (eye - p)),
            Categorical,
        ),
        laws=("trace", "eigenvalues"),
        only="the exact Fisher of classes, two or more of them",
    ),
    Mutant(
        name="probabilities-uncentred",
        mistake="uses diag(p) for classes (right: diag(p) - p p^T)",
        story="The Hessian of cross-entropy without its second term: classes as counts.",
        ekfac=exact_with(
            lambda asked: _root_columns(asked, lambda p, eye: p.sqrt() * eye), Categorical
        ),
        laws=("trace", "eigenvalues"),
        only="the exact Fisher of classes",
    ),
    Mutant(
        name="root-transposed",
        mistake="uses S^T for S = diag(sqrt p) - p sqrt(p)^T (right: its columns)",
        story="S is not symmetric, but close; the trace of S S^T does not tell them apart.",
        ekfac=exact_with(
            lambda asked: _root_columns(asked, lambda p, eye: p.sqrt() * (eye - _transposed(p))),
            Categorical,
        ),
        laws=("eigenvalues", "moments"),
        only="the exact Fisher of classes, two or more of them",
    ),
    Mutant(
        name="classes-independent",
        mistake="uses diag(p (1 - p)) for classes (right: diag(p) - p p^T)",
        story="Classes as so many yes-or-no questions; the diagonal is right.",
        ekfac=exact_with(
            lambda asked: _root_columns(asked, lambda p, eye: (p * (1 - p)).sqrt() * eye),
            Categorical,
        ),
        laws=("eigenvalues", "moments"),
        only="the exact Fisher of classes, two or more of them",
    ),
    Mutant(
        name="softmax-for-sigmoid",
        mistake="normalises independent yes-or-no outputs to sum to one (right: each by itself)",
        story="A head for several labels at once that is taken for a classifier.",
        ekfac=exact_with(
            lambda asked: _diagonal((p := torch.softmax(asked.f, -1)).mul(1 - p).sqrt()), Bernoulli
        ),
        laws=("trace", "eigenvalues"),
        only="the exact Fisher of Bernoulli outputs",
    ),
    Mutant(
        name="probability-for-variance",
        mistake="uses p for the variance of a yes-or-no output (right: p (1 - p))",
        story="The rule for counts; close to the truth as long as p is small.",
        ekfac=exact_with(lambda asked: _diagonal(torch.sigmoid(asked.f).sqrt()), Bernoulli),
        laws=("trace", "eigenvalues"),
        only="the exact Fisher of Bernoulli outputs",
    ),
    Mutant(
        name="variance-not-rooted",
        mistake="uses columns p (1 - p) e_k for yes-or-no outputs (right: their square root)",
        story="The variance where the standard deviation is due, so that it is squared.",
        ekfac=exact_with(
            lambda asked: _diagonal(torch.sigmoid(asked.f) * torch.sigmoid(-asked.f)), Bernoulli
        ),
        laws=("trace", "eigenvalues"),
        only="the exact Fisher of Bernoulli outputs",
    ),
    Mutant(
        name="rate-not-rooted",
        mistake="uses columns exp(f_k) e_k for counts (right: exp(f_k / 2) e_k)",
        story="The variance where the standard deviation is due; no difference at rate one.",
        ekfac=exact_with(lambda asked: _diagonal(torch.exp(asked.f)), Poisson),
        laws=("trace", "eigenvalues"),
        only="the exact Fisher of Poisson outputs",
    ),
    Mutant(
        name="positions-drawn-together",
        mistake="goes backward from all positions at once, class by class (right: labels at "
        "different positions are independent)",
        story="One pass per class instead of one per class and position, the difficulty that "
        "curvlinops#127 left open.",
        ekfac=exact_with(_positions_at_once, Categorical),
        laws=("trace", "eigenvalues"),
        only="the exact Fisher, classes at several positions",
    ),
    Mutant(
        name="softmax-over-positions",
        mistake="normalises over positions (right: over classes)",
        story="softmax(dim=1) on [N, T, classes], or dim=-1 on [N, classes, T].",
        ekfac=with_columns(_along_positions, (Categorical,)),
        laws=("trace", "eigenvalues"),
        only="classes at several positions",
    ),
    Mutant(
        name="softmax-twice",
        mistake="takes probabilities for logits (right: logits)",
        story="A softmax in the model and another one in the loss; training goes on all the same.",
        ekfac=with_columns(_of_other_outputs(_softmaxed), (Categorical,)),
        laws=("trace", "eigenvalues"),
        only="two classes or more",
    ),
    Mutant(
        name="temperature-two",
        mistake="computes probabilities at temperature 2 (right: 1)",
        story="Softened outputs, left over from distillation.",
        ekfac=with_columns(_of_other_outputs(lambda asked: asked.f / 2), (Categorical, Bernoulli)),
        laws=("trace", "eigenvalues"),
        only="two classes or more",
    ),
)
