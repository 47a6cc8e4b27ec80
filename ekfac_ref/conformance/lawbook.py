"""Every law that a subject is asked, with its lane, its statement and its source.

The laws themselves are plain functions (``laws.py``, ``equivariance.py``); here each is tied to
what a trial has to offer. A **lane** is the set of laws that one kind of answer allows.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from ekfac_ref.columns import Exact
from ekfac_ref.conformance import equivariance, laws, oracle
from ekfac_ref.conformance.tolerance import LawBroken, check, factor_scales, fisher_scale, length
from ekfac_ref.conformance.trial import Case, Trial
from ekfac_ref.likelihoods import Bernoulli, Categorical
from ekfac_ref.operators import Dense
from ekfac_ref.problem import Problem


class Lane(Enum):
    """What an answer has to offer for a law to be asked of it."""

    OPAQUE = "a matvec"
    BASIS = "Q_B, Q_A and eigenvalues"
    SOLVE = "solve(V, damping=)"
    KFAC = "a KFAC block"
    FISHER = "an exact block"


Ratios = Iterable[float]


@dataclass(frozen=True)
class Law:
    """One law.

    Attributes:
        name: stable; what ``--law`` and known deviations go by.
        lane: what it needs of the answer.
        statement: the formula first.
        source: who says so.
        ask: yields a ratio (see ``tolerance.py``) for every block that it was asked of, none where
            its precondition does not hold, and raises LawBroken.
    """

    name: str
    lane: Lane
    statement: str
    source: str
    ask: Callable[[Trial], Ratios]

    def offered(self, trial: Trial) -> bool:
        """Whether the subject's answer has what the law needs."""
        return any(_OFFERS[self.lane](case) for case in trial.cases)


_OFFERS: dict[Lane, Callable[[Case], bool]] = {
    Lane.OPAQUE: lambda case: True,
    Lane.BASIS: lambda case: all(hasattr(case.own, x) for x in ("Q_B", "Q_A", "eigenvalues")),
    Lane.SOLVE: lambda case: hasattr(case.own, "solve"),
    Lane.KFAC: lambda case: case.K is not None,
    Lane.FISHER: lambda case: case.F is not None,
}


def _each(lane: Lane, law: Callable[[Case], float | None]) -> Callable[[Trial], Ratios]:
    """A law of one block, asked of every block that offers the lane."""

    def ask(trial: Trial) -> Iterator[float]:
        for case in trial.cases:
            if _OFFERS[lane](case) and (ratio := law(case)) is not None:
                yield ratio

    return ask


def _linear(case: Case) -> float:
    """matvec(V) = sum_oi V_oi matvec(e_o e_i^T)."""
    V = torch.randn(case.E.shape, generator=torch.Generator().manual_seed(0))
    got = case.own.matvec(V.to(case.seen.dtype)).double()
    residual = got - case.E.matvec(V.to(case.seen.dtype).double())
    scale = fisher_scale(case.seen) * float(V.norm())
    return check("linear", residual, scale, length(case.seen), case.seen.dtype)


def _exact_where_kfac_is(case: Case) -> float | None:
    """B (x) A = F implies E = F."""
    B, A = oracle.factors(case.seen)
    F = oracle.fisher(case.seen)
    if (torch.kron(B, A) - F).norm() > 1e-13 * fisher_scale(case.seen):
        return None
    return laws.is_fisher(case.E, case.seen)


def _kernel(case: Case) -> float:
    """v^T E v = 0 implies v^T F v = 0, for v in the null space of E."""
    E, F = case.E.matrix, oracle.fisher(case.seen)
    scale = fisher_scale(case.seen)
    w, V = torch.linalg.eigh((E + E.T) / 2)
    n = length(case.seen) + len(w)
    null = V[:, w <= n * torch.finfo(case.seen.dtype).eps * scale]
    # F >= 0 and tr(N^T E N) = tr(N^T F N) on a basis; so both vanish together, to rounding.
    return check("ker E in ker F", (null.T @ F @ null).trace(), scale, n * len(w), case.seen.dtype)


def _pythagoras(case: Case) -> float:
    """||F - K||^2 = ||F - E||^2 + ||E - K||^2 with K = B (x) A."""
    B, A = oracle.factors(case.seen)
    K = Dense(torch.kron(B, A), case.E.shape)
    return laws.pythagoras(case.E, K, case.seen)


def _comparison(case: Case) -> float | None:
    """E is the oracle's EKFAC matrix, where wide eigengaps leave only one."""
    gap = equivariance.gap(case.seen)
    if gap < equivariance.GATE:
        return None
    residual = case.E.matrix - oracle.ekfac(case.seen)
    scale = fisher_scale(case.seen) / gap
    return check("E = E of the oracle", residual, scale, length(case.seen), case.seen.dtype)


