"""The smallest relative error that a law can see: what a pass is worth."""

from collections.abc import Iterable, Sequence
from math import inf

from ekfac_ref.conformance.laws.law import Law, notices
from ekfac_ref.conformance.run.perturbed import BLURS, Blur, blurred
from ekfac_ref.conformance.subjects.subject import Answer, Ask, Subject
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.truth.cache import digest
from ekfac_ref.question.problem import Problem

# Half decades from 1e-17, which nothing sees, to 1, which is no small error any more.
ERRORS = tuple(10 ** (k / 2) for k in range(-34, 1))


def once(subject: Subject) -> Subject:
    """The subject, asked about equal problems only once."""

    def remembering(ask: Ask) -> Ask:
        known: dict[bytes, Answer] = {}

        def answer(problem: Problem) -> Answer:
            key = digest(problem)
            if key not in known:
                known[key] = ask(problem)
            return known[key]

        return answer

    return subject.wrapped(remembering)


def resolution(
    law: Law, subject: Subject, problem: Problem, blurs: Iterable[Blur] = BLURS
) -> float:
    """The smallest of ERRORS, of any of these kinds, that the law sees; inf if it sees none.

    ``subject`` is a correct one. A larger error of the same kind is taken to be seen as well.
    """
    smallest = len(ERRORS)
    for blur in blurs:
        low, high = -1, smallest  # not seen, seen (or not better than what has been found)
        while high - low > 1:
            middle = (low + high) // 2
            seen = notices(law, Trial(blurred(subject, blur, ERRORS[middle]), problem))
            low, high = (low, middle) if seen else (middle, high)
        smallest = high
    return ERRORS[smallest] if smallest < len(ERRORS) else inf


def blind(laws: Sequence[Law], subject: Subject, problem: Problem, error: float) -> list[Law]:
    """Those that see no error of this size on the problem, whatever its kind."""
    left = list(laws)
    for blur in BLURS:
        trial = Trial(blurred(subject, blur, error), problem)
        left = [law for law in left if not notices(law, trial)]
    return left
