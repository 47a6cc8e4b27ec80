"""Eigenvectors in another order, or with other signs: as right, and a mistake with them may differ.

What transposes Q, or pairs Lambda with the wrong ones, is another matrix for every order and all
signs that a library hands out. So mutants that depend on those are tried in all of them, block by
block, on layers small enough for that.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import permutations, product
from math import factorial, inf

from ekfac_ref.conformance.diagnosis.comparable import Question
from ekfac_ref.conformance.diagnosis.comparison import KEPT, Comparison, compared_with, relative
from ekfac_ref.conformance.mutants.eigenpairs import Turn, turned
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import CORRECT, Recipe
from ekfac_ref.conformance.truth.observation import Observations
from ekfac_ref.question.problem import Problem

# Ways to turn the eigenvectors of a layer: d! 2^(d-1) of each factor, for all signs of one at once
# change nothing that is quadratic in it.
MANY = 100
FEW = 3  # of these
PROBLEMS = 3
# Steps that eigenvectors go into; without a mistake in these, turned ones make no difference.
_WITH_EIGENVECTORS = (
    *("output_basis", "input_basis", "eigenvalues", "assemble"),
    *("product", "solution", "hand_over"),
)


def fitting_in_some_turn(
    catalogue: Sequence[Mutant], subject: Sequence[Comparison]
) -> list[Mutant]:
    """Mutants that depend on order or signs, and are the subject with some of these, everywhere."""
    small = [c for c in subject if c.is_odd and _ways(c) <= MANY and _two_sizes(c)]
    used = sorted(small, key=_ways)[-PROBLEMS:]
    if len(used) < PROBLEMS:
        return []
    return [
        m for m in catalogue if _depends(m, used[0].question) and all(_fits(m, c) for c in used)
    ]


@lru_cache(maxsize=KEPT)
def _answer(mutant: Mutant, question: Question, number: int) -> Comparison | None:
    """With eigenvectors in that one of the turns; looked up like ``answer_of``."""
    with turned(_turns(question)[number]):
        return compared_with(mutant, _having_looked(mutant, question).in_every_way, question)


@lru_cache(maxsize=1)  # all turns of one come after each other
def _having_looked(mutant: Mutant, question: Question) -> Mutant:
    """The mutant, who looks at the problem once for all turns: they come after that."""
    steps, found = getattr(mutant.ekfac, "__self__", None), list[Observations]()
    if not isinstance(steps, Recipe):
        return mutant

    def seen(_: Problem) -> Observations:
        if not found:
            found.append(copy.deepcopy(steps).observe(question.problem))
        return found[0]

    return replace(mutant, ekfac=replace(steps, observe=seen).ekfac)


def _fits(mutant: Mutant, subject: Comparison) -> bool:
    left = [inf] * len(subject.given)
    for number in range(len(_turns(subject.question))):
        answer = _answer(mutant, subject.question, number)
        if answer is None:
            return False
        errors = map(relative, subject.given, answer.given)
        left = [min(pair) for pair in zip(left, errors, strict=True)]
        if max(left) <= subject.question.precision.fits:
            return True
    return False


def _depends(mutant: Mutant, question: Question) -> bool:
    """Whether one of a few other orders and signs makes it another matrix."""
    if _is_right_in_any_basis(mutant):
        return False
    turns = len(_turns(question))
    numbers = range(0, turns, 1 + turns // FEW)
    first, *others = (_answer(mutant, question, number) for number in numbers)
    if first is None:
        return False
    fits = question.precision.fits
    return any(max(map(relative, first.given, other.given)) > fits for other in others if other)


def _is_right_in_any_basis(mutant: Mutant) -> bool:
    """Whether its mistake comes before eigenvectors, which it then uses as they are to be used.

    E is the same for every order and all signs of them, whatever it was measured from.
    """
    steps = getattr(mutant.ekfac, "__self__", None)
    if not isinstance(steps, Recipe) or mutant.kfac or mutant.exact_fisher:
        return False
    return all(getattr(steps, name) is getattr(CORRECT, name) for name in _WITH_EIGENVECTORS)


def _two_sizes(subject: Comparison) -> bool:
    """A turn is by the size of the factor, so the sides of a layer need two."""
    return all(d_out != d_in for d_out, d_in in subject.question.shapes)


def _ways(subject: Comparison) -> int:
    ways = 1
    for d in {d for shape in subject.question.shapes for d in shape}:
        ways *= factorial(d) * 2 ** (d - 1)
    return ways


def _turns(question: Question) -> list[dict[int, Turn]]:
    return _of_sizes(tuple(sorted({d for shape in question.shapes for d in shape if d > 1})))


@lru_cache(maxsize=64)
def _of_sizes(sizes: tuple[int, ...]) -> list[dict[int, Turn]]:
    each = [
        [(list(order), list(signs)) for order in permutations(range(d)) for signs in _signs(d)]
        for d in sizes
    ]
    return [dict(zip(sizes, turns, strict=True)) for turns in product(*each)]


def _signs(d: int) -> Iterator[tuple[float, ...]]:
    return ((1.0, *others) for others in product((1.0, -1.0), repeat=d - 1))