def _solve(damping: float) -> Callable[[Case], float]:
    def law(case: Case) -> float:
        V = torch.randn(case.E.shape, generator=torch.Generator().manual_seed(1))
        V = V.to(case.seen.dtype)
        before = case.own.solve(V.clone(), damping=damping)
        ratio = laws.solves(case.own, V, damping, case.seen)
        again = case.own.solve(V.clone(), damping=damping)
        if not torch.equal(before, again):
            raise LawBroken("solve: the same question twice has two answers")
        if float((V.double() * again.double()).sum()) <= 0:
            raise LawBroken("<v, solve(v)> > 0: it is not positive")
        return ratio

    return law


def _kfac(case: Case) -> float | None:
    return None if case.K is None else laws.factors_by_definition(case.K, case.seen)


def _exact_block(case: Case) -> float | None:
    return None if case.F is None else laws.is_fisher(case.F, case.seen)


def _recut(problem: Problem) -> Problem:
    """The same samples one by one."""
    return replace(problem, batches=_samples(problem))


def _reversed(problem: Problem) -> Problem:
    return replace(problem, batches=_samples(problem)[::-1])


def _doubled(problem: Problem) -> Problem:
    return replace(problem, batches=[*problem.batches, *problem.batches])


def _other_labels(problem: Problem) -> Problem:
    """Other legal values of every label that counts."""

    def other(y: Tensor) -> Tensor:
        if isinstance(problem.likelihood, Categorical):
            return torch.where(problem.likelihood.counted(y), torch.zeros_like(y), y)
        return 1 - y if isinstance(problem.likelihood, Bernoulli) else y + 1

    return replace(problem, batches=[(x, other(y)) for x, y in problem.batches])


def _samples(problem: Problem) -> list[tuple[Any, Tensor]]:
    return [
        (tree_map(lambda v, n=n: v[n : n + 1], x), y[n : n + 1])
        for x, y in problem.batches
        for n in range(len(y))
    ]


def _unchanged(
    change: Callable[[Problem], Problem], applies: Callable[[Problem], bool] = lambda problem: True
) -> Callable[[Trial], Ratios]:
    """The answer to the changed problem is the same matrix, as far as the basis is determined."""

    def ask(trial: Trial) -> Iterator[float]:
        if not applies(trial.problem):
            return
        for one, other in zip(trial.cases, trial.about(change(trial.problem)).cases, strict=True):
            yield _same_ekfac(one, other)
            if one.K is not None and other.K is not None:
                yield equivariance.unchanged(one.K, other.K, one.seen)
            if one.F is not None and other.F is not None:
                yield equivariance.unchanged(one.F, other.F, one.seen)

    return ask


def _same_ekfac(one: Case, other: Case) -> float:
    """The same matrix where eigengaps are wide, else the same moments, which no basis changes."""
    difference, gap = other.E.matrix - one.E.matrix, equivariance.gap(one.seen)
    scale, n, dtype = fisher_scale(one.seen), length(one.seen), one.seen.dtype
    if gap >= equivariance.GATE:
        return check("E unchanged", difference, scale / gap, n, dtype)
    B, A = oracle.factors(one.seen)
    b, a = factor_scales(one.seen)
    moments = [
        check("moments of E unchanged", (difference * M).sum(), scale * bound, n, dtype)
        for M, bound in (
            (torch.eye(len(difference)).double(), 1.0),
            (torch.kron(B, A), b * a),
        )
    ]
    return max(moments)


def _deterministic(trial: Trial) -> Iterator[float]:
    for one, other in zip(trial.cases, trial.about(trial.problem).cases, strict=True):
        if not torch.equal(one.E.matrix, other.E.matrix):
            raise LawBroken(f"deterministic: two answers for layer {one.layer!r} differ")
        yield 0.0


_GEORGE, _MARTENS = "George et al. 2018 (1806.03884)", "Martens & Grosse 2015 (1503.05671)"
_ALGEBRA = "linear algebra, derived in docs/laws.md"


def _opaque(
    name: str, statement: str, source: str, law: Callable[[Dense, "laws.Observation"], float]
) -> Law:
    return Law(name, Lane.OPAQUE, statement, source, _each(Lane.OPAQUE, lambda c: law(c.E, c.seen)))


