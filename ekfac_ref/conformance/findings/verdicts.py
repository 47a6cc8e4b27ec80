"""How a law came out over all problems, and why a problem got no answer."""

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
    REFUSED = "refused"


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
        refused: how many problems were answered, but not what this law asks beside; and what was
            raised at the first of these.
        notices: the smallest relative error that would have been a mistake, on the block where that
            is smallest and where it is largest; None where it is not told.
    """

    law: Law
    status: Status
    asked: int
    worst: float
    broken: str = ""
    problem: Written | None = None
    reason: str = ""
    refused: tuple[int, str] = (0, "")
    notices: tuple[float, float] | None = None


class Blame(Enum):
    """Whose trouble it is that a problem got no answer."""

    REFUSED = "nobody: it is refused"  # by an exception of the library's, which is an answer
    SUBJECT = "the subject"  # it answers, and laws cannot be asked of that; or its adapter crashes
    LOST = "the subject, which is lost"  # it hangs, or its process has ended
    KIT = "the kit"
    PROBLEM = "the problem"  # the user's own, which nobody can answer


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
