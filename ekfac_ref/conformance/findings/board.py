"""The scoreboard: every feature with its verdict."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum

from ekfac_ref.conformance.findings.attribution.conjunction import Conjunction
from ekfac_ref.conformance.findings.causes import Cause, Refusal
from ekfac_ref.conformance.findings.common import spelled_out
from ekfac_ref.conformance.findings.known import KnownDeviations
from ekfac_ref.conformance.findings.outcome import Off, Outcome
from ekfac_ref.conformance.laws.law import Law
from ekfac_ref.conformance.problems.features import FEATURES

NEARLY = 0.9  # of the problems on which a law is broken for an unknown reason: a suspect


class Standing(Enum):
    """A feature's verdict; the value is what reports print."""

    WRONG = "wrong"
    REFUSES = "refuses"
    IN_DOUBT = "in doubt"
    NOT_ANSWERED = "not answered"
    EXACT = "exact"
    NOT_DRAWN = "not drawn"


@dataclass(frozen=True)
class Score:
    """One feature over all problems that have it.

    Attributes:
        name: of the feature.
        standing: WRONG where a mistake was attributed to it, REFUSES where a refusal was, and it is
            declined or not mostly answered, NOT_ANSWERED where all of its problems were refused for
            the sake of others, IN_DOUBT where a mistake that is attributed to nothing for sure
            breaks laws on hardly any problems without it, EXACT where some problem with it, in a
            layer that has a gradient, is right and none of these, else IN_DOUBT: no problem tells
            it apart from what it came with.
        drawn: how many problems have it.
        held: on how many of them every law holds that was asked.
        broken: on how many some law is broken.
        refused: how many were refused.
        worst: how far a law is from holding on one of them; None where none is broken.
        beside: with what it has to come to be wrong, or "".
        known: the reason, where it is known to be wrong or refused, or "".
    """

    name: str
    standing: Standing
    drawn: int
    held: int
    broken: int
    refused: int
    worst: Off | None = None
    beside: str = ""
    known: str = ""


def scoreboard(
    outcomes: Sequence[Outcome],
    laws: Sequence[Law],
    found: Sequence[Cause],
    refused: Sequence[Refusal],
    known: KnownDeviations,
    declines: Collection[str] = (),
) -> list[Score]:
    """All of FEATURES, and others that are there: what is wrong first, then what is refused, in
    doubt, exact, not drawn.

    A law of manners that is broken wherever it was asked says nothing about features, and one that
    is known to be broken does not count.

    Args:
        outcomes: of every problem.
        laws: that were asked.
        found: causes of what is broken, where that is not known.
        refused: refusals.
        known: deviations.
        declines: features that are declared to be refused.
    """
    held = {name for one in outcomes for name in one.held}
    counting = {law.name for law in laws if law.measures or law.name in held} - {*known.laws}
    blamed = [
        cause.attributed.where
        for cause in found
        if cause.attributed and cause.attributed.sure and {*cause.laws} & counting
    ]
    unsure = [
        [{*outcomes[i].features} for i in cause.problems]
        for cause in found
        if not (cause.attributed and cause.attributed.sure) and {*cause.laws} & counting
    ]
    suspected = {name for having in unsure for name in _in_nearly_all(having)}
    turned_down = {name for one in refused for name in one.features}
    declared = dict.fromkeys(declines, "declined")
    reasons = {**declared, **known.refusals, **known.features}
    drawn = dict.fromkeys(name for one in outcomes for name in one.features)
    rows = [
        _Having(name, [one for one in outcomes if name in one.features], counting).score(
            [
                where
                for where in blamed
                if where == Conjunction() or name in spelled_out(where.present)
            ],
            name in known.features,
            name in turned_down,
            name in suspected,
            reasons.get(name, ""),
        )
        for name in dict.fromkeys((*FEATURES, *drawn))
    ]
    order = list(Standing)
    return sorted(rows, key=lambda row: order.index(row.standing))


def _in_nearly_all(problems: Sequence[set[str]]) -> set[str]:
    """The features of all but a few."""
    times = Counter(name for features in problems for name in features)
    return {name for name, n in times.items() if n >= NEARLY * len(problems)}


@dataclass(frozen=True)
class _Having:
    """The problems with one feature, and the laws that count."""

    name: str
    outcomes: Sequence[Outcome]
    counting: set[str]

    def score(
        self,
        blamed: Sequence[Conjunction],
        known_wrong: bool,
        turned_down: bool,
        suspected: bool,
        reason: str,
    ) -> Score:
        """``blamed`` are the causes that it is part of, or that are everywhere."""
        broken = [one for one in self.outcomes if {*one.broken} & self.counting]
        held = [o for o in self.outcomes if o.is_answered and o not in broken and not o.doubted]
        refused = sum(bool(one.refusal) for one in self.outcomes)
        offs = [off for o in broken for law, off in o.broken.items() if law in self.counting]
        if not self.outcomes:
            standing = Standing.NOT_DRAWN
        elif broken and (blamed or known_wrong):
            standing = Standing.WRONG
        elif turned_down and (reason or 2 * refused >= len(self.outcomes)):
            standing = Standing.REFUSES
        elif refused == len(self.outcomes):
            standing = Standing.NOT_ANSWERED
        else:
            shows = not suspected and any(self.name in one.shown for one in held)
            standing = Standing.EXACT if shows else Standing.IN_DOUBT
        more = [str(one) for one in blamed if len(one.present) + len(one.absent) > 1]
        together = standing is Standing.WRONG and not known_wrong and len(more) == len(blamed)
        return Score(
            self.name,
            standing,
            len(self.outcomes),
            len(held),
            len(broken),
            refused,
            Off(max(o.ratio for o in offs), max(o.size for o in offs)) if offs else None,
            "; ".join(more) if together else "",
            reason,
        )
