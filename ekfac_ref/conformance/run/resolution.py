"""The smallest relative error that a law can see: what a pass is worth."""

from collections.abc import Callable, Iterable, Sequence
from math import inf

from ekfac_ref.conformance.laws.law import Law, holds
from ekfac_ref.conformance.run.perturbed import PERTURBATIONS, Perturbation, perturbed
from ekfac_ref.conformance.subjects.subject import Answer, Ask, Subject
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.truth.cache import Content, content
from ekfac_ref.question.problem import Problem

# Half decades from 1e-17, which nothing sees, to 1, which is no small error any more.
ERRORS = tuple(10 ** (k / 2) for k in range(-34, 1))


def once(subject: Subject) -> Subject:
    """A copy of the subject that is asked about equal problems only once."""

    def remembering(ask: Ask) -> Ask:
        known: dict[Content, Answer] = {}

        def answer(problem: Problem) -> Answer:
            key = content(problem)
            if key not in known:
                known[key] = ask(problem)
            return known[key]

        return answer

    return subject.wrapped(remembering)


def resolution(
    law: Law, subject: Subject, problem: Problem, kinds: Iterable[Perturbation] = PERTURBATIONS
) -> float:
    """The smallest of ERRORS, of any of these kinds, with which the law does not hold; inf if none.

    ``subject`` is a correct one. A larger error of the same kind is taken to be seen as well.
    """
    smallest = len(ERRORS)
    for kind in kinds:
        low, high = -1, smallest  # not noticed, noticed (or not better than what has been found)
        while high - low > 1:
            middle = (low + high) // 2
            trial = Trial(perturbed(subject, kind, ERRORS[middle]), problem)
            low, high = (middle, high) if holds(law, trial) else (low, middle)
        smallest = high
    return ERRORS[smallest] if smallest < len(ERRORS) else inf


def blind(
    laws: Sequence[Law],
    subject: Subject,
    problem: Problem,
    error: float,
    passes: Callable[[BaseException], object] = lambda error: None,
) -> list[Law]:
    """Those that hold with an error of this size on the problem, whatever its kind.

    One whose question is refused tells nothing, and neither of the others; ``passes`` is told.
    """

    def is_blind(law: Law, trial: Trial) -> bool:
        try:
            return holds(law, trial)
        except Exception as error:
            passes(error)
            return True

    left = list(laws)
    for kind in PERTURBATIONS:
        trial = Trial(perturbed(subject, kind, error), problem)
        left = [law for law in left if is_blind(law, trial)]
    return left
