"""Mistakes in the model's distribution over labels, and in the root of its Fisher."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ekfac_ref.conformance.mutants.columns.wrong import Outputs, exact_with, with_columns
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.subjects.subject import Ask
from ekfac_ref.question.columns import Exact
from ekfac_ref.question.likelihoods import Bernoulli, Categorical, Poisson


def _of_root(root: Callable[[Tensor, Tensor], Tensor]) -> Ask:
    """One column per position and class, from a root [.., column, entry] of p and the identity."""

    def wrong(given: Outputs) -> Tensor:
        p = torch.softmax(given.logits, -1)
        return _spread(given, root(p[..., None, :], torch.eye(p.shape[-1]).to(p)))

    return exact_with(wrong, Categorical)


def _spread(given: Outputs, root: Tensor) -> Tensor:
    valid = given.labelled.reshape(*root.shape[:2], 1, 1)
    apart = torch.eye(root.shape[1]).to(root)
    S = torch.einsum("ntkj,ts->ntksj", root * valid, apart)
    return given.as_outputs(S.flatten(1, 2))


def _of_diagonal(root: Callable[[Tensor], Tensor], likelihood: type) -> Ask:
    """One column per output, from the only entry of each, a function of the outputs."""

    def wrong(given: Outputs) -> Tensor:
        entries = root(given.f)
        flat = entries.reshape(len(entries), -1)
        return torch.diag_embed(flat).reshape(*flat.shape, *entries.shape[1:])

    return exact_with(wrong, likelihood)


def _along_positions(given: Outputs) -> Tensor:
    """Softmax over the axis of positions."""
    logits = given.logits
    p = torch.softmax(logits, 1)
    if isinstance(given.fisher, Exact):
        return _spread(
            given, p.sqrt()[..., None] * (torch.eye(p.shape[-1]).to(p) - p[..., None, :])
        )
    valid = given.labelled.reshape(*p.shape[:2], 1)
    off = (p - torch.softmax(logits, -1)) * valid
    return given.right + given.as_outputs(off[:, None])


def _of_other_outputs(change: Callable[[Outputs], Tensor], *likelihoods: type) -> Ask:
    """The right columns of changed outputs."""
    return with_columns(
        lambda given: replace(given, f=change(given)).columns(given.fisher), *likelihoods
    )


_mutant = partial(Mutant, laws=("trace", "eigenvalues"))
_of_classes = partial(_mutant, only="the exact Fisher of classes, two or more of them")
_of_yes_or_no = partial(_mutant, only="the exact Fisher of Bernoulli outputs")

LIKELIHOODS = (
    _of_classes(
        name="labels-drawn-uniformly",
        mistake="gives every label the same weight (right: its probability)",
        story="A loop over classes that forgets to weigh.",
        ekfac=_of_root(lambda p, eye: (eye - p) / len(eye) ** 0.5),
    ),
    _of_classes(
        name="probabilities-not-rooted",
        mistake="weighs column k by p_k (right: by its square root)",
        story="Columns are squared later on, which a loop over classes with weights p_k overlooks.",
        ekfac=_of_root(lambda p, eye: p.mT * (eye - p)),
    ),
    _mutant(
        name="probabilities-uncentred",
        mistake="uses diag(p) for classes (right: diag(p) - p p^T)",
        story="The Hessian of cross-entropy without its second term: classes as counts.",
        ekfac=_of_root(lambda p, eye: p.sqrt() * eye),
        only="the exact Fisher of classes",
    ),
    _of_classes(
        name="root-transposed",
        mistake="uses S^T for S = diag(sqrt p) - p sqrt(p)^T (right: its columns)",
        story="S is not symmetric, but close; the trace of S S^T does not tell them apart.",
        ekfac=_of_root(lambda p, eye: p.sqrt() * (eye - p.mT)),
        laws=("eigenvalues", "moments"),
    ),
    _of_classes(
        name="classes-independent",
        mistake="uses diag(p (1 - p)) for classes (right: diag(p) - p p^T)",
        story="Classes as so many yes-or-no questions; the diagonal is right.",
        ekfac=_of_root(lambda p, eye: (p * (1 - p)).sqrt() * eye),
        laws=("eigenvalues", "moments"),
    ),
    _of_yes_or_no(
        name="softmax-for-sigmoid",
        mistake="normalises independent yes-or-no outputs to sum to one (right: each by itself)",
        story="A head for several labels at once that is taken for a classifier.",
        ekfac=_of_diagonal(lambda f: (p := torch.softmax(f, -1)).mul(1 - p).sqrt(), Bernoulli),
    ),
    _of_yes_or_no(
        name="probability-for-variance",
        mistake="uses p for the variance of a yes-or-no output (right: p (1 - p))",
        story="The rule for counts; close to the truth as long as p is small.",
        ekfac=_of_diagonal(lambda f: torch.sigmoid(f).sqrt(), Bernoulli),
    ),
    _of_yes_or_no(
        name="variance-not-rooted",
        mistake="uses columns p (1 - p) e_k for yes-or-no outputs (right: their square root)",
        story="The variance where the standard deviation is due, so that it is squared.",
        ekfac=_of_diagonal(lambda f: torch.sigmoid(f) * torch.sigmoid(-f), Bernoulli),
    ),
    _mutant(
        name="rate-not-rooted",
        mistake="uses columns exp(f_k) e_k for counts (right: exp(f_k / 2) e_k)",
        story="The variance where the standard deviation is due; no difference at rate one.",
        ekfac=_of_diagonal(torch.exp, Poisson),
        only="the exact Fisher of Poisson outputs",
    ),
    _mutant(
        name="positions-drawn-together",
        mistake="goes backward from all positions at once, class by class (right: labels at "
        "different positions are independent)",
        story="One pass per class instead of one per class and position, the difficulty that "
        "curvlinops#127 left open.",
        ekfac=exact_with(
            lambda given: given.right.unflatten(1, (-1, given.logits.shape[-1])).sum(1), Categorical
        ),
        only="the exact Fisher, classes at several positions",
    ),
    _mutant(
        name="softmax-over-positions",
        mistake="normalises over positions (right: over classes)",
        story="softmax(dim=1) on [N, T, classes], or dim=-1 on [N, classes, T].",
        ekfac=with_columns(_along_positions, Categorical),
        only="classes at several positions",
    ),
    _mutant(
        name="softmax-twice",
        mistake="takes probabilities for logits (right: logits)",
        story="A softmax in the model and another one in the loss; training goes on all the same.",
        ekfac=_of_other_outputs(
            lambda given: torch.softmax(given.f, given.classes.class_axis), Categorical
        ),
        only="two classes or more",
    ),
    _mutant(
        name="temperature-two",
        mistake="computes probabilities at temperature 2 (right: 1)",
        story="Softened outputs, left over from distillation.",
        ekfac=_of_other_outputs(lambda given: given.f / 2, Categorical, Bernoulli),
        only="two classes or more",
    ),
)
