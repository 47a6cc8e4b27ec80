"""Which problems to compare on: informative, varied, and mostly such that show the mistake.

Mistakes that show on few problems need many to be drawn, and those that show on all do not: more
are drawn while the subject looks right. At least twelve of those that are compared have several
positions, where the subject can be asked about positions.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from math import fsum

from ekfac_ref.conformance.diagnosis.comparable import (
    Precision,
    Question,
    ask_about,
    number_of_outputs,
    number_of_samples,
)
from ekfac_ref.conformance.diagnosis.comparison import Comparison, differing, matrices
from ekfac_ref.conformance.problems.abilities import Abilities
from ekfac_ref.conformance.problems.draw import families_for, of_one_family
from ekfac_ref.conformance.subjects.definition import Definition
from ekfac_ref.conformance.subjects.subject import Subject
from ekfac_ref.question.problem import Problem

# Problems of each family of networks, drawn at once, and more while the mistake does not show.
DRAWS = (12, 12, 24, 60)
USED, ODD = 16, 12  # problems to compare on; at most so many of them that tell shapes apart
INFORMATIVE = 12  # at least so many of them with T > 1, if the subject can be asked about those
NEEDED = 3  # problems on which a subject must differ from the definition to be looked into


def comparisons_by_draw(
    subject: Subject, precision: Precision, seed: int
) -> Iterator[list[Comparison]]:
    """What the subject says of one draw after another."""
    for more, count in enumerate(DRAWS):
        yield list(compared(subject, precision, count, seed + more))


def enough(
    draws: Iterator[list[Comparison]], precision: Precision, positions: bool
) -> list[Comparison]:
    """As many draws as it takes for the mistake to show, on problems with positions or without."""
    found: list[Comparison] = []
    for draw in draws:
        found += draw
        informative = [c for c in found if c.question.has_positions or not positions]
        if len(informative) >= INFORMATIVE and _tell(found, precision):
            break
    return found


def chosen(found: list[Comparison], precision: Precision) -> list[Comparison]:
    """Problems in variety: most of those on which the subject is wrong, some on which it is not."""
    odd = [c for c in found if c.misshapen > precision.differs]
    even = [c for c in found if c.misshapen <= precision.differs]
    some = _varied(odd, ODD if even else USED, [])
    missing = INFORMATIVE - sum(c.question.has_positions for c in some)
    pool = [c for c in found if c.question.has_positions and c not in some]
    some = _varied(pool, len(some) + max(0, missing), some)
    return _varied([c for c in even if c not in some], USED, some)


def _tell(found: list[Comparison], precision: Precision) -> bool:
    """Whether a mistake shows well enough: in the shape of some matrices or the size of all."""
    shows = sum(c.misshapen > precision.differs for c in found) >= NEEDED
    return shows or differing_answers(found, precision) == len(found)


def differing_answers(found: list[Comparison], precision: Precision) -> int:
    """On how many problems the subject is wrong."""
    return differing([c.given for c in found], [c.question for c in found], precision)


def compared(subject: Subject, precision: Precision, count: int, seed: int) -> Iterable[Comparison]:
    """The questions of a draw on which the subject gives an answer."""
    abilities = replace(subject.abilities, dtypes=(precision.dtype,))
    for question in _questions(abilities, subject.definition, precision, count, seed):
        given = matrices(subject.ekfac, question)
        if given is not None:
            yield Comparison(question, given)


@lru_cache(maxsize=8)  # they take longer than most subjects' answers
def _questions(
    abilities: Abilities,
    definition: Definition,
    precision: Precision,
    count: int,
    seed: int,
) -> tuple[Question, ...]:
    """Of so many problems of each family those worth comparing."""
    problems = [
        problem
        for family in families_for(abilities)
        for problem in of_one_family(abilities, family, count, seed)
    ]
    questions = [
        ask_about(problem, precision, definition) for problem in problems if _informative(problem)
    ]
    return tuple(q for q in questions if any(d_out != d_in for d_out, d_in in q.shapes))


def _informative(problem: Problem) -> bool:
    """Several samples, several outputs: their numbers leave traces."""
    return number_of_samples(problem) >= 3 and number_of_outputs(problem) >= 2


def _varied(pool: list[Comparison], count: int, some: list[Comparison]) -> list[Comparison]:
    """Add up to ``count`` in all, each time the problem with most that has been rare so far."""
    some, pool = [*some], [*pool]
    times = Counter(x for c in some for x in c.question.features)
    while pool and len(some) < count:
        best = max(pool, key=lambda c: _novelty(c, times))
        pool.remove(best)
        some.append(best)
        times.update(best.question.features)
    return some


def _novelty(comparison: Comparison, times: Counter[object]) -> float:
    question = comparison.question
    return 3 * question.has_positions + fsum(1 / (1 + times[x]) for x in question.features)
