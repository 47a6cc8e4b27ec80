"""The search: always the mutant that may still be nearest is asked about one more problem."""

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import inf

from torch import Tensor

from ekfac_ref.conformance.diagnosis.comparable import Precision
from ekfac_ref.conformance.diagnosis.comparison import (
    Comparison,
    differing,
    matrices,
    relative,
    sine,
)
from ekfac_ref.conformance.diagnosis.factor import Candidate, judged, left_over
from ekfac_ref.conformance.mutants.mutant import Mutant

FAR = 0.5  # nothing further off than this is near
LISTED = 3  # of those that are near, where nothing fits


def agrees(candidate: Candidate, precision: Precision) -> bool:
    """Whether the mutant's matrices, times its factor, equal the subject's up to rounding."""
    return candidate.error <= precision.fits


def nearest(
    catalogue: Sequence[Mutant],
    comparisons: list[Comparison],
    precision: Precision,
    right_up_to_a_factor: bool,
) -> list[Candidate]:
    """All that agree as they are; or else up to a factor; or else the nearest few within FAR.

    For a subject that is right up to a factor, only the first: any mutant that is off by a factor
    alone would do with another.
    """
    suspects = [_Suspect(mutant) for mutant in catalogue]
    exact = [c for c in _search(suspects, comparisons, precision, True) if c.complexity == (0, 0)]
    return exact if exact or right_up_to_a_factor else _search(suspects, comparisons, precision)


def _search(
    suspects: list["_Suspect"],
    comparisons: list[Comparison],
    precision: Precision,
    as_they_are: bool = False,
) -> list[Candidate]:
    distance, limit = (relative, precision.fits) if as_they_are else (sine, FAR)
    order = sorted(comparisons, key=lambda c: -(c.wrong if as_they_are else c.misshapen))
    queue: list[tuple[float, int, int, Candidate | None]] = [
        (0.0, i, 0, None) for i in range(len(suspects))
    ]
    found: list[Candidate] = []
    while queue and queue[0][0] <= limit:
        bound, i, asked, candidate = heapq.heappop(queue)
        if candidate is not None:
            found.append(candidate)
            if agrees(candidate, precision) or len(found) == LISTED:
                limit = precision.fits
        elif asked < len(order):
            # No monomial can bring the error under the bound.
            bound = max(bound, suspects[i].distance(order[asked], distance))
            heapq.heappush(queue, (bound, i, asked + 1, None))
        elif suspects[i].differs(order, precision):
            candidate = suspects[i].judged(order, precision)
            heapq.heappush(queue, (candidate.error, i, asked, candidate))
    return found


@dataclass(eq=False)
class _Suspect:
    """A mutant and its answers so far, None where it gave none."""

    mutant: Mutant
    answers: dict[Comparison, list[Tensor] | None] = field(default_factory=dict)

    def answer(self, comparison: Comparison) -> list[Tensor] | None:
        if comparison not in self.answers:
            self.answers[comparison] = matrices(self.mutant.subject.ekfac, comparison.question)
        return self.answers[comparison]

    def distance(
        self, comparison: Comparison, distance: Callable[[Tensor, Tensor], float]
    ) -> float:
        answer = self.answer(comparison)
        return inf if answer is None else max(map(distance, comparison.given, answer))

    def differs(self, comparisons: list[Comparison], precision: Precision) -> int:
        answers = [self.answers[c] or [] for c in comparisons]
        return differing(answers, [c.question for c in comparisons], precision)

    def judged(self, comparisons: list[Comparison], precision: Precision) -> Candidate:
        answers = [self.answers[c] or [] for c in comparisons]
        return judged(self.mutant.name, answers, comparisons, precision)


def told_apart(
    candidates: list[Candidate],
    catalogue: Sequence[Mutant],
    others: Iterable[Comparison],
    precision: Precision,
) -> list[Candidate]:
    """Where several mutants agree, they are asked about other problems, until one is left."""
    named = {mutant.name: mutant for mutant in catalogue}
    left = [c for c in candidates if agrees(c, precision)]
    rest = [c for c in candidates if c not in left]
    unread = iter(others)  # drawing them takes long
    while len(left) > 1 and (comparison := next(unread, None)):
        asked = [_asked_about(comparison, c, named[c.name]) for c in left]
        left = [c for c in asked if agrees(c, precision)]
        rest = [c for c in asked if c not in left] + rest
    return [*left, *rest]


def _asked_about(comparison: Comparison, candidate: Candidate, mutant: Mutant) -> Candidate:
    answer = matrices(mutant.subject.ekfac, comparison.question)
    error = inf if answer is None else left_over(candidate, [answer], [comparison])
    return replace(candidate, error=max(candidate.error, error))
