r"""What chance can do to a sampled Fisher: exact cumulants over the labels, and Chernoff's bound.

For W >= 0 a sampled Fisher has <F^, W> = (1/n) sum_j s_j^T M_j s_j over n independent draws of all
labels of a sample, s_j = grad_f l at these labels and M_j = J_j W J_j^T. Its cumulants are known:
by enumeration where labels are discrete, in closed form where s is normal (docs/laws.md). A square
of a Poisson score has none above zero: its tail is too heavy for exp(t s^2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, inf, log

import torch
from torch import Tensor

from ekfac_ref.conformance.truth.observation import in_dtype
from ekfac_ref.model.forward import call
from ekfac_ref.model.random_state import undisturbed
from ekfac_ref.question.likelihoods import Bernoulli, Categorical, Gaussian, Likelihood
from ekfac_ref.question.problem import Problem

JOINT = 256  # joint labels of one sample, at most, that are enumerated
ERROR = 0.1  # of F, which is to be noticed
MISSED = 0.01  # how often, at most, such an error is not
# Any t makes a valid bound. These lose less than a hundredth of the best one's exponent.
_STEPS = torch.logspace(-3.5, 1.5, 100, dtype=torch.float64)
_GRID = torch.cat([-_STEPS, _STEPS])


@dataclass(frozen=True)
class Normal:
    """Labels whose scores are N(0, I), those of a Gaussian."""

    def mean(self, M: Tensor) -> float:
        """E s^T M s, for M [K, K]."""
        return float(M.trace())

    def cumulants(self, M: Tensor, t: Tensor) -> Tensor:
        """log E exp(t s^T M s) = -1/2 sum_k log(1 - 2 t m_k), m_k the eigenvalues of M."""
        left = 1 - 2 * t[:, None] * torch.linalg.eigvalsh(M)
        sums = -left.clamp(min=torch.finfo(left.dtype).tiny).log().sum(1) / 2
        return torch.where((left > 0).all(1), sums, inf)


@dataclass(frozen=True, eq=False)
class Enumerated:
    """All labels that one sample can have.

    Attributes:
        scores: grad_f l of each, [Y, K].
        log_p: the logarithms of their probabilities, [Y].
    """

    scores: Tensor
    log_p: Tensor

    def mean(self, M: Tensor) -> float:
        """E s^T M s, for M [K, K]."""
        return float(self.log_p.exp() @ self._squares(M))

    def cumulants(self, M: Tensor, t: Tensor) -> Tensor:
        """log sum_y p_y exp(t s_y^T M s_y)."""
        return torch.logsumexp(self.log_p + t[:, None] * self._squares(M), 1)

    def _squares(self, M: Tensor) -> Tensor:
        return torch.einsum("yk,kl,yl->y", self.scores, M, self.scores)


Labels = Normal | Enumerated


def labels_of(problem: Problem) -> list[Labels] | None:
    """Of every sample, in float64; None where there are too many, or they are no such labels."""
    exact, found = in_dtype(problem, torch.float64), list[Labels]()
    for x, y in exact.batches:
        with undisturbed(exact.batches):
            f = call(exact.model, x)
        for f_n, y_n in zip(f, y, strict=True):
            labels = _labels(problem.likelihood, f_n, y_n)
            if labels is None:
                return None
            found.append(labels)
    return found


def _labels(likelihood: Likelihood, f: Tensor, y: Tensor) -> Labels | None:
    if isinstance(likelihood, Gaussian):
        return Normal()
    if isinstance(likelihood, Categorical):
        counted = likelihood.counted(y)
        log_p = f[None].movedim(likelihood.class_axis, -1)[0].log_softmax(-1)[counted]
    elif isinstance(likelihood, Bernoulli):
        counted = torch.ones_like(y, dtype=torch.bool)
        log_p = torch.stack([-f, f], -1).sigmoid().log()[counted]
    else:
        return None
    terms, choices = log_p.shape  # labels, each of so many values
    if choices**terms > JOINT:
        return None
    rows = [*product(range(choices), repeat=terms)]
    every = torch.tensor(rows, dtype=torch.long).reshape(len(rows), terms)
    labels = y.expand(len(every), *y.shape).clone()
    labels[:, counted] = every.to(y)
    scores = likelihood.score(f.expand(len(every), *f.shape), labels)
    return Enumerated(scores.flatten(1), log_p[torch.arange(terms), every].sum(1))


@dataclass(frozen=True, eq=False)
class Concentration:
    """The mean of n draws of s^T M s, n / N of them of each sample.

    Attributes:
        mean: its expectation.
        t: where cumulants are known.
        cumulants: of one draw, the mean over samples, at every t.
    """

    mean: float
    t: Tensor
    cumulants: Tensor

    @classmethod
    def of(cls, labels: Sequence[Labels], M: Sequence[Tensor]) -> "Concentration":
        """Of the M_n of all samples."""
        pairs = list(zip(labels, M, strict=True))
        mean = sum(one.mean(M_n) for one, M_n in pairs) / len(pairs)
        t = _GRID / mean if mean > 0 else _GRID
        sums = torch.stack([one.cumulants(M_n, t) for one, M_n in pairs])
        return cls(mean, t, sums.mean(0))

    def above(self, x: Tensor) -> Tensor:
        """I with P(mean of n >= x) <= exp(-n I): the largest t x - cumulant, over t > 0."""
        return self._rate(x, self.t > 0)

    def below(self, x: Tensor) -> Tensor:
        """I with P(mean of n <= x) <= exp(-n I)."""
        return self._rate(x, self.t < 0)

    def surprise(self, x: float, n: int, slack: float) -> float:
        """-log of a bound on the chance to be as far off as x, which rounding may be by ``slack``."""
        off = max(0.0, abs(x - self.mean) - slack)
        side = self.above if x > self.mean else self.below
        return n * float(side(torch.tensor([self.mean + (off if x > self.mean else -off)])))

    def needed(self, surprise: float, slack: float) -> float:
        """The n from which F (1 +- ERROR) exceeds ``surprise``, but for MISSED; inf if there is none.

        With n I(x) at least the surprise, whatever is accepted is not beyond x, so what was made
        larger from there was below x / (1 + ERROR), and that is too rare.
        """
        if not self.mean > 0:
            return inf
        larger, smaller = self.mean * (1 + ERROR), self.mean * (1 - ERROR)
        up = torch.linspace(self.mean, larger, 102, dtype=torch.float64)[1:-1]
        down = torch.linspace(self.mean, smaller, 102, dtype=torch.float64)[1:-1]
        missed = -log(MISSED)
        low, high = (up + 2 * slack) / (1 + ERROR), (down - 2 * slack) / (1 - ERROR)
        of_larger = torch.maximum(surprise / self.above(up), missed / self.below(low))
        of_smaller = torch.maximum(surprise / self.below(down), missed / self.above(high))
        return float(torch.maximum(of_larger.amin(), of_smaller.amin()))

    def _rate(self, x: Tensor, side: Tensor) -> Tensor:
        t = self.t[side]
        return (x[:, None].double() * t - self.cumulants[side]).amax(1).clamp(min=0)


def copies(n: float, samples: int, draws: int) -> int:
    """How often each sample has to be there, for n draws in all."""
    return max(1, ceil(n / (samples * draws)))
