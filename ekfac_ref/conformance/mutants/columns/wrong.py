"""A correct EKFAC on wrong columns S_n, and what wrong ones are made of."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from ekfac_ref.conformance.mutants.recipe import CORRECT
from ekfac_ref.conformance.subjects.subject import Ask
from ekfac_ref.conformance.truth.cache import observed_exactly
from ekfac_ref.conformance.truth.observation import Observations, observe
from ekfac_ref.question.columns import Empirical, Exact, Fisher
from ekfac_ref.question.likelihoods import Bernoulli, Categorical, Gaussian, Likelihood, Poisson
from ekfac_ref.question.problem import Problem


@dataclass(frozen=True)
class Asked:
    """What the columns of a batch are made from, and the right ones."""

    fisher: Fisher
    likelihood: Likelihood
    f: Tensor
    y: Tensor
    right: Tensor


Wrong = Callable[[Asked], Tensor]


@dataclass(frozen=True)
class _WithColumns(Exact):
    """A Fisher with other columns."""

    own: Fisher
    wrong: Wrong

    def columns(self, likelihood: Likelihood, f: Tensor, y: Tensor, first: int) -> Tensor:
        right = self.own.columns(likelihood, f, y, first)
        return self.wrong(Asked(self.own, likelihood, f, y, right))


def with_columns(
    wrong: Wrong,
    likelihoods: tuple[type, ...] = (Gaussian, Categorical, Bernoulli, Poisson),
    fishers: tuple[type, ...] = (Exact, Empirical),
) -> Ask:
    """The correct algebra on wrong columns, on problems with one of these."""

    def look(problem: Problem) -> Observations:
        if isinstance(problem.likelihood, likelihoods) and isinstance(problem.fisher, fishers):
            # Nobody else's columns are like these: there is nothing to remember.
            return observe(
                replace(problem, fisher=_WithColumns(problem.fisher, wrong)), rounding=False
            )
        return observed_exactly(problem)

    return replace(CORRECT, look=look).ekfac


def exact_with(wrong: Wrong, *likelihoods: type) -> Ask:
    """The same where the Fisher is exact."""
    return with_columns(wrong, likelihoods, (Exact,))


def classes_last(asked: Asked, f: Tensor) -> Tensor:
    """[N, T, K]."""
    assert isinstance(asked.likelihood, Categorical)
    f = f.movedim(asked.likelihood.class_axis, -1)
    return f.reshape(len(f), -1, f.shape[-1])


def as_outputs(asked: Asked, S: Tensor) -> Tensor:
    """[N, C, T, K] to [N, C, *out]."""
    assert isinstance(asked.likelihood, Categorical)
    axis = asked.likelihood.class_axis
    positions = asked.f.movedim(axis, -1).shape[1:]
    S = S.reshape(*S.shape[:2], *positions)
    return S.movedim(-1, axis if axis < 0 else axis + 1)
