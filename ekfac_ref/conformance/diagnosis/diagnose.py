"""Which mistake is it? A subject's matrices against those of every mutant, on the same problems.

``selection`` says on which problems, ``comparable`` what is right on one, ``comparison`` how far an
answer is off, ``factor`` up to what scalar, and ``search`` in which order mutants are asked. What
looks like none of them may be a convention that is not declared (``undeclared``), or an argument
that is not read (``arguments``); and of what is none of these, ``parts`` says which part is wrong.
Here is the answer in one sentence.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from statistics import median
from typing import Any

import torch

from ekfac_ref.conformance.diagnosis.arguments import unused
from ekfac_ref.conformance.diagnosis.comparable import PRECISIONS, Precision
from ekfac_ref.conformance.diagnosis.comparison import Comparison
from ekfac_ref.conformance.diagnosis.factor import NO_MISTAKE, Candidate, judged
from ekfac_ref.conformance.diagnosis.parts import wrong_part
from ekfac_ref.conformance.diagnosis.quantity import OF_EKFAC, Quantity, compared_of
from ekfac_ref.conformance.diagnosis.search import FAR, nearest, told_apart
from ekfac_ref.conformance.diagnosis.selection import NEEDED, chosen, draws, enough, on_problems
from ekfac_ref.conformance.diagnosis.training import diagnosed_training
from ekfac_ref.conformance.diagnosis.turns import fitting_in_some_turn
from ekfac_ref.conformance.diagnosis.undeclared import undeclared
from ekfac_ref.conformance.mutants import MUTANTS
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.problems.draw import mixtures
from ekfac_ref.conformance.subjects.subject import Subject, as_subject
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.question.problem import Problem

_TOO_COARSE = (
    "Nothing is compared: in bfloat16 too many mistakes look alike. If it can do float32 or "
    "float64, let its abilities say so, and the mistake may get a name."
)

_SINGLE_ROUNDING = 100 * torch.finfo(torch.float32).eps
_SINGLE = (
    "It is right to {:.0e} mostly, as arithmetic in float32 is, and the problems are in float64: "
    "compute in the dtype of the problem, and answer in it."
)
_ELSEWHERE = "Where a law is broken, the mistake is in what that law names."
_ITS_STEPS = f"Its steps agree with the rules that it declares. {_ELSEWHERE}"
_RIGHT_THERE = (
    "No name: on the problems that show the mistake, nothing that differs can be compared with "
    f"known ones. {_ELSEWHERE}"
)
_NOTHING = "Nothing can be compared: no problem has a single right answer here."


@dataclass(frozen=True)
class Diagnosis:
    """What the mistake may be.

    Attributes:
        candidates: those that agree, the simplest first, then the nearest others.
        sentence: what they say, in English.
        named: the mistake in a word or two, the same for the same one; "" where nothing fits.
    """

    candidates: list[Candidate]
    sentence: str
    named: str = ""


_ALL = tuple(MUTANTS.values())


def diagnose(
    thing: Any,
    catalogue: Sequence[Mutant] = _ALL,
    seed: int = 0,
    problems: Sequence[Problem] = (),
    elsewhere: bool = True,
) -> Diagnosis:
    """Name the mistake in a subject's matrices, inverses or products, if it is a known one.

    What a subject has of these is compared in that order, until something is wrong.

    Args:
        thing: a function from a problem to {layer: operator}, an object with a method ``ekfac``,
            or another of ``WAYS``, or a Subject.
        catalogue: mutants to compare it with, by default all of ``MUTANTS``.
        seed: of the problems on which it is compared.
        problems: to compare it on in place of those that are drawn: some that show one mistake.
        elsewhere: whether it can be asked about other problems, too; not where answers are files.
    """
    subject = as_subject(thing, "subject")
    found = _of_all(subject, catalogue, seed, problems, elsewhere)
    if not subject.definition.has_other_matrices:
        return found
    where = f"Only layers on which {subject.definition} makes no difference were compared."
    return replace(found, sentence=f"{found.sentence} {where}")


def _of_all(
    subject: Subject,
    catalogue: Sequence[Mutant],
    seed: int,
    problems: Sequence[Problem],
    elsewhere: bool,
) -> Diagnosis:
    dtypes = [problem.dtype for problem in problems] or subject.abilities.dtypes
    precision = next((p for p in PRECISIONS if p.dtype in dtypes), None)
    if precision is None:
        return Diagnosis([], _TOO_COARSE)
    right = []
    solving = _solving(subject, seed) if elsewhere else []
    for quantity in compared_of(subject, solving):
        how = precision.inverse if quantity.inverted else precision
        found = _found(subject, catalogue, seed, how, quantity, problems, elsewhere)
        if found is None:
            continue
        if found.sentence:
            if quantity is OF_EKFAC:
                return found
            says = found.sentence[0].lower() + found.sentence[1:]
            return replace(found, sentence=f"Its {quantity.name}: {says}")
        if quantity.inverted is None or quantity.way == "precondition":
            right.append((quantity.name, found))
    said = ""
    if subject.optimizer is not None:
        said = diagnosed_training(subject, catalogue, seed, problems)
    if not right or said:
        return Diagnosis([], said or (_ITS_STEPS if subject.optimizer else _NOTHING))
    if problems:
        return replace(right[0][1], sentence=_RIGHT_THERE)
    names = [name for name, _ in right]
    agree = "agrees" if len(names) == 1 else "agree"
    sentence = f"Its {' and '.join(names)} {agree} with the definition. {_ELSEWHERE}"
    return replace(right[0][1], sentence=sentence)


def _solving(subject: Subject, seed: int) -> list[str]:
    """Which of its operators have a solve, by the first few problems that it answers."""
    for problem in mixtures(subject.abilities, 6, seed) if subject.operators else []:
        try:
            cases = Trial(subject, problem, watch=False).cases
        except Exception:  # whatever it was, another problem may do
            continue
        return [one.way for one in cases[0].operators if one.own.solves]
    return []


def _found(
    subject: Subject,
    catalogue: Sequence[Mutant],
    seed: int,
    precision: Precision,
    quantity: Quantity,
    problems: Sequence[Problem],
    elsewhere: bool,
) -> Diagnosis | None:
    """Of one quantity; with an empty sentence where it agrees, None where nothing is comparable."""
    drawn = iter(()) if problems else draws(subject, precision, seed, quantity)
    found = on_problems(subject, precision, problems, quantity) if problems else enough(drawn)
    used = chosen(found)
    if not used:
        return None
    definition = [Comparison(c.question, c.question.correct) for c in used]
    right = judged(NO_MISTAKE, definition, used)
    if right.agrees and right.complexity == (0, 0):
        return Diagnosis([right], "")
    near = nearest(catalogue, used, right.agrees)
    others = chain((c for c in found if c not in used), chain.from_iterable(drawn))
    near = told_apart(near, catalogue, others)
    candidates = sorted([right, *near], key=_rank)
    typical = median(c.wrong for c in used)
    if not candidates[0].agrees and precision.fits < typical <= _SINGLE_ROUNDING:
        return Diagnosis([right], _SINGLE.format(typical))
    wrong = [c for c in used if c.is_wrong]
    if not candidates[0].agrees and len(wrong) < NEEDED:
        rare = f"It differs from the definition on {len(wrong)} of {len(used)} problems, too few"
        return Diagnosis(
            [right], f"{rare} to tell which mistake it is. {wrong_part(subject, wrong)}".strip()
        )
    mistakes = {mutant.name: mutant.mistake for mutant in catalogue}
    if convention := undeclared(used):
        why = f"{_sentence(candidates, mistakes, len(used))} " if candidates[0].agrees else ""
        sentence = f"{why}It is right once {convention} is declared."
        return Diagnosis(candidates, sentence, str(convention))
    if not candidates[0].agrees and (turned := fitting_in_some_turn(catalogue, found)):
        return _turned(turned, precision)
    sentence = _sentence(candidates, mistakes, len(used))
    if candidates[0].agrees:
        return Diagnosis(candidates, sentence, f"{candidates[0].name}{_times(candidates[0])}")
    part = wrong_part(subject, used)
    if elsewhere and (said := unused(subject, precision, seed, quantity)):
        return Diagnosis([right], " ".join([*said, part]).strip(), " ".join(said))
    there = nearest(catalogue, wrong, right_up_to_a_factor=True)
    if there and len(wrong) < len(used):
        says = _sentence(there, mistakes, len(wrong))
        some = f"It differs on {len(wrong)} of {len(used)} problems, and on these i"
        return Diagnosis(there, f"{some}{says[1:]}", ", ".join(c.name for c in there))
    return Diagnosis(candidates, f"{sentence} {part}".strip())


def _turned(mutants: list[Mutant], precision: Precision) -> Diagnosis:
    looks = ", or, which is the same here, ".join(mutant.mistake for mutant in mutants)
    none = (0.0, 0.0, 0.0)
    return Diagnosis(
        [Candidate(mutant.name, 1.0, none, precision.fits, precision) for mutant in mutants],
        f"It looks as if the implementation {looks}, with eigenvectors in an order and with signs "
        "of its own.",
        ", ".join(mutant.name for mutant in mutants),
    )


def _rank(candidate: Candidate) -> tuple[bool, list[float], bool]:
    """Agreement is rounding and ranks nobody; the error of the others does."""
    order = [*map(float, candidate.complexity)] if candidate.agrees else [candidate.error]
    return not candidate.agrees, order, candidate.name != NO_MISTAKE


def _sentence(candidates: list[Candidate], mistakes: dict[str, str], problems: int) -> str:
    agreeing = [c for c in candidates if c.agrees]
    if not agreeing:
        return _nothing_fits(candidates[0], mistakes)
    worst = max(c.error for c in agreeing)
    but = max(c.exceptions for c in agreeing)
    of = f"{problems - but} of {problems}" if but else f"{problems}"
    on = f"agreement {f'{worst:.0e}' if worst else '0'} on {of} problems"
    right = next((c for c in agreeing if c.name == NO_MISTAKE), None)
    if right is None:
        named = [mistakes[c.name] + _times(c) for c in agreeing]
        looks = ", or, which is the same here, ".join(named)
        return f"It looks as if the implementation {looks}: {on}."
    exact = [mistakes[c.name] for c in agreeing if c.name != NO_MISTAKE]
    why = ", or, which is the same here, ".join(exact)
    because = f" It looks as if the implementation {why}: {on}." if why else ""
    return f"It is right up to a factor: times {right.factor}.{because}"


def _nothing_fits(nearest: Candidate, mistakes: dict[str, str]) -> str:
    if not nearest.error <= FAR:
        return f"Nothing in the catalogue fits: nothing is nearer than {FAR:.0%}."
    who = (
        "the definition itself"
        if nearest.name == NO_MISTAKE
        else f"an implementation that {mistakes[nearest.name]}"
    )
    off = f"{nearest.error:.0%}" if nearest.error >= 0.01 else f"{nearest.error:.0e}"
    times = "" if _only_noise(nearest) else _times(nearest)
    return f"Nothing in the catalogue fits: the nearest is {who}{times}, {off} off."


def _only_noise(candidate: Candidate) -> bool:
    return not any(candidate.exponents) and abs(candidate.constant - 1) <= candidate.error


def _times(candidate: Candidate) -> str:
    return "" if candidate.complexity == (0, 0) else f", times {candidate.factor}"
