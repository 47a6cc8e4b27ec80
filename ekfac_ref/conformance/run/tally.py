"""What is known of one law in the middle of a run."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from ekfac_ref.conformance.laws.law import Law
from ekfac_ref.conformance.problems.source import script
from ekfac_ref.conformance.run.verdicts import Status, Verdict
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.truth.tolerance import LIMIT, Doubt, LawBroken
from ekfac_ref.question.problem import Problem


@dataclass(frozen=True, eq=False)
class Broken:
    """A problem on which a law is broken, and what it said there."""

    problem: Problem
    law_broken: LawBroken

    @cached_property
    def length(self) -> int:
        """How long the problem is to read, in characters of Python."""
        return len(script(self.problem, None, None))


@dataclass(eq=False)
class Tally:
    """One law while a run goes on.

    Attributes:
        law: which.
        asked: of how many problems.
        answered: whether any problem got an answer.
        offered: whether any answer had what the law needs.
        worst: the largest ratio to rounding on any problem.
        broken: on the problem that is shortest to read, None where it holds.
        doubt: the largest of those that are neither rounding nor a mistake, and its problem.
        blunt: whether it would have held for a subject that is far off, too.
    """

    law: Law
    asked: int = 0
    answered: bool = False
    offered: bool = False
    worst: float = 0.0
    broken: Broken | None = None
    doubt: tuple[Problem, Doubt] | None = None
    blunt: bool = False

    def ask(self, trial: Trial) -> None:
        """Ask the law of one trial, and count what comes of it."""
        self.offered |= self.law.offered(trial)
        self.answered = True
        try:
            ratios = list(self.law.ask(trial))
        except LawBroken as error:
            self.asked += 1
            self.keep(Broken(trial.problem, error))
            return
        self.asked += bool(ratios)
        largest = max(ratios, default=0.0)
        if largest > LIMIT and (self.doubt is None or largest > self.doubt[1].ratio):
            self.doubt = trial.problem, Doubt(largest)
        self.worst = max(self.worst, largest)

    def keep(self, found: Broken) -> None:
        """Keep the broken law's problem if its printed source is the shortest so far."""
        self.worst = max(self.worst, found.law_broken.ratio)
        if self.broken is None or found.length <= self.broken.length:
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
        elif not self.asked or self.blunt:
            status = Status.INCONCLUSIVE
        else:
            status = Status.UNEXPECTED_PASS if reason else Status.PASS
        said, problem = "", None
        if self.broken:
            said, problem = str(self.broken.law_broken), self.broken.problem
        elif self.doubt:
            said, problem = str(self.doubt[1]), self.doubt[0]
        return Verdict(self.law, status, self.asked, self.worst, said, problem, reason)
