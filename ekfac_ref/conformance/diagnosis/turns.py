"""Eigenvectors in another order, or with other signs: as right, and a mistake with them may differ.

What transposes Q, or pairs Lambda with the wrong ones, is another matrix for every order and all
signs that a library hands out. So mutants that depend on those are tried in all of them, block by
block, on layers small enough for that.
"""

from collections.abc import Iterator, Sequence
from itertools import permutations, product
from math import factorial, inf

from ekfac_ref.conformance.diagnosis.comparison import Comparison, compared, relative
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import Turn, turned

# Ways to turn the eigenvectors of a layer: d! 2^(d-1) of each factor, for all signs of one at once
# change nothing that is quadratic in it.
MANY = 100
FEW = 3  # of these
PROBLEMS = 3


def fitting_in_some_turn(
    catalogue: Sequence[Mutant], subject: Sequence[Comparison]
) -> list[Mutant]:
    """Mutants that depend on order or signs, and are the subject with some of these, everywhere."""
    small = [c for c in subject if c.is_odd and _ways(c) <= MANY and _two_sizes(c)]
    used = sorted(small, key=_ways)[-PROBLEMS:]
    if len(used) < PROBLEMS:
        return []
    return [m for m in catalogue if _depends(m, used[0]) and all(_fits(m, c) for c in used)]


def _fits(mutant: Mutant, subject: Comparison) -> bool:
    left = [inf] * len(subject.given)
    for turn in _turns(subject):
        answer = _answer(mutant, subject, turn)
        if answer is None:
            return False
        errors = map(relative, subject.given, answer.given)
        left = [min(pair) for pair in zip(left, errors, strict=True)]
        if max(left) <= subject.question.precision.fits:
            return True
    return False


def _depends(mutant: Mutant, subject: Comparison) -> bool:
    """Whether one of a few other orders and signs makes it another matrix."""
    turns = list(_turns(subject))
    answers = [_answer(mutant, subject, turn) for turn in turns[:: 1 + len(turns) // FEW]]
    first = answers[0]
    if first is None:
        return False
    fits = subject.question.precision.fits
    return any(
        max(map(relative, first.given, other.given)) > fits for other in answers[1:] if other
    )


def _answer(mutant: Mutant, subject: Comparison, turn: dict[int, Turn]) -> Comparison | None:
    with turned(turn):
        return compared(mutant.in_every_way, subject.question)


def _sizes(subject: Comparison) -> set[int]:
    return {d for shape in subject.question.shapes for d in shape if d > 1}


def _two_sizes(subject: Comparison) -> bool:
    """A turn is by the size of the factor, so the sides of a layer need two."""
    return all(d_out != d_in for d_out, d_in in subject.question.shapes)


def _ways(subject: Comparison) -> int:
    ways = 1
    for d in _sizes(subject):
        ways *= factorial(d) * 2 ** (d - 1)
    return ways


def _turns(subject: Comparison) -> Iterator[dict[int, Turn]]:
    sizes = sorted(_sizes(subject))
    each = [
        [(list(order), list(signs)) for order in permutations(range(d)) for signs in _signs(d)]
        for d in sizes
    ]
    for turns in product(*each):
        yield dict(zip(sizes, turns, strict=True))


def _signs(d: int) -> Iterator[tuple[float, ...]]:
    return ((1.0, *others) for others in product((1.0, -1.0), repeat=d - 1))
