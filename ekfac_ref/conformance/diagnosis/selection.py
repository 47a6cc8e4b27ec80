"""Which problems to compare on: informative, varied, and mostly such that show the mistake.

Mistakes that show on few problems need many to be drawn, and those that show on all do not: more
are drawn while the subject looks right. At least twelve of those that are compared have several
positions, where the subject answers any that has.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from math import fsum, inf

from ekfac_ref.conformance.diagnosis.comparable import (
    Precision,
    Question,
    question_about,
    samples_and_outputs,
)
from ekfac_ref.conformance.diagnosis.comparison import Comparison, compared
from ekfac_ref.conformance.diagnosis.quantity import OF_EKFAC, Quantity
from ekfac_ref.conformance.problems.abilities import Abilities
from ekfac_ref.conformance.problems.draw import families_for, of_one_family
from ekfac_ref.conformance.problems.families.catalogue import Family
from ekfac_ref.conformance.subjects.definition import Definition
from ekfac_ref.conformance.subjects.subject import Subject
from ekfac_ref.question.problem import Problem

# Problems of each family of networks, drawn at once, and more while the mistake does not show.
DRAWS = (12, 12, 24, 60)
WRITTEN_OUT_DRAWS = (9, 9)  # where every problem takes as many questions as a layer has parameters
USED = 16  # problems to compare on: a mutant may have to answer all of them
ODD = 12  # at most so many of them have matrices of another shape than the definition's
INFORMATIVE = 12  # at least so many of them have T > 1, if it answers any that has
NEEDED = 3  # on fewer problems that differ from the definition, too many mistakes look alike


def draws(
    subject: Subject, precision: Precision, seed: int, quantity: Quantity = OF_EKFAC
) -> Iterator[list[Comparison]]:
    """The subject's answers, one draw after another, from families that it has answered so far."""
    families = families_for(subject.abilities)
    for more, count in enumerate(DRAWS if quantity.largest == inf else WRITTEN_OUT_DRAWS):
        found = {
            family: _of_a_family(subject, precision, family, count, seed + more, quantity)
            for family in families
        }
        families = tuple(family for family in families if found[family])
        yield [c for family in found for c in found[family]]


def comparisons(
    subject: Subject, precision: Precision, count: int, seed: int, quantity: Quantity
) -> list[Comparison]:
    """The subject's answers on one draw, ``count`` problems of each family, where it gives any."""
    return [
        c
        for family in families_for(subject.abilities)
        for c in _of_a_family(subject, precision, family, count, seed, quantity)
    ]


def _of_a_family(
    subject: Subject,
    precision: Precision,
    family: Family,
    count: int,
    seed: int,
    quantity: Quantity,
) -> list[Comparison]:
    abilities = replace(subject.abilities, dtypes=(precision.dtype,))
    questions = _questions(abilities, family, subject.definition, precision, count, seed, quantity)
    answers = [compared(subject, question) for question in questions]
    return [answer for answer in answers if answer is not None]


def on_problems(
    subject: Subject, precision: Precision, problems: Sequence[Problem], quantity: Quantity
) -> list[Comparison]:
    """The subject's answers to these problems, where it gives any that can be compared."""
    questions = [
        question_about(problem, precision, subject.definition, quantity)
        for problem in problems
        if problem.dtype is precision.dtype
    ]
    answers = [compared(subject, question) for question in questions if question.rows]
    return [answer for answer in answers if answer is not None]


def enough(drawn: Iterator[list[Comparison]]) -> list[Comparison]:
    """As many draws as it takes for the mistake to show, on problems with positions if it answers
    any of these.
    """
    found: list[Comparison] = []
    for draw in drawn:
        found += draw
        informative = [c for c in found if c.question.has_positions] or found
        if len(informative) >= INFORMATIVE and _shows(found):
            break
    return found


def chosen(found: list[Comparison]) -> list[Comparison]:
    """Problems in variety: most of those on which the subject is wrong, some on which it is not."""
    odd = [c for c in found if c.is_odd]
    even = [c for c in found if not c.is_odd]
    some = _varied(odd, ODD if even else USED, [])
    missing = INFORMATIVE - sum(c.question.has_positions for c in some)
    pool = [c for c in found if c.question.has_positions and c not in some]
    some = _varied(pool, len(some) + max(0, missing), some)
    return _varied([c for c in even if c not in some], USED, some)


def _shows(found: list[Comparison]) -> bool:
    """Whether a mistake shows well enough: in the shape of some matrices or the size of all."""
    return sum(c.is_odd for c in found) >= NEEDED or all(c.is_wrong for c in found)


@lru_cache(maxsize=64)  # they take longer than most subjects' answers
def _questions(
    abilities: Abilities,
    family: Family,
    definition: Definition,
    precision: Precision,
    count: int,
    seed: int,
    quantity: Quantity,
) -> tuple[Question, ...]:
    """Those worth comparing on: one of the matrices cannot be transposed in silence."""
    problems = of_one_family(abilities, family, count, seed)
    questions = [
        question_about(problem, precision, definition, quantity)
        for problem in problems
        if _informative(problem)
    ]
    return tuple(
        question
        for question in questions
        if any(d_out != d_in for d_out, d_in in question.shapes)
        and question.parameters <= quantity.largest
    )


def _informative(problem: Problem) -> bool:
    """Several samples, several outputs: their numbers leave traces."""
    N, K = samples_and_outputs(problem)
    return N >= 3 and K >= 2


def _varied(pool: list[Comparison], count: int, some: list[Comparison]) -> list[Comparison]:
    """Add up to ``count`` in all, each time the problem with most that has been rare so far."""
    some, pool = [*some], [*pool]
    times = Counter(x for c in some for x in c.question.features)
    while pool and len(some) < count:
        best = max(pool, key=lambda c: _novelty(c.question, times))
        pool.remove(best)
        some.append(best)
        times.update(best.question.features)
    return some


def _novelty(question: Question, times: Counter[object]) -> float:
    """Several positions count as much as three features that no problem has had yet."""
    return 3 * question.has_positions + fsum(1 / (1 + times[x]) for x in question.features)
