r"""What chance can do to a sampled Fisher: a bound on its tails for any number of draws.

Let F^ be the mean over n independent draws, n / N of each of N samples, and W >= 0. Then

    X = <F^, W> = (1/n) sum_j s_j^T M_j s_j,    M_j = J_j W J_j^T,

with s_j = grad_f l at the labels of draw j and J_j the Jacobian of that sample's outputs; its
expectation is <F, W>. With k_j(t) = log E exp(t s_j^T M_j s_j) and k(t) their mean over samples,
Markov's inequality for exp(t n X) says, for every t > 0 (Chernoff 1952; t < 0 is the other side):

    P(X >= x) <= exp(-n (t x - k(t))),    hence <= exp(-n I(x)),  I(x) = max_t (t x - k(t)).

That holds for every n: no limit theorem is in it. The k_j are exact: where labels are discrete all
of them are enumerated; a Gaussian's score is N(0, I), so k_j(t) = -1/2 sum_i log(1 - 2 t m_i), m_i
the eigenvalues of M_j. A square of a Poisson score has no k above zero: its tail is too heavy.

**Level.** n I(x) is the *surprise* at x. A right answer has one of at least S, on one side or the
other, with probability 2 exp(-S) at most; m such tests accuse it with 2 m exp(-S) at most, whatever
they have to do with one another (the union bound). More draws than n concentrate X no less.

**Power.** An x_+ above the mean with n I(x_+) = S separates: X >= x_+ is accused. An answer that is
larger by e is (1 + e) X, and is missed with P(X < x_+ / (1 + e)) <= exp(-n I(x_+ / (1 + e))). So n
is chosen such that both exponents are large enough at some x_+, and alike below (``needed``). With
m = 8,000 tests at 1e-9, S = 30; for e = 0.1 and a variance of v squared means of s^T M s, n is
about (sqrt(2 S) + (1 + e) sqrt(2 log 100))^2 v / e^2 = 12,000 v.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import inf, log

import torch
from torch import Tensor

from ekfac_ref.conformance.problems.changed import in_dtype
from ekfac_ref.model.forward import call
from ekfac_ref.model.random_state import undisturbed
from ekfac_ref.question.likelihoods import Bernoulli, Categorical, Gaussian, Likelihood
from ekfac_ref.question.problem import Problem

JOINT = 256  # joint labels of one sample, at most, that are enumerated
ERROR = 0.1  # e: of F, up or down, which is to be noticed
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
        """k(t) = -1/2 sum_i log(1 - 2 t m_i), m_i the eigenvalues of M; inf where there is none."""
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
        """k(t) = log sum_y p_y exp(t s_y^T M s_y)."""
        return torch.logsumexp(self.log_p + t[:, None] * self._squares(M), 1)

    def _squares(self, M: Tensor) -> Tensor:
        return torch.einsum("yk,kl,yl->y", self.scores, M, self.scores)


Labels = Normal | Enumerated


def labels_of(problem: Problem) -> list[Labels] | None:
    """Of every sample, in float64; None where there are too many, or they are no such labels."""
    exact, found = in_dtype(problem, torch.float64), list[Labels]()
    with undisturbed(exact.batches):
        for x, y in exact.batches:
            for f_n, y_n in zip(call(exact.model, x), y, strict=True):
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
        log_p = torch.nn.functional.logsigmoid(torch.stack([-f, f], -1))[counted]
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
    """The mean X of n draws of s^T M s, n / N of them of each sample.

    Attributes:
        mean: its expectation.
        t: where cumulants are known.
        cumulants: k(t), of one draw, the mean over samples.
    """

    mean: float
    t: Tensor
    cumulants: Tensor

    @classmethod
    def of(cls, labels: Sequence[Labels], M: Sequence[Tensor]) -> "Concentration":
        """Of the labels and M_n of all samples."""
        pairs = list(zip(labels, M, strict=True))
        mean = sum(one.mean(M_n) for one, M_n in pairs) / len(pairs)
        t = _GRID / mean if mean > 0 else _GRID
        return cls(mean, t, torch.stack([one.cumulants(M_n, t) for one, M_n in pairs]).mean(0))

    def rate(self, x: Tensor) -> Tensor:
        """I(x) of every x, with P(X at least as far off as x, on its side) <= exp(-n I)."""
        side = (self.t > 0) == (x[:, None] > self.mean)
        exponents = self.t * x[:, None].double() - self.cumulants
        return torch.where(side, exponents, 0).amax(1)

    def surprise(self, x: float, n: int, slack: float) -> float:
        """n I of the value nearest to the mean that is x but for rounding, up to ``slack``."""
        off = max(0.0, abs(x - self.mean) - slack)
        nearest = self.mean + (off if x > self.mean else -off)
        return n * float(self.rate(torch.tensor([nearest])))

    def needed(self, surprise: float, slack: float) -> float:
        """The n from which F (1 +- ERROR) exceeds the surprise, but for MISSED; inf without one."""
        if not self.mean > 0:
            return inf
        part = torch.linspace(0, ERROR, 102, dtype=torch.float64)[1:-1]

        def side(sign: int) -> float:
            limit = self.mean * (1 + sign * part)
            missed = (limit + sign * 2 * slack) / (1 + sign * ERROR)
            beyond = (missed - self.mean) * sign < 0  # else an answer is missed as often as not
            n = torch.maximum(surprise / self.rate(limit), -log(MISSED) / self.rate(missed))
            return float(torch.where(beyond, n, inf).amin())

        return max(side(1), side(-1))
