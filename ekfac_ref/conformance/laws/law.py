"""What a law is: a statement, what it needs of an answer, and how it is asked of a trial.

A law is written once, as a function under one of the decorators below: its formula is the first
line of the docstring and the code beneath it, and its name, lane and source stand above. A **lane**
is the set of laws that one kind of answer allows.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ekfac_ref.conformance.problems.abilities import Abilities
from ekfac_ref.conformance.subjects.subject import Subject
from ekfac_ref.conformance.subjects.trial import Case, Trial
from ekfac_ref.conformance.truth.tolerance import LIMIT, LawBroken

MARTENS, GEORGE = "Martens & Grosse 2015 (1503.05671)", "George et al. 2018 (1806.03884)"
ALGEBRA, DEFINITION = "linear algebra, derived in docs/laws.md", "by definition"


class Lane(Enum):
    """What an answer has to offer for a law to be asked of it."""

    OPAQUE = "a matvec"
    BASIS = "Q_B, Q_A and eigenvalues"
    SOLVE = "solve(V, damping=)"
    KFAC = "a KFAC block"
    FISHER = "an exact block"
    PRECONDITION = "precondition(problem, gradients, damping)"


Ratios = Iterable[float]


def _everybody(abilities: Abilities) -> bool:
    return True


@dataclass(frozen=True)
class Law:
    """One law.

    Attributes:
        name: stable; what ``--law`` and known deviations go by.
        lane: what it needs of the answer.
        statement: the formula first.
        source: who says so.
        ask: yields a ratio to rounding (see ``tolerance.py``) for every block that it was asked of,
            none where its precondition does not hold, and raises LawBroken. A ratio above
            ``tolerance.LIMIT`` leaves it open whether the law holds.
        formula: the function that it is written as, of whatever its decorator says.
        fits: whether a subject with these abilities can be asked at all.
        measures: whether it bounds a residual; else it is a matter of yes or no.
    """

    name: str
    lane: Lane
    statement: str
    source: str
    ask: Callable[[Trial], Ratios]
    formula: Callable[..., Any]
    fits: Callable[[Abilities], bool] = _everybody
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


def holds(law: Law, trial: Trial) -> bool:
    """Whether the law is neither broken nor in doubt, on whatever it is asked of."""
    try:
        return all(ratio <= LIMIT for ratio in law.ask(trial))
    except LawBroken:
        return False


def asked(law: Law, trial: Trial) -> bool:
    """Whether the law has anything to say about the problem; raises LawBroken if it is broken."""
    return any(True for _ in law.ask(trial))


_OFFERS: dict[Lane, Callable[[Subject, Case], bool]] = {
    Lane.OPAQUE: lambda subject, case: True,
    Lane.BASIS: lambda subject, case: case.own.shows_its_basis,
    Lane.SOLVE: lambda subject, case: case.own.solves,
    Lane.KFAC: lambda subject, case: case.K is not None,
    Lane.FISHER: lambda subject, case: case.F is not None,
    Lane.PRECONDITION: lambda subject, case: subject.precondition is not None,
}


# The decorators: each turns a function into a Law.

_OfATrial = Callable[[Trial], Iterator[float]]
_OfACase = Callable[[Case], float | None]


def law_of_a_trial(
    name: str,
    source: str,
    lane: Lane = Lane.OPAQUE,
    fits: Callable[[Abilities], bool] = _everybody,
    measures: bool = True,
    statement: str = "",
) -> Callable[[_OfATrial], Law]:
    """For a function of a whole trial, which yields ratios.

    ``statement`` is the first line of the docstring, unless it is given.
    """

    def law(formula: _OfATrial) -> Law:
        says = statement or (formula.__doc__ or "").partition("\n")[0]
        return Law(name, lane, says, source, formula, formula, fits, measures)

    return law


def law_of_a_case(
    name: str,
    source: str,
    lane: Lane = Lane.OPAQUE,
    measures: bool = True,
    statement: str = "",
) -> Callable[[_OfACase], Law]:
    """For a function of one block, its ratio, or None where its precondition does not hold.

    It is asked of every block that offers the lane.
    """

    def law(formula: _OfACase) -> Law:
        def ask(trial: Trial) -> Iterator[float]:
            for case in trial.cases:
                if _OFFERS[lane](trial.subject, case) and (ratio := formula(case)) is not None:
                    yield ratio

        says = statement or (formula.__doc__ or "").partition("\n")[0]
        return Law(name, lane, says, source, ask, formula, measures=measures)

    return law
