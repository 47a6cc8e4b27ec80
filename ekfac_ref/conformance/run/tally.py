"""What is known of one law in the middle of a run."""

from collections.abc import Mapping
from dataclasses import dataclass

from ekfac_ref.conformance.laws.law import Law
from ekfac_ref.conformance.problems.source import script
from ekfac_ref.conformance.run.verdicts import Status, Verdict
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.truth.tolerance import LawBroken
from ekfac_ref.question.problem import Problem


@dataclass(eq=False)
class Tally:
    """One law while a run goes on.

    Attributes:
        law: which.
        asked: of how many problems.
        answered: whether any problem got an answer.
        offered: whether any answer had what the law needs.
        worst: the largest ratio to rounding on any problem.
        broken: what LawBroken said of ``problem``, the one that is shortest to read.
        blunt: whether it would have held for a subject that is far off, too.
    """

    law: Law
    asked: int = 0
    answered: bool = False
    offered: bool = False
    worst: float = 0.0
    broken: str = ""
    problem: Problem | None = None
    blunt: bool = False

    def ask(self, trial: Trial) -> None:
        """Ask the law of one trial; a broken law keeps the problem that is shortest to read."""
        self.offered |= self.law.offered(trial)
        self.answered = True
        try:
            ratios = list(self.law.ask(trial))
        except LawBroken as error:
            self.asked += 1
            self.keep(error, trial.problem)
            return
        self.asked += bool(ratios)
        self.worst = max([self.worst, *ratios])

    def keep(self, broken: LawBroken, problem: Problem) -> None:
        """This problem, unless there is one that is shorter as Python."""
        self.worst = max(self.worst, broken.ratio)
        if self.problem is None or _length(problem) <= _length(self.problem):
            self.broken, self.problem = str(broken), problem

    def verdict(self, known: Mapping[str, str]) -> Verdict:
        """With a known deviation, strictly: if it holds after all, that is a failure too."""
        reason = known.get(self.law.name, "")
        if not self.answered:
            status = Status.INCONCLUSIVE  # what would have been offered, nobody knows
        elif not self.offered:
            status = Status.NOT_OFFERED
        elif self.broken:
            status = Status.EXPECTED_FAILURE if reason else Status.FAIL
        elif not self.asked or self.blunt:
            status = Status.INCONCLUSIVE
        else:
            status = Status.UNEXPECTED_PASS if reason else Status.PASS
        return Verdict(self.law, status, self.asked, self.worst, self.broken, self.problem, reason)


def _length(problem: Problem) -> int:
    return len(script(problem, None, None))
