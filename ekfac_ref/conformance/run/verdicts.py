"""What a run found: one verdict per law, and the exit code that sums them up."""

from collections import Counter
from dataclasses import dataclass
from enum import Enum

from ekfac_ref.conformance.laws.law import Law
from ekfac_ref.conformance.problems.source import Written

FAULT = (
    "the kit itself failed, which is no fault of the subject's; please report it with the command, "
    "the traceback and the versions of Python and torch"
)


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
        problem: as text: one on which it is broken, the shortest that was found; or in most doubt.
        reason: of a known deviation.
    """

    law: Law
    status: Status
    asked: int
    worst: float
    broken: str = ""
    problem: Written | None = None
    reason: str = ""


class Blame(Enum):
    """Whose trouble it is that a problem got no answer."""

    SUBJECT = "the subject"  # it answers, and laws cannot be asked of that
    LOST = "the subject, which is lost"  # it hangs, or its process has ended
    KIT = "the kit"


@dataclass(frozen=True, eq=False)
class Trouble:
    """A problem on which there was no answer that laws could be asked of.

    Attributes:
        what: one line.
        traceback: of the exception, or "".
        problem: the question as text; None where the subject could not be asked any.
        printed: what the subject wrote meanwhile.
        blame: whose it is.
    """

    what: str
    traceback: str
    problem: Written | None
    printed: str = ""
    blame: Blame = Blame.SUBJECT


@dataclass(frozen=True, eq=False)
class Report:
    """A whole run.

    Attributes:
        subject: its name.
        profile, seed: to run it again.
        verdicts: one per law.
        troubles: problems without an answer.
        problems: how many should have been asked; ``answered``, how many were.
        printed: what the subject wrote.
        complete: False after an interrupt.
        diagnosis: which mistake it looks like, in one sentence, where it does not conform.
        digest: of the problems: two runs with one digest asked about the same ones.
        notes: what went wrong beside the verdict, and does not change it.
        given_up: whether it was asked no more, after too many problems on which it was lost.
        apart: whether it was asked in a process of its own, which cannot end the run.
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
    notes: tuple[str, ...] = ()
    given_up: bool = False
    apart: bool = False

    @property
    def faults(self) -> list[Trouble]:
        """The troubles that are the kit's own: there is no verdict then."""
        return [trouble for trouble in self.troubles if trouble.blame is Blame.KIT]

    @property
    def exit_code(self) -> int:
        """The first that applies: 6 the kit itself failed, 3 the subject gives no answer, 4 fewer
        checks ran than should have, 1 it does not conform, 5 inconclusive, 0 it conforms.
        """
        statuses = {verdict.status for verdict in self.verdicts}
        if self.faults:
            return 6
        if self.troubles:
            return 3
        if not self.complete or self.answered < self.problems or not self.verdicts:
            return 4
        if statuses & {Status.FAIL, Status.UNEXPECTED_PASS}:
            return 1
        return 5 if statuses & {Status.INCONCLUSIVE, Status.IN_DOUBT} else 0

    @property
    def summary(self) -> str:
        """The exit code in words."""
        how = Counter(v.status for v in self.verdicts)
        broken = [v.law.name for v in self.verdicts if v.status is Status.FAIL]
        holds = [v.law.name for v in self.verdicts if v.status is Status.UNEXPECTED_PASS]
        parts = [f"broken: {', '.join(broken)}"] if broken else []
        parts += [f"known as deviations, but held: {', '.join(holds)}"] if holds else []
        found = "; ".join(parts) or "no law was broken"
        if self.exit_code == 6:
            return f"No verdict: {FAULT} ({found})."
        if self.exit_code == 3:
            if not self.troubles[0].problem:
                return f"No verdict: it could not be asked ({self.troubles[0].what})."
            given_up = "; it was asked no more" if self.given_up else ""
            return (
                f"No verdict: {len(self.troubles)} of {self.problems} problems got no answer "
                f"that laws could be asked of{given_up} ({found})."
            )
        if self.exit_code == 4:
            why = "not all was asked" if self.complete else "interrupted"
            return f"Incomplete: {why}, {self.answered} of {self.problems} problems ({found})."
        if self.exit_code == 1:
            return f"It does not conform ({found})."
        if self.exit_code == 5:
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
