r"""From a torch loss module to its likelihood, and the one scalar between the two.

A torch loss over N samples is  r sum_n c l_n  with l_n the unit likelihood of ``likelihoods.py``,
r = 1/N for ``reduction='mean'`` and 1 for ``'sum'``, and

=================  ==============================  ==============
module             c for 'mean'                    c for 'sum'
=================  ==============================  ==============
MSELoss            2 N / (number of loss terms)    2
BCEWithLogitsLoss  N / (number of loss terms)      1
PoissonNLLLoss     N / (number of loss terms)      1
CrossEntropyLoss   N / (number of counted labels)  1
=================  ==============================  ==============

Terms and labels are counted over the **whole problem**: a mean over one batch divides by that
batch's count, so with ``ignore_index`` or uneven lengths it is no sum of per-sample losses at all.
With K outputs for every sample, N / terms is the familiar 1/K.
"""

from functools import singledispatch

from torch import Tensor, nn

from ekfac_ref.errors import ProblemError
from ekfac_ref.model.random_state import generators, untouched
from ekfac_ref.question.batches import read
from ekfac_ref.question.columns import Empirical
from ekfac_ref.question.likelihoods import (
    Bernoulli,
    Categorical,
    Gaussian,
    Likelihood,
    Poisson,
    check_labels,
)
from ekfac_ref.question.problem import Problem


@singledispatch
def likelihood_of(loss: nn.Module) -> Likelihood:
    """The likelihood whose negative logarithm a torch loss module is, up to a scalar.

    MSELoss -> Gaussian, CrossEntropyLoss -> Categorical in torch's own layout (class axis 1),
    BCEWithLogitsLoss -> Bernoulli, PoissonNLLLoss -> Poisson. Options under which the loss is not
    a likelihood times a scalar are refused by name.
    """
    name = type(loss).__name__ if isinstance(loss, nn.Module) else repr(loss)
    raise ProblemError(
        f"loss: {name} is not a likelihood known here; use an instance of MSELoss, "
        "CrossEntropyLoss, BCEWithLogitsLoss or PoissonNLLLoss, or a likelihood directly."
    )


@likelihood_of.register
def _(loss: nn.MSELoss) -> Likelihood:
    _refuse_another_loss(loss, nn.MSELoss)
    return Gaussian()


@likelihood_of.register
def _(loss: nn.CrossEntropyLoss) -> Likelihood:
    _refuse_another_loss(loss, nn.CrossEntropyLoss)
    _refuse(loss, "weight", loss.weight is not None)
    _refuse(loss, "label_smoothing", loss.label_smoothing != 0)
    return Categorical(class_axis=1, ignore_index=loss.ignore_index)


@likelihood_of.register
def _(loss: nn.BCEWithLogitsLoss) -> Likelihood:
    _refuse_another_loss(loss, nn.BCEWithLogitsLoss)
    _refuse(loss, "weight", loss.weight is not None)
    _refuse(loss, "pos_weight", loss.pos_weight is not None)
    return Bernoulli()


@likelihood_of.register
def _(loss: nn.PoissonNLLLoss) -> Likelihood:
    _refuse_another_loss(loss, nn.PoissonNLLLoss)
    _refuse(loss, "log_input=False", not loss.log_input)
    return Poisson()


def loss_scale(loss: nn.Module, problem: Problem) -> float:
    """The scalar that turns the problem's operators into those of the loss module.

    r N c for the exact and sampled Fisher (curvature is linear in c), r N c^2 for the empirical
    one (outer products of the loss's own per-sample gradients). Multiply a finished operator by
    it with its ``scaled``; add damping after that. Reads the data once.
    """
    check_of_problem(loss, problem)
    return scale_by_counts(loss, problem, *count_terms(problem))


def check_of_problem(loss: nn.Module, problem: Problem) -> None:
    """Raise a ProblemError for a loss that is not the problem's likelihood times a scalar."""
    likelihood = likelihood_of(loss)
    if type(likelihood) is not type(problem.likelihood):
        raise ProblemError(
            f"loss: {type(loss).__name__} is a {type(likelihood).__name__} likelihood, but the "
            f"problem has {type(problem.likelihood).__name__}; build it with "
            "likelihood=likelihood_of(loss)."
        )
    if isinstance(likelihood, Categorical) and isinstance(problem.likelihood, Categorical):
        _check_same_ignored(likelihood, problem.likelihood)


def count_terms(problem: Problem) -> tuple[int, int]:
    """The numbers of samples and of loss terms, or labels that are counted; reads the data once."""
    N = terms = 0
    with untouched(*generators(problem.batches)):
        for batch in read(problem):
            N += batch.size
            terms += _terms(problem.likelihood, batch.targets)
    return N, terms


def scale_by_counts(loss: nn.Module, problem: Problem, N: int, terms: int) -> float:
    """What ``loss_scale`` is of a problem with so many samples and loss terms in all its data."""
    c = 2.0 if isinstance(loss, nn.MSELoss) else 1.0
    if loss.reduction == "mean":
        if terms == 0:
            raise ProblemError(
                "targets: every label is ignored, so the mean is over nothing; correct the labels "
                "or ignore_index."
            )
        c *= N / terms
    rN = 1 if loss.reduction == "mean" else N
    return rN * c**2 if isinstance(problem.fisher, Empirical) else rN * c


def _terms(likelihood: Likelihood, y: Tensor) -> int:
    if isinstance(likelihood, Categorical):
        check_labels(y)
        return int(likelihood.counted(y).sum())
    return y.numel()


def _check_same_ignored(of_loss: Categorical, of_problem: Categorical) -> None:
    if of_loss.ignore_index != of_problem.ignore_index:
        raise ProblemError(
            f"loss: it ignores the label {of_loss.ignore_index}, but the problem's likelihood "
            f"{of_problem.ignore_index}; give both the same ignore_index."
        )


def _refuse_another_loss(loss: nn.Module, known: type[nn.Module]) -> None:
    _refuse(loss, "a forward of its own", type(loss).forward is not known.forward)
    _refuse(loss, f"reduction={loss.reduction!r}", loss.reduction not in ("mean", "sum"))


def _refuse(loss: nn.Module, option: str, given: bool) -> None:
    if given:
        raise ProblemError(
            f"loss: {type(loss).__name__} with {option} is not one likelihood times one scalar, so "
            f"it has no Fisher of this form; leave {option} out."
        )
