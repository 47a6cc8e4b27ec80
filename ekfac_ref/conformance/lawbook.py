"""Every law that a subject is asked, with its lane, its statement and its source.

The laws themselves are plain functions (``laws.py``, ``equivariance.py``); here each is tied to
what a trial has to offer. A **lane** is the set of laws that one kind of answer allows.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

import torch

from ekfac_ref.columns import Exact
from ekfac_ref.conformance import case_laws, changes, equivariance, laws
from ekfac_ref.conformance.observation import Observation
from ekfac_ref.conformance.subject import Abilities
from ekfac_ref.conformance.tolerance import LawBroken
from ekfac_ref.conformance.trial import Case, Trial, copied
from ekfac_ref.operators import Dense, EigenKronecker
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
        fits: whether a subject with these abilities can be asked at all.
        measures: whether it bounds a residual; else it is a matter of yes or no.
    """

    name: str
    lane: Lane
    statement: str
    source: str
    ask: Callable[[Trial], Ratios]
    fits: Callable[[Abilities], bool] = lambda abilities: True
    measures: bool = True

    def offered(self, trial: Trial) -> bool:
        """Whether the subject's answer has what the law needs."""
        return self.fits(trial.subject.abilities) and any(
            _OFFERS[self.lane](case) for case in trial.cases
        )


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


def _unchanged(
    change: Callable[[Problem], Problem], applies: Callable[[Problem], bool] = lambda problem: True
) -> Callable[[Trial], Ratios]:
    """The answer to the changed problem is the same matrix, as far as the basis is determined."""

    def ask(trial: Trial) -> Iterator[float]:
        if not applies(trial.problem):
            return
        for one, other in zip(trial.cases, trial.about(change(trial.problem)).cases, strict=True):
            yield case_laws.same_ekfac(one, other)
            if one.K is not None and other.K is not None:
                yield equivariance.unchanged(one.K, other.K, one.seen)
            if one.F is not None and other.F is not None:
                yield equivariance.unchanged(one.F, other.F, one.seen)

    return ask


def _no_memory(trial: Trial) -> Iterator[float]:
    trial.about(changes.in_reverse(trial.problem)).asked(trial.subject.ekfac, "ekfac")
    for one, other in zip(trial.cases, trial.about(trial.problem).cases, strict=True):
        if not torch.equal(one.E.matrix, other.E.matrix):
            raise LawBroken(f"no memory: two answers for layer {one.layer!r} differ")
        yield 0.0


def _leaves_alone(trial: Trial) -> Iterator[float]:
    if trial.cases and trial.changes:
        raise LawBroken(f"leaves alone: {'; '.join(trial.changes[:3])}")
    yield 0.0


def _refused(change: Callable[[Problem], Problem]) -> Callable[[Trial], Ratios]:
    """Whatever cannot be answered raises an exception."""

    def ask(trial: Trial) -> Iterator[float]:
        bad = copied(change(trial.problem))
        try:
            trial.subject.ekfac(bad)
        except Exception:
            yield 0.0
        else:
            raise LawBroken("refused: it answered in silence")

    return ask


CaseLaw = Callable[[Case], float | None]


def _of_a_case(lane: Lane, name: str, statement: str, source: str, law: CaseLaw) -> Law:
    return Law(name, lane, statement, source, _each(lane, law))


def _of_its_matrix(
    name: str, statement: str, source: str, law: Callable[[Dense, Observation], float]
) -> Law:
    return _of_a_case(Lane.OPAQUE, name, statement, source, lambda case: law(case.E, case.seen))


def _of_its_basis(
    name: str, statement: str, law: Callable[[EigenKronecker, Observation], float]
) -> Law:
    return _of_a_case(Lane.BASIS, name, statement, _GEORGE, lambda case: law(case.own, case.seen))


def _of_a_change(
    name: str,
    statement: str,
    change: Callable[[Problem], Problem],
    applies: Callable[[Problem], bool] = lambda problem: True,
    fits: Callable[[Abilities], bool] = lambda abilities: True,
) -> Law:
    source = "F, A and B are means over samples and positions"
    return Law(name, Lane.OPAQUE, statement, source, _unchanged(change, applies), fits)


def _of_a_refusal(name: str, statement: str, change: Callable[[Problem], Problem]) -> Law:
    source = "a wrong number is worse than none"
    return Law(name, Lane.OPAQUE, statement, source, _refused(change), measures=False)


_GEORGE, _MARTENS = "George et al. 2018 (1806.03884)", "Martens & Grosse 2015 (1503.05671)"
_ALGEBRA, _DEFINITION = "linear algebra, derived in docs/laws.md", "by definition"

