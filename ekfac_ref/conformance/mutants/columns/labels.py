"""Mistakes in whose labels the Fisher is about: the data's, the model's, another sample's."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ekfac_ref.conformance.mutants.columns.wrong import (
    Outputs,
    Wrong,
    empirical_with,
    exact_with,
    with_columns,
)
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import CORRECT
from ekfac_ref.conformance.truth.cache import observed_exactly
from ekfac_ref.conformance.truth.observation import Observations
from ekfac_ref.question.columns import Empirical, Exact, Sampled
from ekfac_ref.question.likelihoods import Bernoulli, Categorical
from ekfac_ref.question.problem import Problem


def _at_most_likely(given: Outputs) -> Tensor:
    if isinstance(given.likelihood, Categorical):
        best = given.f.argmax(given.classes.class_axis)
        label = torch.where(given.labelled, best, given.y)
    else:
        label = (given.f > 0).to(given.f)
    return given.likelihood.score(given.f, label)[:, None]


def _with_labels(labels: Callable[[Outputs], Tensor]) -> Wrong:
    """The right columns of other labels."""
    return lambda given: replace(given, y=labels(given)).columns(given.fisher)


def _without_later_classes(given: Outputs) -> Tensor:
    """Columns for as many classes as a one-hot code of the batch's labels would have."""
    axis = given.classes.class_axis
    right = given.right.movedim(axis if axis < 0 else axis + 1, -1)
    labels = given.y[given.labelled]
    classes = int(labels.max()) + 1 if len(labels) else 0
    kept = torch.arange(right.shape[-1]) < classes
    return (right * kept).movedim(-1, axis if axis < 0 else axis + 1)


def _basis_of_the_data(problem: Problem) -> Observations:
    """The g of the data's labels, the G of the model's."""
    right, other = observed_exactly(problem), observed_exactly(replace(problem, fisher=Empirical()))
    return {
        name: [replace(seen, g=its.g) for seen, its in zip(groups, other[name], strict=True)]
        for name, groups in right.items()
    }


_mutant = partial(Mutant, laws=("trace", "eigenvalues"))

LABELS = (
    _mutant(
        name="empirical-for-exact",
        mistake="uses the data's own labels for the exact Fisher (right: the model's distribution)",
        story="loss.backward() on the data is nearest at hand; Kunstner et al. 2019 (1905.12558) "
        "count how often the two are taken for one another.",
        ekfac=exact_with(lambda given: given.columns(Empirical())),
        laws=("labels", "trace", "eigenvalues"),
        only="the exact Fisher",
    ),
    _mutant(
        name="exact-for-empirical",
        mistake="uses the model's distribution for the empirical Fisher (right: the data's labels)",
        story="An option that is read but never used, like backpack@c8ba1c6d.",
        ekfac=empirical_with(lambda given: given.columns(Exact())),
        only="the empirical Fisher",
    ),
    _mutant(
        name="most-likely-label",
        mistake="takes the most likely label for the exact Fisher (right: all, by probability)",
        story="argmax as a simplified sampling: Continual-Learning-Benchmark#7, "
        "overcoming-catastrophic#3.",
        ekfac=exact_with(_at_most_likely, Categorical, Bernoulli),
        only="the exact Fisher of classes, two or more of them",
    ),
    _mutant(
        name="one-label-drawn",
        mistake="draws one label per sample for the exact Fisher (right: the expectation)",
        story="A Monte Carlo Fisher with one draw and a fixed seed, under the name of the exact "
        "one; it is right on average.",
        ekfac=exact_with(lambda given: given.columns(Sampled(draws=1, seed=0))),
        only="the exact Fisher",
    ),
    _mutant(
        name="labels-of-another-sample",
        mistake="pairs a sample with its neighbour's label (right: its own)",
        story="Inputs and targets are shuffled apart.",
        ekfac=empirical_with(_with_labels(lambda given: given.y.roll(1, 0))),
        laws=("trace", "recut", "eigenvalues"),
        only="the empirical Fisher, batches of more than one sample",
    ),
    _mutant(
        name="ignored-labels-counted",
        mistake="gives positions without a label one (right: they add nothing)",
        story="Sampled labels that were not masked, kronfluence@5e76f33, or -100 clamped to class "
        "0.",
        ekfac=with_columns(_with_labels(lambda given: given.y * given.labelled), Categorical),
        only="ignored labels",
    ),
    _mutant(
        name="classes-up-to-the-largest-label",
        mistake="gives a gradient to as many classes as the batch's labels name (right: to all)",
        story="one_hot without num_classes, whose width hangs on the labels that were drawn: "
        "backpack@62fc89c3.",
        ekfac=empirical_with(_without_later_classes, Categorical),
        laws=("trace", "recut", "eigenvalues"),
        only="the empirical Fisher, a batch without the last class",
    ),
    _mutant(
        name="output-factor-of-the-data-labels",
        mistake="makes B with the data's labels and Lambda with the model's (right: one Fisher)",
        story="Factors of one loss and gradients of another: pyDVL#478.",
        ekfac=replace(CORRECT, observe=_basis_of_the_data).ekfac,
        laws=("eigenbasis", "commutes", "labels"),
        only="the exact Fisher, d_out > 1",
    ),
)
