"""The problems of a run, as whoever runs it gets them: texts, and what is special about each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ekfac_ref.conformance.findings.verdicts import Trouble
from ekfac_ref.conformance.problems.digest import digest
from ekfac_ref.conformance.problems.features import with_mute
from ekfac_ref.conformance.problems.source import Written


@dataclass(frozen=True, eq=False)
class DrawnProblems:
    """The problems of a run; or none, and why there is no asking the subject.

    Attributes:
        problems: as texts.
        features: of every problem, by name.
        mute: those of them that only layers without gradient have.
        digest: of the problems.
        allowed: features that problems for this subject may have.
        declines: features that the subject declares to refuse.
        trouble: why there are none.
        only_draws: whether all that the subject has are answers for which it draws labels itself.
    """

    problems: Sequence[Written] = ()
    features: Sequence[tuple[str, ...]] = ()
    mute: Sequence[tuple[str, ...]] = ()
    digest: str = ""
    allowed: tuple[str, ...] = ()
    declines: tuple[str, ...] = ()
    trouble: Trouble | None = None
    only_draws: bool = False

    @staticmethod
    def of(texts: Sequence[Written], problems: Sequence[Any], **others: Any) -> "DrawnProblems":
        """These problems, of which the texts are; ``others`` are attributes."""
        special = [with_mute(problem) for problem in problems]
        names, mute = [names for names, _ in special], [mute for _, mute in special]
        return DrawnProblems(texts, names, mute, digest(problems), **others)