LAWS: tuple[Law, ...] = (
    _of_a_case(
        Lane.OPAQUE,
        "linear",
        "matvec(V) = sum_oi V_oi matvec(e_o e_i^T)",
        _DEFINITION,
        case_laws.linear,
    ),
    Law(
        "own answers",
        Lane.OPAQUE,
        "matvec(V) and solve(V) leave V alone, and the next answer leaves this one alone",
        _DEFINITION,
        _each(Lane.OPAQUE, case_laws.keeps_to_itself),
        measures=False,
    ),
    _of_its_matrix("symmetry", "M = M^T", "F is a sum of v v^T", laws.symmetry),
    _of_its_matrix("psd", "v^T M v >= 0", "F is a sum of v v^T", laws.psd),
    _of_its_matrix("trace", "tr E = tr F = (1/N) sum_nc |G_nc|^2", _GEORGE, laws.trace),
    _of_its_matrix(
        "commutes",
        "E (B (x) I) = (B (x) I) E and E (I (x) A) = (I (x) A) E",
        _ALGEBRA,
        laws.commutes_with_factors,
    ),
    _of_its_matrix(
        "moments",
        "tr E (B^p (x) A^q) = tr F (B^p (x) A^q), p and q up to 2",
        _ALGEBRA,
        laws.moments,
    ),
    _of_its_matrix("self-projection", "tr E F = |E|^2", _ALGEBRA, laws.projects_onto_itself),
    _of_a_case(
        Lane.OPAQUE,
        "pythagoras",
        "|F - K|^2 = |F - E|^2 + |E - K|^2 for KFAC's K, hence |F - E| <= |F - K|",
        _GEORGE,
        case_laws.pythagoras,
    ),
    _of_its_matrix(
        "majorisation",
        "the k largest eigenvalues of E sum to at most those of F, for every k",
        "Schur 1923",
        laws.spectrum_is_majorised,
    ),
    _of_a_case(Lane.OPAQUE, "kernel", "E v = 0 implies F v = 0", _ALGEBRA, case_laws.kernel),
    _of_a_case(
        Lane.OPAQUE,
        "exactness",
        "where B (x) A = F (a batch of one, say), E = F",
        _MARTENS,
        case_laws.exact_where_kfac_is,
    ),
    _of_a_case(
        Lane.OPAQUE,
        "comparison",
        "E = Q diag(diag(Q^T F Q)) Q^T, where the eigengaps of A and B leave one Q",
        _GEORGE,
        case_laws.comparison,
    ),
    _of_a_change("recut", "the cut into batches changes nothing", changes.recut),
    _of_a_change("order", "the order of the samples changes nothing", changes.in_reverse),
    _of_a_change("doubled", "every sample twice changes nothing", changes.doubled),
    _of_a_change(
        "labels",
        "the values of the labels change nothing under the exact Fisher",
        changes.other_labels,
        lambda problem: isinstance(problem.fisher, Exact),
        lambda abilities: Exact in abilities.fishers,
    ),
    _of_a_change(
        "padding",
        "what stands at positions that the mask leaves out changes nothing",
        changes.padded,
        lambda problem: problem.mask is not None,
        lambda abilities: abilities.masks and abilities.positions,
    ),
    Law(
        "no memory",
        Lane.OPAQUE,
        "the same problem again, after another one: the same bits",
        _DEFINITION,
        _no_memory,
        measures=False,
    ),
    Law(
        "leaves alone",
        Lane.OPAQUE,
        "model, data, gradients, flags, buffers, hooks and random states are as they were before",
        "a question changes nothing",
        _leaves_alone,
        measures=False,
    ),
    _of_a_refusal("nan", "NaN in the data raises an exception", changes.with_nan),
    _of_a_refusal(
        "unknown layer",
        "the name of a layer that the model does not have raises an exception",
        changes.with_an_unknown_layer,
    ),
    _of_a_refusal(
        "batch norm",
        "BatchNorm in train mode raises an exception: there are no per-sample gradients",
        changes.with_batch_norm,
    ),
    _of_its_basis(
        "orthonormal basis", "Q_A^T Q_A = I and Q_B^T Q_B = I", laws.basis_is_orthonormal
    ),
    _of_its_basis(
        "eigenbasis",
        "Q_A^T A Q_A and Q_B^T B Q_B are diagonal, and nothing of A or B is outside a thin basis",
        laws.basis_diagonalizes_the_factors,
    ),
    _of_its_basis(
        "eigenvalues",
        "Lambda_oi = (1/N) sum_nc [Q_B^T G_nc Q_A]_oi^2 in the subject's own basis",
        laws.eigenvalues_are_the_diagonal,
    ),
    *(
        _of_a_case(
            Lane.SOLVE,
            f"solve {damping:g}",
            f"(E + {damping:g} I) x = v for x = solve(v), the same twice, <v, x> > 0",
            "docs/reading.md",
            case_laws.solves(damping),
        )
        for damping in (1e-6, 1.0)
    ),
    _of_a_case(
        Lane.KFAC, "kfac", "K = B (x) A by the factors' definitions", _MARTENS, case_laws.kfac
    ),
    _of_a_case(
        Lane.FISHER,
        "exact block",
        "F = (1/N) sum_nc vec(G_nc) vec(G_nc)^T",
        _DEFINITION,
        case_laws.exact_block,
    ),
)
