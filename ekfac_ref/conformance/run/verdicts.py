"""What a run found: one verdict per law, and the exit code that sums them up."""

from collections import Counter
from dataclasses import dataclass
from enum import Enum

from ekfac_ref.conformance.laws.law import Law
from ekfac_ref.question.problem import Problem


class Status(Enum):
    """How a law came out; the value is what reports print, and what programs find in JSON."""

    PASS = "pass"
    FAIL = "FAIL"
    EXPECTED_FAILURE = "expected failure"
    UNEXPECTED_PASS = "UNEXPECTED PASS"
    NOT_OFFERED = "not offered"
    INCONCLUSIVE = "inconclusive"
    IN_DOUBT = "in doubt"


@dataclass(frozen=True, eq=False)
class Verdict:
    """One law over all problems.

    Attributes:
        law: which.
        status: how it came out.
        asked: of how many problems; a law that is not asked is never passed.
        worst: the largest ratio to rounding that was seen: up to ``tolerance.LIMIT`` it is
            rounding, above ``tolerance.MISTAKE`` it is none.
        broken: what LawBroken, or else Doubt, said of the problem, or "".
        problem: a problem on which it is broken, the shortest that was found; or in most doubt.
        reason: of a known deviation.
    """

    law: Law
    status: Status
    asked: int
    worst: float
    broken: str = ""
    problem: Problem | None = None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Trouble:
    """A problem on which the subject gave no answer that laws could be asked of.

    Attributes:
        what: one line.
        traceback: of the subject's exception, or "".
        problem: the question.
        printed: what the subject wrote to stdout meanwhile.
    """

    what: str
    traceback: str
    problem: Problem
    printed: str = ""


@dataclass(frozen=True, eq=False)
class Report:
    """A whole run.

    Attributes:
        subject: its name.
        profile, seed: to run it again.
        verdicts: one per law.
        troubles: problems without an answer.
        problems: how many should have been asked; ``answered``, how many were.
        printed: what the subject wrote to stdout.
        complete: False after an interrupt.
        diagnosis: which mistake it looks like, in one sentence, where it does not conform.
        digest: of the problems: two runs with one digest asked about the same ones.
    """

    subject: str
    profile: str
    seed: int
    verdicts: list[Verdict]
    troubles: list[Trouble]
    problems: int
    answered: int
    printed: str = ""
    complete: bool = True
    diagnosis: str = ""
    digest: str = ""

    @property
    def exit_code(self) -> int:
        """The first that applies: 3 the subject gives no answer, 4 fewer checks ran than should
        have, 1 it does not conform, 2 inconclusive, 0 it conforms.
        """
        statuses = {verdict.status for verdict in self.verdicts}
        if self.troubles:
            return 3
        if not self.complete or self.answered < self.problems or not self.verdicts:
            return 4
        if statuses & {Status.FAIL, Status.UNEXPECTED_PASS}:
            return 1
        return 2 if statuses & {Status.INCONCLUSIVE, Status.IN_DOUBT} else 0

    @property
    def summary(self) -> str:
        """The exit code in words."""
        how = Counter(v.status for v in self.verdicts)
        broken = [v.law.name for v in self.verdicts if v.status is Status.FAIL]
        holds = [v.law.name for v in self.verdicts if v.status is Status.UNEXPECTED_PASS]
        parts = [f"broken: {', '.join(broken)}"] if broken else []
        parts += [f"known as deviations, but held: {', '.join(holds)}"] if holds else []
        found = "; ".join(parts) or "no law was broken"
        if self.exit_code == 3:
            return (
                f"No verdict: {len(self.troubles)} of {self.problems} problems got no answer "
                f"that laws could be asked of ({found})."
            )
        if self.exit_code == 4:
            why = "not all was asked" if self.complete else "interrupted"
            return f"Incomplete: {why}, {self.answered} of {self.problems} problems ({found})."
        if self.exit_code == 1:
            return f"It does not conform ({found})."
        if self.exit_code == 2:
            open_ = [v for v in self.verdicts if v.status is Status.INCONCLUSIVE]
            never = [v.law.name for v in open_ if not v.asked]
            blunt = [v.law.name for v in open_ if v.asked]
            parts = [f"no problem was one to ask {', '.join(never)} of"] if never else []
            parts += [f"answers far off would pass {', '.join(blunt)} too"] if blunt else []
            advice = ["ask more"] if parts else []
            doubt = [v.law.name for v in self.verdicts if v.status is Status.IN_DOUBT]
            if doubt:
                parts += [f"neither rounding nor clearly a mistake in {', '.join(doubt)}"]
                advice += ["look at where these lose digits"]
            return f"Inconclusive: {'; '.join(parts)}; {', '.join(advice)}."
        known = how[Status.EXPECTED_FAILURE]
        deviations = f", {known} known to be broken" if known else ""
        passed = how[Status.PASS]
        held = f"{passed} {'law holds' if passed == 1 else 'laws hold'}{deviations}"
        return f"It conforms: {held}, on {self.problems} problems."
