"""A correct EKFAC on wrong columns S_n, and what wrong ones are made of."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from ekfac_ref.conformance.mutants.recipe import CORRECT
from ekfac_ref.conformance.subjects.subject import Ask
from ekfac_ref.conformance.truth.cache import observed_exactly, observed_otherwise
from ekfac_ref.conformance.truth.observation import Observations
from ekfac_ref.question.columns import Empirical, Exact, Fisher
from ekfac_ref.question.likelihoods import Categorical, Likelihood, Numbers
from ekfac_ref.question.problem import Problem


@dataclass(frozen=True)
class Outputs:
    """The outputs of a model on one batch, and all that columns are made from.

    Attributes:
        fisher, likelihood: the problem's.
        f: [N, *out].
        y: the batch's labels, [N, *labels].
        right: the right columns, [N, C, *out], no factor of N.
    """

    fisher: Fisher
    likelihood: Likelihood
    f: Tensor
    y: Tensor
    right: Tensor

    def columns(self, fisher: Fisher) -> Tensor:
        """S_n of one Fisher or another, no factor of N; with labels drawn as for sample 0 on."""
        return fisher.columns(self.likelihood, self.f, self.y, 0)

    @property
    def classes(self) -> Categorical:
        """The likelihood, where it is one of classes."""
        assert isinstance(self.likelihood, Categorical)
        return self.likelihood

    @property
    def labelled(self) -> Tensor:
        """Which labels are not ignored, like y."""
        return self.classes.counted(self.y)

    @property
    def logits(self) -> Tensor:
        """The outputs of a classifier as [N, T, K], T positions and K classes."""
        f = self.f.movedim(self.classes.class_axis, -1)
        return f.reshape(len(f), -1, f.shape[-1])

    def as_outputs(self, S: Tensor) -> Tensor:
        """Columns of a classifier from [N, C, T, K] to [N, C, *out]."""
        axis = self.classes.class_axis
        S = S.reshape(*S.shape[:2], *self.f.movedim(axis, -1).shape[1:])
        return S.movedim(-1, axis if axis < 0 else axis + 1)


Wrong = Callable[[Outputs], Tensor]


@dataclass(frozen=True)
class _OtherRoot:
    """A likelihood whose exact Fisher has these columns: another square root, and no other root."""

    fisher: Fisher
    own: Likelihood
    wrong: Wrong

    def square_root(self, f: Tensor, y: Tensor) -> Tensor:
        right = self.fisher.columns(self.own, f, y, 0)
        return self.wrong(Outputs(self.fisher, self.own, f, y, right))

    def check(self, f: Tensor, y: Tensor) -> None:
        self.own.check(f, y)

    def score(self, f: Tensor, y: Tensor) -> Tensor:
        return self.own.score(f, y)

    def sample(self, f: Tensor, y: Tensor, rng: Numbers) -> Tensor:
        return self.own.sample(f, y, rng)


def with_columns(
    wrong: Wrong, *likelihoods: type, fishers: tuple[type, ...] = (Exact, Empirical)
) -> Ask:
    """An EKFAC that is right but for its columns, if the likelihood and the Fisher are of these."""

    def observing(problem: Problem) -> Observations:
        likelihood, fisher = problem.likelihood, problem.fisher
        if not isinstance(likelihood, likelihoods or object) or not isinstance(fisher, fishers):
            return observed_exactly(problem)
        other = replace(problem, likelihood=_OtherRoot(fisher, likelihood, wrong), fisher=Exact())
        return observed_otherwise(problem, other)

    return replace(CORRECT, observe=observing).ekfac


def exact_with(wrong: Wrong, *likelihoods: type) -> Ask:
    """One whose columns of the exact Fisher alone are wrong."""
    return with_columns(wrong, *likelihoods, fishers=(Exact,))


def empirical_with(wrong: Wrong, *likelihoods: type) -> Ask:
    """One whose columns of the empirical Fisher alone are wrong."""
    return with_columns(wrong, *likelihoods, fishers=(Empirical,))
