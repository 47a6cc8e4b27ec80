"""Mistakes in the loss that stands for the likelihood: its factor, its mean."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ekfac_ref.conformance.mutants.columns.wrong import Outputs, empirical_with, with_columns
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.subjects.subject import Ask
from ekfac_ref.question.columns import Exact
from ekfac_ref.question.likelihoods import Bernoulli, Categorical, Gaussian, Poisson


def _mean_over(given: Outputs, count: Tensor | float | int) -> Tensor:
    """Columns of a loss that is divided by a count: the exact ones are roots of its Hessian."""
    power = 0.5 if isinstance(given.fisher, Exact) else 1.0
    scale = torch.as_tensor(count).to(given.f) ** -power
    return given.right * scale.reshape(-1, *[1] * (given.right.dim() - 1))


def _outputs_of(given: Outputs) -> int:
    return given.f[0].numel()


def _labels_of(given: Outputs) -> Tensor:
    return given.labelled.reshape(len(given.y), -1).sum(1).clamp(min=1)


def _norm_of_residual(given: Outputs) -> Tensor:
    """The gradient of |f - y| / 2."""
    rows = given.right.flatten(1)
    size = rows.norm(dim=1).clamp(min=1e-12)
    return 0.5 * given.right / size.reshape(-1, *[1] * (given.right.dim() - 1))


def _divided_by(count: Callable[[Outputs], Tensor | float], *likelihoods: type) -> Ask:
    """An EKFAC of such a loss, wherever the likelihood is one of these."""
    return with_columns(lambda given: _mean_over(given, count(given)), *likelihoods)


_mutant = partial(Mutant, laws=("trace", "eigenvalues"))

LOSSES = (
    _mutant(
        name="residual-not-squared",
        mistake="differentiates 1/2 |f - y| (right: 1/2 |f - y|^2)",
        story="The gradient is half a unit vector whatever the error: asdl@20d2474.",
        ekfac=empirical_with(_norm_of_residual, Gaussian),
        only="the empirical Fisher of squared errors",
    ),
    _mutant(
        name="squared-error-twice",
        mistake="differentiates |f - y|^2 (right: half of it, a unit-variance Gaussian)",
        story="The factor 2 between a squared error and a log-likelihood: probably curvlinops#82 "
        "and Laplace#146.",
        ekfac=_divided_by(lambda given: 0.5, Gaussian),
        only="squared errors",
    ),
    _mutant(
        name="times-outputs",
        mistake="multiplies the loss by the number of outputs (right: sums over them)",
        story="A mean over outputs undone that was never taken: in backpack@f2975ad6 the Hessian "
        "of MSELoss had no 1/D.",
        ekfac=_divided_by(lambda given: 1 / given.f[0].numel(), Gaussian, Bernoulli, Poisson),
        only="two outputs or more, not of classes",
    ),
    _mutant(
        name="loss-averaged-over-outputs",
        mistake="averages the loss over outputs (right: sums)",
        story="MSELoss and BCEWithLogitsLoss divide by entries, not by samples: curvlinops#108.",
        ekfac=_divided_by(_outputs_of, Gaussian, Bernoulli, Poisson),
        only="two outputs or more, not of classes",
    ),
    _mutant(
        name="loss-averaged-over-positions",
        mistake="averages the loss over a sample's positions, ignored labels included (right: sums "
        "over those with a label)",
        story="loss.mean(dim=1), as in opacus#792.",
        ekfac=_divided_by(lambda given: max(1, given.y[0].numel()), Categorical),
        only="classes at several positions",
    ),
    _mutant(
        name="loss-averaged-over-labels",
        mistake="averages the loss over the labels that are not ignored (right: sums)",
        story="CrossEntropyLoss divides by all labels, not by samples: curvlinops#108.",
        ekfac=_divided_by(_labels_of, Categorical),
        only="classes at several positions with two labels or more",
    ),
    _mutant(
        name="loss-averaged-in-one-branch",
        mistake="averages the loss over outputs for labels of the data and sums for labels of the "
        "model (right: sums)",
        story="Two branches, and a reduction in one of them: bergson#123.",
        ekfac=empirical_with(lambda given: _mean_over(given, _outputs_of(given))),
        only="the empirical Fisher, two outputs or more",
    ),
)
