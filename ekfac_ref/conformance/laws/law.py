"""What a law is: a statement, what it needs of an answer, and how it is asked of a trial.

The laws themselves are plain functions (``laws.py``, ``case_laws.py``, ``equivariance.py``); here
they become questions about a whole trial. A **lane** is the set of laws that one kind of answer
allows.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

import torch

from ekfac_ref.conformance.laws import of_a_case as case_laws
from ekfac_ref.conformance.laws import of_two_answers as equivariance
from ekfac_ref.conformance.problems import changed as changes
from ekfac_ref.conformance.problems.abilities import Abilities
from ekfac_ref.conformance.subjects.subject import Subject
from ekfac_ref.conformance.subjects.trial import Case, Trial, copied
from ekfac_ref.conformance.truth.tolerance import LawBroken
from ekfac_ref.question.problem import Problem


class Lane(Enum):
    """What an answer has to offer for a law to be asked of it."""

    OPAQUE = "a matvec"
    BASIS = "Q_B, Q_A and eigenvalues"
    SOLVE = "solve(V, damping=)"
    KFAC = "a KFAC block"
    FISHER = "an exact block"
    PRECONDITION = "precondition(problem, gradients, damping)"


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
            _OFFERS[self.lane](trial.subject, case) for case in trial.cases
        )


def notices(law: Law, trial: Trial) -> bool:
    """Whether the law is broken: something is wrong with the answer, and this law says so."""
    try:
        list(law.ask(trial))
    except LawBroken:
        return True
    return False


def asked(law: Law, trial: Trial) -> bool:
    """Whether the law has anything to say about the problem; raises LawBroken if it is broken."""
    return any(True for _ in law.ask(trial))


_OFFERS: dict[Lane, Callable[[Subject, Case], bool]] = {
    Lane.OPAQUE: lambda subject, case: True,
    Lane.BASIS: lambda subject, case: all(
        hasattr(case.own, x) for x in ("Q_B", "Q_A", "eigenvalues")
    ),
    Lane.SOLVE: lambda subject, case: hasattr(case.own, "solve"),
    Lane.KFAC: lambda subject, case: case.K is not None,
    Lane.FISHER: lambda subject, case: case.F is not None,
    Lane.PRECONDITION: lambda subject, case: subject.precondition is not None,
}


def of_each_block(lane: Lane, law: Callable[[Case], float | None]) -> Callable[[Trial], Ratios]:
    """A law of one block, asked of every block that offers the lane."""

    def ask(trial: Trial) -> Iterator[float]:
        for case in trial.cases:
            if _OFFERS[lane](trial.subject, case) and (ratio := law(case)) is not None:
                yield ratio

    return ask


def unchanged_by(
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


def no_memory(trial: Trial) -> Iterator[float]:
    """The same problem, after another one: the same bits."""
    trial.about(changes.in_reverse(trial.problem)).asked(trial.subject.ekfac, "ekfac")
    for one, other in zip(trial.cases, trial.about(trial.problem).cases, strict=True):
        if not torch.equal(one.E.matrix, other.E.matrix):
            raise LawBroken(f"no memory: two answers for layer {one.layer!r} differ")
        yield 0.0


def leaves_alone(trial: Trial) -> Iterator[float]:
    """Nothing of the caller's was changed by what has been asked so far."""
    _ = trial.cases, trial.preconditioned  # all that can be asked about a problem
    if trial.changes:
        raise LawBroken(f"leaves alone: {'; '.join(trial.changes[:3])}")
    yield 0.0


def preconditions(trial: Trial) -> Iterator[float]:
    """(E + damping I) x = v for what ``precondition`` makes of v, in every layer."""
    if trial.subject.precondition is None:
        return
    cases = iter(trial.cases)
    for name, blocks in trial.blocks.items():
        pairs = [(block, next(cases)) for block in blocks]
        for solved in trial.preconditioned[name]:
            yield case_laws.preconditions(pairs, solved)


def refused(change: Callable[[Problem], Problem]) -> Callable[[Trial], Ratios]:
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
