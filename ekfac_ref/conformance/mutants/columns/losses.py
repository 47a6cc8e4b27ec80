"""Mistakes in the loss that stands for the likelihood: its factor, its mean."""

import torch
from torch import Tensor

from ekfac_ref.conformance.mutants.columns.wrong import Asked, with_columns
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.question.columns import Empirical, Exact
from ekfac_ref.question.likelihoods import Bernoulli, Categorical, Gaussian, Poisson


def _mean_over(asked: Asked, count: Tensor | float | int) -> Tensor:
    """Columns of a loss that is divided by a count: the exact ones are roots of its Hessian."""
    power = 0.5 if isinstance(asked.fisher, Exact) else 1.0
    scale = torch.as_tensor(count).to(asked.f) ** -power
    return asked.right * scale.reshape(-1, *[1] * (asked.right.dim() - 1))


def _positions_of(asked: Asked) -> int:
    return max(1, asked.y[0].numel())


def _labels_of(asked: Asked) -> Tensor:
    assert isinstance(asked.likelihood, Categorical)
    return asked.likelihood.counted(asked.y).reshape(len(asked.y), -1).sum(1).clamp(min=1)


def _norm_of_residual(asked: Asked) -> Tensor:
    """The gradient of |f - y| / 2."""
    rows = asked.right.flatten(1)
    size = rows.norm(dim=1).clamp(min=1e-12)
    return 0.5 * asked.right / size.reshape(-1, *[1] * (asked.right.dim() - 1))


LOSSES = (
    Mutant(
        name="residual-not-squared",
        mistake="differentiates 1/2 |f - y| (right: 1/2 |f - y|^2)",
        story="The gradient is half a unit vector whatever the error: asdl@20d2474.",
        ekfac=with_columns(_norm_of_residual, (Gaussian,), (Empirical,)),
        laws=("trace", "eigenvalues"),
        only="the empirical Fisher of squared errors",
    ),
    Mutant(
        name="squared-error-twice",
        mistake="differentiates |f - y|^2 (right: half of it, a unit-variance Gaussian)",
        story="The factor 2 between a squared error and a log-likelihood: probably curvlinops#82 "
        "and Laplace#146.",
        ekfac=with_columns(lambda asked: _mean_over(asked, 0.5), (Gaussian,)),
        laws=("trace", "eigenvalues"),
        only="squared errors",
    ),
    Mutant(
        name="times-outputs",
        mistake="multiplies the loss by the number of outputs (right: sums over them)",
        story="A mean over outputs undone that was never taken: in backpack@f2975ad6 the Hessian "
        "of MSELoss had no 1/D.",
        ekfac=with_columns(
            lambda asked: _mean_over(asked, 1 / asked.f[0].numel()), (Gaussian, Bernoulli, Poisson)
        ),
        laws=("trace", "eigenvalues"),
        only="two outputs or more, not of classes",
    ),
    Mutant(
        name="loss-averaged-over-outputs",
        mistake="averages the loss over outputs (right: sums)",
        story="MSELoss and BCEWithLogitsLoss divide by entries, not by samples: curvlinops#108.",
        ekfac=with_columns(
            lambda asked: _mean_over(asked, asked.f[0].numel()), (Gaussian, Bernoulli, Poisson)
        ),
        laws=("trace", "eigenvalues"),
        only="two outputs or more, not of classes",
    ),
    Mutant(
        name="loss-averaged-over-positions",
        mistake="averages the loss over a sample's positions, ignored labels included (right: sums "
        "over those with a label)",
        story="loss.mean(dim=1), as in opacus#792.",
        ekfac=with_columns(lambda asked: _mean_over(asked, _positions_of(asked)), (Categorical,)),
        laws=("trace", "eigenvalues"),
        only="classes at several positions",
    ),
    Mutant(
        name="loss-averaged-over-labels",
        mistake="averages the loss over the labels that are not ignored (right: sums)",
        story="CrossEntropyLoss divides by all labels, not by samples: curvlinops#108.",
        ekfac=with_columns(lambda asked: _mean_over(asked, _labels_of(asked)), (Categorical,)),
        laws=("trace", "eigenvalues"),
        only="classes at several positions with two labels or more",
    ),
    Mutant(
        name="loss-averaged-in-one-branch",
        mistake="averages the loss over outputs for labels of the data and sums for labels of the "
        "model (right: sums)",
        story="Two branches, and a reduction in one of them: bergson#123.",
        ekfac=with_columns(
            lambda asked: _mean_over(asked, asked.f[0].numel()), fishers=(Empirical,)
        ),
        laws=("trace", "eigenvalues"),
        only="the empirical Fisher, two outputs or more",
    ),
)
