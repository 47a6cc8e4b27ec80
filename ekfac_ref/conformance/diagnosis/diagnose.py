"""Which mistake is it? A subject's matrices against those of every mutant, on the same problems.

Which problems is the matter of ``evidence``, what is right on one of ``question``, what others
answer of ``compared``, up to what factor of ``monomial``, and in which order mutants are asked of
``suspects``. Here is the answer in one sentence.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from ekfac_ref.conformance.diagnosis.comparable import PRECISIONS, Precision
from ekfac_ref.conformance.diagnosis.comparison import Comparison
from ekfac_ref.conformance.diagnosis.factor import Candidate, judged
from ekfac_ref.conformance.diagnosis.search import FAR, agrees, nearest, told_apart
from ekfac_ref.conformance.diagnosis.selection import (
    NEEDED,
    chosen,
    comparisons_by_draw,
    differing_answers,
    enough,
)
from ekfac_ref.conformance.mutants import MUTANTS
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.subjects.definition import Definition
from ekfac_ref.conformance.subjects.subject import Subject, as_subject

__all__ = ["CORRECT", "Candidate", "Diagnosis", "diagnose"]

CORRECT = "correct"
_TOO_COARSE = (
    "Nothing is compared: in bfloat16 too many mistakes look alike. If it can do float32 or "
    "float64, let its abilities say so, and the mistake may get a name."
)


@dataclass(frozen=True)
class Diagnosis:
    """What the mistake may be.

    Attributes:
        candidates: those that agree, the simplest first, then the nearest others.
        sentence: the same in English.
    """

    candidates: list[Candidate]
    sentence: str


_ALL = tuple(MUTANTS.values())


def diagnose(thing: Any, catalogue: Sequence[Mutant] = _ALL, seed: int = 0) -> Diagnosis:
    """Name the mistake of a function, an object or a Subject, if it is one of the catalogue's."""
    subject = as_subject(thing, "subject")
    found = _found(subject, catalogue, seed)
    if subject.definition == Definition():
        return found
    where = f"Only layers on which {subject.definition} makes no difference were compared."
    return replace(found, sentence=f"{found.sentence} {where}")


def _found(subject: Subject, catalogue: Sequence[Mutant], seed: int) -> Diagnosis:
    precision = next((p for p in PRECISIONS if p.dtype in subject.abilities.dtypes), None)
    if precision is None:
        return Diagnosis([], _TOO_COARSE)
    draws = comparisons_by_draw(subject, precision, seed)
    found = enough(draws, precision, subject.abilities.positions)
    used = chosen(found, precision)
    if not used:
        return Diagnosis([], "Nothing can be compared: no problem has a single right answer here.")
    right = judged(CORRECT, [c.question.correct for c in used], used, precision)
    if agrees(right, precision) and right.complexity == (0, 0):
        return Diagnosis([right], "Its EKFAC agrees with the definition.")
    near = nearest(catalogue, used, precision, agrees(right, precision))
    others = chain((c for c in found if c not in used), chain.from_iterable(draws))
    near = told_apart(near, catalogue, others, precision)
    candidates = sorted([right, *near], key=lambda c: _rank(c, precision))
    if not agrees(candidates[0], precision) and differing_answers(used, precision) < NEEDED:
        return Diagnosis([right], _too_rare(used, precision))
    mistakes = {mutant.name: mutant.mistake for mutant in catalogue}
    return Diagnosis(candidates, _sentence(candidates, mistakes, len(used), precision))


def _rank(candidate: Candidate, precision: Precision) -> tuple[bool, list[float], bool]:
    """Agreement is rounding and ranks nobody; the error of the others does."""
    agreed = agrees(candidate, precision)
    order = [*map(float, candidate.complexity)] if agreed else [candidate.error]
    return not agreed, order, candidate.name != CORRECT


def _too_rare(used: list[Comparison], precision: Precision) -> str:
    return (
        f"It differs from the definition on {differing_answers(used, precision)} of {len(used)} "
        "problems, too few to tell which mistake it is."
    )


def _sentence(
    candidates: list[Candidate], mistakes: dict[str, str], problems: int, precision: Precision
) -> str:
    agreeing = [c for c in candidates if agrees(c, precision)]
    if not agreeing:
        return _nothing_fits(candidates[0], mistakes)
    worst = max(c.error for c in agreeing)
    on = f"agreement {f'{worst:.0e}' if worst else '0'} on {problems} problems"
    right = next((c for c in agreeing if c.name == CORRECT), None)
    if right is None:
        named = [mistakes[c.name] + _times(c) for c in agreeing]
        looks = ", or, which is the same here, ".join(named)
        return f"It looks as if the implementation {looks}: {on}."
    exact = [mistakes[c.name] for c in agreeing if c.name != CORRECT]
    why = ", or, which is the same here, ".join(exact)
    because = f" It looks as if the implementation {why}: {on}." if why else ""
    return f"It is right up to a factor: times {right.factor}.{because}"


def _nothing_fits(nearest: Candidate, mistakes: dict[str, str]) -> str:
    if not nearest.error <= FAR:
        return f"Nothing in the catalogue fits: nothing is nearer than {FAR:.0%}."
    who = (
        "the definition itself"
        if nearest.name == CORRECT
        else f"an implementation that {mistakes[nearest.name]}"
    )
    off = f"{nearest.error:.0%}" if nearest.error >= 0.01 else f"{nearest.error:.0e}"
    times = "" if _only_noise(nearest) else _times(nearest)
    return f"Nothing in the catalogue fits: the nearest is {who}{times}, {off} off."


def _only_noise(candidate: Candidate) -> bool:
    return not any(candidate.exponents) and abs(candidate.constant - 1) <= candidate.error


def _times(candidate: Candidate) -> str:
    return "" if candidate.complexity == (0, 0) else f", times {candidate.factor}"
