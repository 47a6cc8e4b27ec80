"""Which mistakes would go unnoticed in this subject?

A subject that answers with a matvec alone, or has only Linear layers, or no masks, is asked fewer
laws on fewer kinds of problems. Every mutant takes its place here: the same kinds of problems, the
same laws. What goes unnoticed there would go unnoticed in the subject, too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.laws.law import Law, notices
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.subjects.matrices import BadAnswer
from ekfac_ref.conformance.subjects.subject import Subject
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.question.problem import Problem


@dataclass(frozen=True)
class Noticed:
    """Whether a mutant was noticed in the subject's place, and by what.

    Attributes:
        mutant: which took the place.
        by: the first law that noticed it, "" for none.
        after: number of problems that were asked about until then, all of them for none.
    """

    mutant: Mutant
    by: str
    after: int


def noticed(
    subject: Subject, problems: list[Problem], laws: list[Law], mutants: Sequence[Mutant]
) -> Iterator[Noticed]:
    """Put one mutant after the other in the subject's place, and ask these laws of it.

    One that can answer nothing that the subject answers has no place there: a mistake of optimizers
    in an EKFAC, say.
    """
    for mutant in mutants:
        # In the default definition, whatever the subject's: it is mistakes in that one. It answers
        # no more than the subject does.
        instead = mutant.in_every_way
        if set(instead.ways) & set(subject.ways):
            instead = replace(instead.offering(subject.ways), abilities=subject.abilities)
            yield _first(mutant, instead, problems, laws)


def offered(subject: Subject, problems: list[Problem]) -> list[Law]:
    """The laws that the subject's answers allow, judged by the first four of the problems."""
    trials = [Trial(subject, problem) for problem in problems[:4]]
    return [law for law in LAWS.values() if any(law.offered(trial) for trial in trials)]


def _first(mutant: Mutant, subject: Subject, problems: list[Problem], laws: list[Law]) -> Noticed:
    for number, problem in enumerate(problems, start=1):
        trial = Trial(subject, problem)
        for law in laws:
            if _notices(law, trial):
                return Noticed(mutant, law.name, number)
    return Noticed(mutant, "", len(problems))


def _notices(law: Law, trial: Trial) -> bool:
    """An answer that cannot be read is noticed, too: of samples left out, for one."""
    try:
        return notices(law, trial)
    except BadAnswer:
        return True
