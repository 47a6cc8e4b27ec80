"""What everybody's first adapter forgets is said in plain words: an argument, or a declaration."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import ekfac_ref as ek
from ekfac_ref.conformance.adapter import (
    Convention,
    Eigen,
    Matrix,
    adapted,
    bias_first,
    samples,
    sum_loss,
)
from ekfac_ref.conformance.diagnosis import selection
from ekfac_ref.conformance.diagnosis.arguments import unused
from ekfac_ref.conformance.diagnosis.comparable import DOUBLE
from ekfac_ref.conformance.diagnosis.diagnose import diagnose
from ekfac_ref.conformance.diagnosis.quantity import OF_EKFAC
from ekfac_ref.conformance.diagnosis.selection import comparisons
from ekfac_ref.conformance.diagnosis.undeclared import undeclared
from ekfac_ref.conformance.mutants import MUTANTS
from ekfac_ref.conformance.problems.abilities import Abilities
from ekfac_ref.conformance.subjects.subject import Subject
from ekfac_ref.examples import hooks, reference
from ekfac_ref.model.layers import find_layers
from tests.support.partial_subjects import ekfac

Answer = dict[str, Any]


def always(likelihood: ek.Likelihood) -> Callable[[ek.Problem], Answer]:
    """One likelihood, whatever was asked for."""

    def answer(problem: ek.Problem) -> Answer:
        def labels(y: Tensor) -> Tensor:
            classes = isinstance(problem.likelihood, ek.Categorical)
            return y if classes or y.dim() < 2 else y[..., 0].long() * 0

        batches = [(x, labels(y)) for x, y in problem.batches]
        return ekfac(replace(problem, likelihood=likelihood, batches=batches))

    return answer


def changed(**fields: Any) -> Callable[[ek.Problem], Answer]:
    return lambda problem: ekfac(replace(problem, **fields))


def batch(number: int) -> Callable[[ek.Problem], Answer]:
    return lambda problem: ekfac(replace(problem, batches=[list(problem.batches)[number]]))


def without_labels(problem: ek.Problem) -> Answer:
    batches = [(x, torch.zeros_like(y)) for x, y in problem.batches]
    return ekfac(replace(problem, batches=batches))


UNUSED = {
    "problem.likelihood, it is always that of Categorical()": always(ek.Categorical()),
    "problem.fisher, it is always that of Exact()": changed(fisher=ek.Exact()),
    "problem.sharing, it is always that of Expand()": changed(sharing=ek.Expand()),
    "problem.sharing, it is always that of Reduce()": changed(sharing=ek.Reduce()),
    "the labels": without_labels,
    "problem.mask": changed(mask=None),
    "batches behind the first": batch(0),
    "batches before the last": batch(-1),
}


@pytest.mark.parametrize("argument", UNUSED)
def test_an_argument_that_is_not_used_is_named(argument: str) -> None:
    said = unused(Subject("", UNUSED[argument]), DOUBLE)
    assert f"The answer does not change with {argument}: " in said[0]


@pytest.mark.parametrize("subject", [hooks, reference], ids=["hooks", "reference"])
def test_whoever_reads_everything_is_told_nothing(subject: Subject) -> None:
    assert unused(subject, DOUBLE, seed=1) == []


def test_a_mistake_is_no_argument_that_is_not_used() -> None:
    def wrong(problem: ek.Problem) -> Answer:
        return {name: E.scaled(2.0) for name, E in ekfac(problem).items()}

    assert unused(Subject("", wrong), DOUBLE) == []


def test_advice_that_is_followed_leaves_nothing_to_say() -> None:
    only = Abilities(likelihoods=(ek.Categorical,))
    assert unused(Subject("", always(ek.Categorical()), abilities=only), DOUBLE) == []


# Linear layers, since a convolution's groups have matrices of their own.
LINEAR = Abilities(layers=(torch.nn.Linear,), dtypes=(torch.float64,))

# What is said after the search needs no long one.
A_FEW = [*MUTANTS.values()][:5]


def with_bias(problem: ek.Problem, name: str) -> bool:
    found = find_layers(problem.model, problem.layers)
    return any(layer.name == name and layer.bias is not None for layer in found)


def basis(problem: ek.Problem, scale: float, bias_first: bool) -> Answer:
    found = {}
    for name, E in ekfac(problem).items():
        roll = int(bias_first and with_bias(problem, name))
        found[name] = Eigen(E.Q_B, E.Q_A.roll(roll, 0), scale * E.eigenvalues)
    return found


def size(problem: ek.Problem) -> int:
    return sum(len(y) for _, y in problem.batches)


def by_columns(problem: ek.Problem) -> Answer:
    """Matrices on vec(W^T): the output runs fastest."""
    found = {}
    for name, E in ekfac(problem).items():
        d_out, d_in = E.shape
        place = torch.arange(d_out * d_in).reshape(d_out, d_in).T.reshape(-1)
        found[name] = Matrix(E.dense()[place][:, place])
    return found


def bias_behind_and_sum(problem: ek.Problem) -> Answer:
    found = {}
    for name, E in ekfac(problem).items():
        d_out, d_in = E.shape
        place = torch.arange(d_out * d_in).reshape(d_out, d_in)
        if with_bias(problem, name):
            place = torch.cat([place[:, :-1].reshape(-1), place[:, -1]])
        place = place.reshape(-1)
        found[name] = Matrix(size(problem) * E.dense()[place][:, place])
    return found


UNDECLARED: dict[str, Callable[[ek.Problem], Answer]] = {
    "Convention(bias=bias_first)": lambda p: basis(p, 1.0, True),
    "Convention(scale=samples)": lambda p: basis(p, size(p), False),
    "Convention(scale=samples, bias=bias_first)": lambda p: basis(p, size(p), True),
    "Convention(vec=columns)": by_columns,
    "Convention(scale=samples, bias=bias_behind)": bias_behind_and_sum,
    "Convention(scale=of_loss(mean_loss))": lambda p: basis(p, ek.loss_scale(mean(p), p), False),
    "Convention(scale=averaged(of_loss(sum_loss)))": lambda p: basis(
        p, ek.loss_scale(sum_loss(p.likelihood), p) / size(p), False
    ),
    "": lambda p: basis(p, 1.0, False),
}


def mean(problem: ek.Problem) -> torch.nn.Module:
    kinds = {
        ek.Gaussian: torch.nn.MSELoss,
        ek.Bernoulli: torch.nn.BCEWithLogitsLoss,
        ek.Poisson: torch.nn.PoissonNLLLoss,
        ek.Categorical: torch.nn.CrossEntropyLoss,
    }
    return kinds[type(problem.likelihood)]()


@pytest.mark.parametrize("words", UNDECLARED)
def test_what_should_be_declared_is_named(words: str) -> None:
    # The mean over samples of the sum of losses is another than the definition's for it alone.
    likelihoods = (ek.Gaussian,) if "averaged" in words else LINEAR.likelihoods
    abilities = replace(LINEAR, likelihoods=likelihoods)
    subject = Subject("", adapted(UNDECLARED[words]), abilities=abilities)
    assert undeclared(comparisons(subject, DOUBLE, 4, 0, OF_EKFAC)) == words


def test_declared_it_is_right() -> None:
    declared = Convention(scale=samples, bias=bias_first)
    ask = adapted(lambda p: basis(p, size(p), True), declared)
    subject = Subject("", ask, abilities=LINEAR)
    assert not any(one.is_wrong for one in comparisons(subject, DOUBLE, 4, 0, OF_EKFAC))


def test_a_mistake_is_no_convention() -> None:
    subject = Subject("", adapted(lambda p: basis(p, 2.0, False)), abilities=LINEAR)
    assert undeclared(comparisons(subject, DOUBLE, 4, 0, OF_EKFAC)) == ""


def test_the_diagnosis_says_what_is_not_used() -> None:
    said = diagnose(always(ek.Categorical()), A_FEW).sentence
    assert "does not change with problem.likelihood, it is always that of Categorical()" in said


def test_the_diagnosis_says_what_to_declare() -> None:
    subject = Subject("", adapted(lambda p: basis(p, size(p), True)), abilities=LINEAR)
    said = diagnose(subject, A_FEW).sentence
    assert said.endswith("It is right once Convention(scale=samples, bias=bias_first) is declared.")


def test_the_diagnosis_says_that_float32_is_not_enough(monkeypatch) -> None:
    """What rounds to it has no mistake of the catalogue; what is off by more may have."""
    monkeypatch.setattr(selection, "DRAWS", (3,))

    def rounded(problem: ek.Problem) -> dict[str, Matrix]:
        return {name: Matrix(E.dense().float()) for name, E in ekfac(problem).items()}

    def off(problem: ek.Problem) -> dict[str, Matrix]:
        return {name: Matrix(E.dense() * 1.0001) for name, E in ekfac(problem).items()}

    says = " mostly, as arithmetic in float32 is, and the problems are in float64"
    subject = Subject("", adapted(rounded), abilities=LINEAR)
    assert says in diagnose(subject, A_FEW).sentence
    assert says not in diagnose(replace(subject, ekfac=adapted(off)), A_FEW).sentence
    singles = replace(LINEAR, dtypes=(torch.float32,))
    assert says not in diagnose(replace(subject, abilities=singles), A_FEW).sentence
