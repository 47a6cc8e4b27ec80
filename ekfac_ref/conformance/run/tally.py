"""What is known of one law in the middle of a run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf, isfinite

import torch

from ekfac_ref.conformance.findings.causes import PARTICULARS
from ekfac_ref.conformance.findings.verdicts import Status, Verdict
from ekfac_ref.conformance.laws.law import Law
from ekfac_ref.conformance.problems.source import Written
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.truth.tolerance import LIMIT, Doubt, LawBroken

# How much smaller the same mistake may look on another problem, relative to the sizes of what is
# summed there: by the number of summands, and by what cancels among them. Another mistake, or
# rounding, is smaller by many orders.
ALIKE = 1e3


@dataclass(frozen=True, eq=False)
class Broken:
    """A problem on which a law is broken, and what it said there.

    Attributes:
        problem: as text.
        law_broken: what the law said.
        roundoff: the unit in which its ratio counts, that of the problem's dtype.
    """

    problem: Written
    law_broken: LawBroken
    roundoff: float

    @classmethod
    def on(cls, trial: Trial, error: LawBroken) -> "Broken":
        """What a law said of the trial's problem."""
        roundoff = torch.finfo(trial.problem.dtype).eps
        return cls(Written.of(trial.problem), error, roundoff)

    @property
    def length(self) -> int:
        """How long the problem is to read, in characters of Python."""
        return len(self.problem.text)

    @property
    def size(self) -> float:
        """The residual relative to the scale and the number of the terms that were summed.

        The problem's dtype, in whose roundings the ratio is told, has no part in it. inf where the
        law is a matter of yes or no.
        """
        ratio = self.law_broken.ratio
        return ratio * self.roundoff if isfinite(ratio) else inf

    @property
    def kinds(self) -> set[str]:
        """What is wrong, without the names and numbers of this problem; a law may list several."""
        return set(PARTICULARS.sub("", str(self.law_broken)).split("; "))

    def shows(self, other: "Broken") -> bool:
        """Whether this may stand for the other: it is as broken, up to ALIKE, or in the same way.

        Else it would be another mistake, or rounding, in place of the one that was found.
        """
        if isfinite(other.size):
            return isfinite(self.size) and self.size * ALIKE >= other.size
        return not isfinite(self.size) and self.kinds <= other.kinds


@dataclass(frozen=True, eq=False)
class Said:
    """What one law said of one problem.

    Attributes:
        law: its name.
        offered: whether the answer has what the law needs.
        ratios: to rounding, of every block that it was asked of.
        broken: where it does not hold.
        refused: what the subject raised at a question of this law's own, or ""; the ratios are
            those of all others.
    """

    law: str
    offered: bool
    ratios: list[float]
    broken: Broken | None
    refused: str = ""

    @property
    def in_doubt(self) -> bool:
        """Whether it is open if the law holds."""
        return not self.broken and max(self.ratios, default=0.0) > LIMIT


def said(law: Law, trial: Trial, refusal: Callable[[Exception], str] = lambda error: "") -> Said:
    """Ask the law of one trial.

    What the subject raises comes through, unless ``refusal`` has a line on it.
    """
    offered, ratios = True, list[float]()
    try:
        offered = law.offered(trial)
        ratios += law.ask(trial)
    except LawBroken as error:
        return Said(law.name, offered, ratios, Broken.on(trial, error))
    except Exception as error:
        if line := refusal(error):
            return Said(law.name, offered, ratios, None, line)
        raise
    return Said(law.name, offered, ratios, None)


@dataclass(eq=False)
class Tally:
    """One law while a run goes on.

    Attributes:
        law: which.
        asked: of how many problems.
        answered: whether any problem got an answer.
        offered: whether any answer had what the law needs.
        worst: the largest ratio to rounding on any problem.
        gravest: where it is broken most, as ``Broken.size`` measures it.
        broken: on the problem that is shortest to read of those that show the gravest.
        doubt: the largest of those that are neither rounding nor a mistake, and its problem.
        blunt: whether it would have held for a subject that is far off, too.
        refused: how many of its own questions were, and what was raised at the first.
    """

    law: Law
    asked: int = 0
    answered: bool = False
    offered: bool = False
    worst: float = 0.0
    gravest: Broken | None = None
    broken: Broken | None = None
    doubt: tuple[Written, Doubt] | None = None
    blunt: bool = False
    refused: tuple[int, str] = (0, "")

    def ask(self, trial: Trial) -> None:
        """Ask the law of one trial, and count what comes of it."""
        self.count(said(self.law, trial), Written.of(trial.problem))

    def count(self, said: Said, problem: Written) -> None:
        """Count what the law said of a problem."""
        self.offered |= said.offered
        self.answered = True
        if said.refused:
            self.refused = self.refused[0] + 1, self.refused[1] or said.refused
        if said.broken:
            self.asked += 1
            self.keep(said.broken)
            return
        self.asked += bool(said.ratios)
        largest = max(said.ratios, default=0.0)
        if largest > LIMIT and (self.doubt is None or largest > self.doubt[1].ratio):
            self.doubt = problem, Doubt(largest)
        self.worst = max(self.worst, largest)

    def keep(self, found: Broken) -> None:
        """Keep the problem if it is the shortest so far of those that show the gravest."""
        self.worst = max(self.worst, found.law_broken.ratio)
        if self.gravest is None or found.size > self.gravest.size:
            self.gravest = found
        if not found.shows(self.gravest):
            return
        kept = self.broken
        if kept is None or not kept.shows(self.gravest) or found.length <= kept.length:
            self.broken = found

    def verdict(self, known: Mapping[str, str]) -> Verdict:
        """With a known deviation, strictly: if it holds after all, that is a failure too."""
        reason = known.get(self.law.name, "")
        if not self.answered:
            status = Status.INCONCLUSIVE  # what would have been offered, nobody knows
        elif not self.offered:
            status = Status.NOT_OFFERED
        elif self.broken:
            status = Status.EXPECTED_FAILURE if reason else Status.FAIL
        elif self.doubt:
            status = Status.IN_DOUBT
        elif not self.asked and self.refused[0] and not reason:
            status = Status.REFUSED
        elif not self.asked or self.blunt:
            status = Status.INCONCLUSIVE
        else:
            status = Status.UNEXPECTED_PASS if reason else Status.PASS
        said, problem = "", None
        if self.broken:
            said, problem = str(self.broken.law_broken), self.broken.problem
        elif self.doubt:
            said, problem = str(self.doubt[1]), self.doubt[0]
        return Verdict(
            self.law, status, self.asked, self.worst, said, problem, reason, self.refused
        )