LAWS: tuple[Law, ...] = (
    Law(
        "linear",
        Lane.OPAQUE,
        "matvec(V) = sum_oi V_oi matvec(e_o e_i^T)",
        "an operator is a matrix",
        _each(Lane.OPAQUE, lambda case: _linear(case) if case.own is not None else None),
    ),
    _opaque("symmetry", "M = M^T", "F is a sum of v v^T", laws.symmetry),
    _opaque("psd", "v^T M v >= 0", "F is a sum of v v^T", laws.psd),
    Law("deterministic", Lane.OPAQUE, "the same problem twice: the same bits", "", _deterministic),
    _opaque("trace", "tr E = tr F = (1/N) sum_nc |G_nc|^2", _GEORGE, laws.trace),
    _opaque(
        "commutes",
        "E (B (x) I) = (B (x) I) E and E (I (x) A) = (I (x) A) E",
        _ALGEBRA,
        laws.commutes_with_factors,
    ),
    _opaque(
        "moments",
        "tr E (B^p (x) A^q) = tr F (B^p (x) A^q), p and q up to 2",
        _ALGEBRA,
        laws.moments,
    ),
    _opaque("self-projection", "tr E F = |E|^2", _ALGEBRA, laws.projects_onto_itself),
    Law(
        "pythagoras",
        Lane.OPAQUE,
        "|F - K|^2 = |F - E|^2 + |E - K|^2 for KFAC's K, hence |F - E| <= |F - K|",
        _GEORGE,
        _each(Lane.OPAQUE, _pythagoras),
    ),
    _opaque(
        "majorisation",
        "the k largest eigenvalues of E sum to at most those of F, for every k",
        "Schur 1923",
        laws.spectrum_is_majorised,
    ),
    Law("kernel", Lane.OPAQUE, "E v = 0 implies F v = 0", _ALGEBRA, _each(Lane.OPAQUE, _kernel)),
    Law(
        "exactness",
        Lane.OPAQUE,
        "where B (x) A = F (a batch of one, say), E = F",
        _MARTENS,
        _each(Lane.OPAQUE, _exact_where_kfac_is),
    ),
    Law(
        "comparison",
        Lane.OPAQUE,
        "E = Q diag(diag(Q^T F Q)) Q^T, where the eigengaps of A and B leave one Q",
        _GEORGE,
        _each(Lane.OPAQUE, _comparison),
    ),
    Law("recut", Lane.OPAQUE, "the cut into batches is no matter", "1/N", _unchanged(_recut)),
    Law("order", Lane.OPAQUE, "nor the order of the samples", "1/N", _unchanged(_reversed)),
    Law("doubled", Lane.OPAQUE, "nor that every sample comes twice", "1/N", _unchanged(_doubled)),
    Law(
        "labels",
        Lane.OPAQUE,
        "the exact Fisher does not depend on the values of the labels",
        "Kunstner et al. 2019 (1905.12558)",
        _unchanged(_other_labels, lambda problem: isinstance(problem.fisher, Exact)),
    ),
    Law(
        "orthonormal basis",
        Lane.BASIS,
        "Q_A^T Q_A = I and Q_B^T Q_B = I",
        _GEORGE,
        _each(Lane.BASIS, lambda case: laws.basis_is_orthonormal(case.own, case.seen)),
    ),
    Law(
        "eigenbasis",
        Lane.BASIS,
        "Q_A^T A Q_A and Q_B^T B Q_B are diagonal, and nothing of A or B is outside a thin basis",
        _GEORGE,
        _each(Lane.BASIS, lambda case: laws.basis_diagonalizes_the_factors(case.own, case.seen)),
    ),
    Law(
        "eigenvalues",
        Lane.BASIS,
        "Lambda_oi = (1/N) sum_nc [Q_B^T G_nc Q_A]_oi^2 in the subject's own basis",
        _GEORGE,
        _each(Lane.BASIS, lambda case: laws.eigenvalues_are_the_diagonal(case.own, case.seen)),
    ),
    *(
        Law(
            f"solve {damping:g}",
            Lane.SOLVE,
            f"(E + {damping:g} I) solve(v) = v as a backward error, twice the same, <v, x> > 0",
            "docs/reading.md",
            _each(Lane.SOLVE, _solve(damping)),
        )
        for damping in (1e-6, 1.0)
    ),
    Law(
        "kfac",
        Lane.KFAC,
        "K = B (x) A by the factors' definitions",
        _MARTENS,
        _each(Lane.KFAC, _kfac),
    ),
    Law(
        "exact block",
        Lane.FISHER,
        "F = (1/N) sum_nc vec(G_nc) vec(G_nc)^T",
        "definition",
        _each(Lane.FISHER, _exact_block),
    ),
)
