"""Mistakes in whose labels the Fisher is about: the data's, the model's, another sample's."""

from dataclasses import replace

import torch
from torch import Tensor

from ekfac_ref.conformance.mutants.columns.wrong import Asked, exact_with, with_columns
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import CORRECT
from ekfac_ref.conformance.truth.cache import observed_exactly
from ekfac_ref.conformance.truth.observation import Observation
from ekfac_ref.question.columns import Empirical, Sampled
from ekfac_ref.question.likelihoods import Bernoulli, Categorical, Gaussian, Poisson
from ekfac_ref.question.problem import Problem


def _at_most_likely(asked: Asked) -> Tensor:
    if isinstance(asked.likelihood, Categorical):
        best = asked.f.argmax(asked.likelihood.class_axis)
        label = torch.where(asked.likelihood.counted(asked.y), best, asked.y)
    else:
        label = (asked.f > 0).to(asked.f)
    return asked.likelihood.score(asked.f, label)[:, None]


def _none_ignored(asked: Asked) -> Tensor:
    assert isinstance(asked.likelihood, Categorical)
    label = torch.where(asked.likelihood.counted(asked.y), asked.y, 0)
    return asked.fisher.columns(asked.likelihood, asked.f, label, 0)


def _mixed_up(asked: Asked) -> Tensor:
    return Empirical().columns(asked.likelihood, asked.f, asked.y.roll(1, 0), 0)


def _without_later_classes(asked: Asked) -> Tensor:
    """Columns for as many classes as a one-hot code of the batch's labels would have."""
    assert isinstance(asked.likelihood, Categorical)
    axis = asked.likelihood.class_axis
    right = asked.right.movedim(axis if axis < 0 else axis + 1, -1)
    labels = asked.y[asked.likelihood.counted(asked.y)]
    classes = int(labels.max()) + 1 if len(labels) else 0
    kept = torch.arange(right.shape[-1]) < classes
    return (right * kept).movedim(-1, axis if axis < 0 else axis + 1)


def _basis_of_the_data(problem: Problem) -> dict[str, list[Observation]]:
    """The g of the data's labels, the G of the model's."""
    right, other = observed_exactly(problem), observed_exactly(replace(problem, fisher=Empirical()))
    return {
        name: [replace(seen, g=its.g) for seen, its in zip(groups, other[name], strict=True)]
        for name, groups in right.items()
    }


LABELS = (
    Mutant(
        name="empirical-for-exact",
        mistake="uses the data's own labels for the exact Fisher (right: the model's distribution)",
        story="loss.backward() on the data is nearest at hand; Kunstner et al. 2019 (1905.12558) "
        "count how often the two are taken for one another.",
        ekfac=exact_with(
            lambda asked: Empirical().columns(asked.likelihood, asked.f, asked.y, 0),
            *(Gaussian, Categorical, Bernoulli, Poisson),
        ),
        laws=("labels", "trace", "eigenvalues"),
        only="the exact Fisher",
    ),
    Mutant(
        name="exact-for-empirical",
        mistake="uses the model's distribution for the empirical Fisher (right: the data's labels)",
        story="An option that is read but never used, like backpack@c8ba1c6d.",
        ekfac=with_columns(
            lambda asked: asked.likelihood.square_root(asked.f, asked.y), fishers=(Empirical,)
        ),
        laws=("trace", "eigenvalues"),
        only="the empirical Fisher",
    ),
    Mutant(
        name="most-likely-label",
        mistake="takes the most likely label for the exact Fisher (right: all, by probability)",
        story="argmax as a simplified sampling: Continual-Learning-Benchmark#7, "
        "overcoming-catastrophic#3.",
        ekfac=exact_with(_at_most_likely, Categorical, Bernoulli),
        laws=("trace", "eigenvalues"),
        only="the exact Fisher of classes, two or more of them",
    ),
    Mutant(
        name="one-label-drawn",
        mistake="draws one label per sample for the exact Fisher (right: the expectation)",
        story="A Monte Carlo Fisher with one draw and a fixed seed, under the name of the exact "
        "one; it is right on average.",
        ekfac=exact_with(
            lambda asked: Sampled(1, 0).columns(asked.likelihood, asked.f, asked.y, 0),
            *(Gaussian, Categorical, Bernoulli, Poisson),
        ),
        laws=("trace", "eigenvalues"),
        only="the exact Fisher",
    ),
    Mutant(
        name="labels-of-another-sample",
        mistake="pairs a sample with its neighbour's label (right: its own)",
        story="Inputs and targets are shuffled apart.",
        ekfac=with_columns(_mixed_up, fishers=(Empirical,)),
        laws=("trace", "recut", "eigenvalues"),
        only="the empirical Fisher, batches of more than one sample",
    ),
    Mutant(
        name="ignored-labels-counted",
        mistake="gives positions without a label one (right: they add nothing)",
        story="Sampled labels that were not masked, kronfluence@5e76f33, or -100 clamped to class "
        "0.",
        ekfac=with_columns(_none_ignored, (Categorical,)),
        laws=("trace", "eigenvalues"),
        only="ignored labels",
    ),
    Mutant(
        name="classes-up-to-the-largest-label",
        mistake="gives a gradient to as many classes as the batch's labels name (right: to all)",
        story="one_hot without num_classes, whose width hangs on the labels that were drawn: "
        "backpack@62fc89c3.",
        ekfac=with_columns(_without_later_classes, (Categorical,), (Empirical,)),
        laws=("trace", "recut", "eigenvalues"),
        only="the empirical Fisher, a batch without the last class",
    ),
    Mutant(
        name="output-factor-of-the-data-labels",
        mistake="makes B with the data's labels and Lambda with the model's (right: one Fisher)",
        story="Factors of one loss and gradients of another: pyDVL#478.",
        ekfac=replace(CORRECT, look=_basis_of_the_data).ekfac,
        laws=("eigenbasis", "commutes", "labels"),
        only="the exact Fisher, d_out > 1",
    ),
)
