"""What a law is: a statement, what it needs of an answer, and how it is asked of a trial.

A law is written once, as a function under one of the decorators below: its formula is the first
line of the docstring and the code beneath it, and its name, lane and source stand above. A **lane**
is the set of laws that one kind of answer allows.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ekfac_ref.conformance.problems.abilities import Abilities
from ekfac_ref.conformance.subjects.answered import Answered, Case
from ekfac_ref.conformance.subjects.matrices import BadAnswer
from ekfac_ref.conformance.subjects.subject import SAMPLED
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.truth.tolerance import LIMIT, LawBroken

MARTENS, GEORGE = "Martens & Grosse 2015 (1503.05671)", "George et al. 2018 (1806.03884)"
ALGEBRA, DEFINITION = "linear algebra, derived in docs/laws.md", "by definition"


class Lane(Enum):
    """What an answer has to offer for a law to be asked of it."""

    SUBJECT = "any subject"
    ANY = "any answer"
    SAME = "an answer that is the same every time"
    OPAQUE = "a matvec"
    SOLVE = "solve(V, damping=)"
    EKFAC = "an EKFAC block"
    BASIS = "Q_B, Q_A and eigenvalues"
    KFAC = "a KFAC block"
    FACTORS = "a KFAC block's B and A"
    FISHER = "an exact block"
    DIAGONAL = "the diagonal of the exact blocks"
    GRADIENTS = "per-sample gradients"
    NETWORK = "fisher_product(problem, V)"
    TRAINING = "optimizer(problem, settings)"
    SAMPLED = "sampled_fisher or sampled_ekfac, and the profile full"
    SAMPLED_KFAC = "sampled_kfac, and the profile full"
    INVERSE = "precondition(problem, gradients, damping) alone"
    PRECONDITION = "precondition(problem, gradients, damping), and a block to hold it against"


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
        return self.fits(trial.subject.abilities) and _offers(self.lane, trial)


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


def _some(*operators: Answered | None) -> list[Answered]:
    return [one for one in operators if one is not None]


# The operators of one block that the laws of a lane are about.
_OPERATORS: dict[Lane, Callable[[Case], list[Answered]]] = {
    Lane.OPAQUE: lambda case: case.operators,
    Lane.SOLVE: lambda case: [one for one in case.operators if one.own.solves],
    Lane.EKFAC: lambda case: _some(case.E or case.inverted),
    Lane.BASIS: lambda case: [one for one in _some(case.E) if one.own.shows_its_basis],
    Lane.KFAC: lambda case: _some(case.K),
    Lane.FACTORS: lambda case: [one for one in _some(case.K) if one.own.shows_its_factors],
    Lane.FISHER: lambda case: _some(case.F),
}
# Lanes of laws that hold as nearly as chance allows: they ask about thousands of samples.
BY_CHANCE = {Lane.SAMPLED, Lane.SAMPLED_KFAC}
# Lanes in which an operator may be any of E, K and F, so that messages have to say which it was.
_OF_SEVERAL = {Lane.OPAQUE, Lane.SOLVE}


_WAYS = {
    Lane.DIAGONAL: {"diagonal"},
    Lane.GRADIENTS: {"per_sample_gradients"},
    Lane.NETWORK: {"fisher_product"},
    Lane.TRAINING: {"optimizer"},
    Lane.SAMPLED: {"sampled_fisher", "sampled_ekfac"},
    Lane.SAMPLED_KFAC: {"sampled_kfac"},
}


def _offers(lane: Lane, trial: Trial) -> bool:
    if lane is Lane.SUBJECT:
        return True
    if lane is Lane.ANY:  # training is no answer to a problem
        return trial.subject.ways != ("optimizer",)
    if lane is Lane.SAME:
        return bool({*trial.subject.ways} - {"optimizer", *SAMPLED})
    if lane in _WAYS:
        return bool(_WAYS[lane] & {*trial.subject.ways})
    if lane in (Lane.PRECONDITION, Lane.INVERSE):
        shows = bool(trial.subject.operators)
        return trial.subject.precondition is not None and shows is (lane is Lane.PRECONDITION)
    return any(_OPERATORS[lane](case) for case in trial.cases)


# The decorators: each turns a function into a Law.

_OfATrial = Callable[[Trial], Iterator[float]]
_OfABlock = Callable[[Answered], float | None]


def law_of_a_trial(
    name: str,
    source: str,
    lane: Lane = Lane.ANY,
    fits: Callable[[Abilities], bool] = _everybody,
    measures: bool = True,
    statement: str = "",
) -> Callable[[_OfATrial], Law]:
    """For a function of a whole trial, which yields ratios.

    It is not called where the subject has nothing of what the lane is about. ``statement`` is the
    first line of the docstring, unless it is given.
    """

    def law(formula: _OfATrial) -> Law:
        def ask(trial: Trial) -> Iterator[float]:
            if lane not in _WAYS or _offers(lane, trial):
                yield from formula(trial)

        says = statement or (formula.__doc__ or "").partition("\n")[0]
        return Law(name, lane, says, source, ask, formula, fits, measures)

    return law


def law_of_a_block(
    name: str,
    source: str,
    lane: Lane,
    measures: bool = True,
    statement: str = "",
) -> Callable[[_OfABlock], Law]:
    """For a function of one operator of a block, its ratio, or None where it has nothing to say.

    It is asked of every operator that its lane is about, E, K or F.
    """

    def law(formula: _OfABlock) -> Law:
        def of(case: Case, one: Answered) -> Iterator[float]:
            with named(one.way if lane in _OF_SEVERAL or one is case.inverted else ""):
                ratio = formula(one)
            if ratio is not None:
                yield ratio

        def ask(trial: Trial) -> Iterator[float]:
            return each(of(case, one) for case in trial.cases for one in _OPERATORS[lane](case))

        says = statement or (formula.__doc__ or "").partition("\n")[0]
        return Law(name, lane, says, source, ask, formula, measures=measures)

    return law


def each(parts: Iterable[Ratios]) -> Iterator[float]:
    """The ratios of every part; what a subject raises in one comes once all others were asked.

    So who cannot solve, say, is judged by its products. A law that is broken ends it at once, and
    so does an answer that is none.
    """
    raised: Exception | None = None
    for part in parts:
        try:
            yield from part
        except (LawBroken, BadAnswer):
            raise
        except Exception as error:
            raised = raised or error
    if raised is not None:
        raise raised


@contextmanager
def named(way: str) -> Iterator[None]:
    """Say of a law that is broken inside which answer it was about."""
    try:
        yield
    except LawBroken as error:
        if not way:
            raise
        raise LawBroken(f"{way}, {error}", error.ratio) from None
