"""The search: always the mutant that may still be nearest is asked about one more problem."""

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from math import inf

from torch import Tensor

from ekfac_ref.conformance.diagnosis.comparison import Comparison, answer_of, relative, sine
from ekfac_ref.conformance.diagnosis.factor import Candidate, judged, left_over
from ekfac_ref.conformance.mutants.mutant import Mutant

FAR = 0.5  # the error from which on nothing is called near
SPARED = 8
LISTED = 3  # of those that are near, where nothing fits


def nearest(
    catalogue: Sequence[Mutant], subject: list[Comparison], right_up_to_a_factor: bool
) -> list[Candidate]:
    """All that agree as they are; or else up to a factor; or else on all problems but a few; or
    else the nearest few within FAR.

    For a subject that is right up to a factor, only the first: any mutant that is off by a factor
    alone would do with another.
    """
    exact = [c for c in _search(catalogue, subject, as_they_are=True) if c.complexity == (0, 0)]
    if exact or right_up_to_a_factor:
        return exact
    found = _search(catalogue, subject)
    if any(candidate.agrees for candidate in found):
        return found
    return _but_for_a_few(catalogue, subject) or found


def _but_for_a_few(mutants: Sequence[Mutant], subject: list[Comparison]) -> list[Candidate]:
    """Those that agree as they are on all problems but one in SPARED of those that are wrong.

    A null space of a mutated factor has no basis of its own, and one such block is as odd as it
    likes: it should not hide the name that all others have.
    """
    fits = subject[0].question.precision.fits
    wrong = sum(c.is_wrong for c in subject)
    found = []
    for mutant in mutants:
        errors: list[float] = []
        odd = 0
        for c in sorted(subject, key=lambda c: -c.wrong):
            error = _distance(mutant, c, relative)
            odd += error > fits
            if odd > wrong // SPARED:
                break
            errors += [error] if error <= fits else []
        else:
            unit = (0.0, 0.0, 0.0)
            precision = subject[0].question.precision
            found.append(Candidate(mutant.name, 1.0, unit, max(errors), precision, exceptions=odd))
    return found if wrong >= SPARED else []


def _search(
    mutants: Sequence[Mutant], subject: list[Comparison], as_they_are: bool = False
) -> list[Candidate]:
    fits = subject[0].question.precision.fits
    distance, limit = (relative, fits) if as_they_are else (sine, FAR)
    order = sorted(subject, key=lambda c: -(c.wrong if as_they_are else c.misshapen))
    queue: list[tuple[float, int, int, Candidate | None]] = [
        (0.0, i, 0, None) for i in range(len(mutants))
    ]
    found: list[Candidate] = []
    while queue and queue[0][0] <= limit:
        bound, i, asked, candidate = heapq.heappop(queue)
        if candidate is not None:
            found.append(candidate)
            if candidate.agrees or len(found) == LISTED:
                limit = fits
        elif asked < len(order):
            # No factor can bring the error under the bound.
            bound = max(bound, _distance(mutants[i], order[asked], distance))
            heapq.heappush(queue, (bound, i, asked + 1, None))
        else:
            asked_about = (answer_of(mutants[i], c.question) for c in order)
            answers = [answer for answer in asked_about if answer is not None]
            if any(answer.is_wrong for answer in answers):
                candidate = judged(mutants[i].name, answers, order)
                heapq.heappush(queue, (candidate.error, i, asked, candidate))
    return found


def _distance(mutant: Mutant, subject: Comparison, of: Callable[[Tensor, Tensor], float]) -> float:
    answer = answer_of(mutant, subject.question)
    return inf if answer is None else max(map(of, subject.given, answer.given))


def told_apart(
    candidates: list[Candidate], catalogue: Sequence[Mutant], others: Iterable[Comparison]
) -> list[Candidate]:
    """Where several mutants agree, they are asked about other problems, until one is left."""
    named = {mutant.name: mutant for mutant in catalogue}
    left = [c for c in candidates if c.agrees]
    rest = [c for c in candidates if not c.agrees]
    unread = iter(others)  # drawing them takes long
    while len(left) > 1 and (comparison := next(unread, None)):
        asked = [_asked_about(comparison, c, named[c.name]) for c in left]
        left = [c for c in asked if c.agrees]
        rest = [c for c in asked if not c.agrees] + rest
    return [*left, *rest]


def _asked_about(comparison: Comparison, candidate: Candidate, mutant: Mutant) -> Candidate:
    answer = answer_of(mutant, comparison.question)
    error = inf if answer is None else left_over(candidate, [answer], [comparison])
    return replace(candidate, error=max(candidate.error, error))
