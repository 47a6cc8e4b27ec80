"""Which mistakes could this subject's surface never reveal?

A subject that answers with a bare matvec, or has only Linear layers, or no masks, is asked fewer
laws on fewer kinds of problems. Every mutant takes its place here: the same kinds of problems, the
same laws. What goes unnoticed would go unnoticed in the subject too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.laws.law import Law, notices
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.subjects.subject import Subject
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.question.problem import Problem


@dataclass(frozen=True)
class Revealed:
    """What becomes of one mutant in the subject's place.

    Attributes:
        mutant: which.
        by: the first law that noticed it, "" for none.
        after: on so many problems.
    """

    mutant: Mutant
    by: str
    after: int


def reveal(
    subject: Subject, problems: list[Problem], laws: list[Law], mutants: Sequence[Mutant]
) -> Iterator[Revealed]:
    """One after the other, in the subject's place."""
    for mutant in mutants:
        # In the default definition, whatever the subject's: it is mistakes in that one. It answers
        # no more than the subject does.
        disguised = replace(
            mutant.subject,
            abilities=subject.abilities,
            kfac=subject.kfac and mutant.subject.kfac,
            exact_fisher=subject.exact_fisher and mutant.subject.exact_fisher,
        )
        yield _first(mutant, disguised, problems, laws)


def offered(subject: Subject, problems: list[Problem]) -> list[Law]:
    """The laws that its answers allow."""
    trials = [Trial(subject, problem) for problem in problems[:4]]
    return [law for law in LAWS.values() if any(law.offered(trial) for trial in trials)]


def _first(mutant: Mutant, subject: Subject, problems: list[Problem], laws: list[Law]) -> Revealed:
    for number, problem in enumerate(problems, start=1):
        trial = Trial(subject, problem)
        for law in laws:
            if notices(law, trial):
                return Revealed(mutant, law.name, number)
    return Revealed(mutant, "", len(problems))
