"""The scales of implementations, their numbers over this package's: for ``Convention``."""

from collections.abc import Callable

from torch import nn

from ekfac_ref.losses import loss_scale
from ekfac_ref.question.batches import read
from ekfac_ref.question.likelihoods import Bernoulli, Categorical, Gaussian, Likelihood, Poisson
from ekfac_ref.question.problem import Problem

Scale = Callable[[Problem], float]


def unit(problem: Problem) -> float:
    """The unit likelihood with 1/N, as in ``notation.py``."""
    return 1.0


def samples(problem: Problem) -> float:
    """N: a sum over the samples where this package has the mean."""
    return float(sum(batch.size for batch in read(problem)))


def mean_loss(likelihood: Likelihood) -> nn.Module:
    """The torch loss of a likelihood with ``reduction='mean'``."""
    return _loss(likelihood, "mean")


def sum_loss(likelihood: Likelihood) -> nn.Module:
    """The torch loss of a likelihood with ``reduction='sum'``."""
    return _loss(likelihood, "sum")


def of_loss(loss: Callable[[Likelihood], nn.Module]) -> Scale:
    """The scale of a torch loss module, ``of_loss(mean_loss)`` for example."""
    return lambda problem: loss_scale(loss(problem.likelihood), problem)


def _loss(likelihood: Likelihood, reduction: str) -> nn.Module:
    if isinstance(likelihood, Categorical):
        return nn.CrossEntropyLoss(ignore_index=likelihood.ignore_index, reduction=reduction)
    for kind, loss in _LOSSES.items():
        if isinstance(likelihood, kind):
            return loss(reduction=reduction)
    raise ValueError(
        f"likelihood: {likelihood!r} has no torch loss known here; write the scale as a function "
        "of the problem."
    )


_LOSSES: dict[type, Callable[..., nn.Module]] = {
    Gaussian: nn.MSELoss,
    Bernoulli: nn.BCEWithLogitsLoss,
    Poisson: nn.PoissonNLLLoss,
}
