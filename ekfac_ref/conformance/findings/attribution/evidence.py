"""Problems with a fault and without, and how sure what separates them is to be no coincidence."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from operator import or_

from ekfac_ref.conformance.findings.attribution.chance import holding_all, of_faulty_alone
from ekfac_ref.conformance.findings.attribution.conjunction import Attributed, Conjunction
from ekfac_ref.conformance.findings.attribution.literals import Literal, literals_of

COINCIDENCES = 0.2
_OF_A_PAIR = 0.02  # coincidences, for either feature of one of several pairs, which are many
UNLIKELY = 1e-3  # coincidences, where most problems with the cause are without the fault

Literals = tuple[Literal, ...]


@dataclass(frozen=True)
class Attribution:
    """What separates.

    Attributes:
        causes: conjunctions, together on every faulty problem but ``unexplained``.
        faulty: how many problems are.
        asked: of so many.
        unexplained: how many of the faulty no cause holds on.
    """

    causes: tuple[Attributed, ...]
    faulty: int
    asked: int
    unexplained: int = 0


class Evidence:
    """Who has which feature and who is faulty, a set of problems being the bits of a number.

    Args:
        problems: the features of each.
        faulty: positions in ``problems``.

    Attributes:
        all, bad, good: the problems; the faulty ones; the others.
        literals: every feature, present or absent, and the problems on which that holds.
        short: {conjunction of one or two: the problems that it holds on}.
    """

    def __init__(self, problems: Sequence[Collection[str]], faulty: Collection[int]) -> None:
        self.all = (1 << len(problems)) - 1
        self.bad = sum(1 << i for i in set(faulty))
        self.good = self.all & ~self.bad
        self.literals = literals_of(problems, self.all)
        pairs = [*combinations(self.literals, 1), *combinations(self.literals, 2)]
        self.short = {one: self.mask(one) for one in pairs}

    def mask(self, one: Literals) -> int:
        """The problems that all of its features are true of."""
        mask = self.all
        for literal in one:
            mask &= literal.mask
        return mask

    def any_of(self, several: Iterable[Literals]) -> int:
        """The problems that one of them holds on."""
        return reduce(or_, map(self.mask, several), 0)

    def is_half(self, one: Literals) -> bool:
        """Whether at least every other problem that it holds on is faulty."""
        mask = self.mask(one)
        return 2 * (mask & self.bad).bit_count() >= mask.bit_count()

    def attribution(self, cover: Sequence[Literals]) -> Attribution:
        """What several conjunctions together say of the fault, the largest first."""
        causes = [self.attributed(one) for one in cover]
        unexplained = (self.bad & ~self.any_of(cover)).bit_count()
        causes.sort(key=lambda cause: -cause.faulty)
        return Attribution(tuple(causes), self.bad.bit_count(), self.all.bit_count(), unexplained)

    def attributed(self, one: Literals) -> Attributed:
        """What one of them does, and whether it is sure to be no coincidence."""
        mask = self.mask(one)
        faulty = mask & self.bad
        # Faulty problems of another cause say nothing about this one.
        sure = self.is_sure(one, self.good | faulty)
        sure &= self.is_half(one) or self._is_unlikely(mask.bit_count())
        if len(one) > 1 and faulty != self.bad:
            singles = [literal.mask for literal in self.literals]
            rests = self._rests(one)
            sure &= all(self.coincidences(one, rest, singles) <= _OF_A_PAIR for rest in rests)
        also = one[0].also if len(one) == 1 else ()
        return Attributed(
            _conjunction(one),
            faulty.bit_count(),
            mask.bit_count(),
            self.good.bit_count(),
            sure,
            also,
            faulty == self.bad,
        )

    def is_sure(self, one: Literals, among: int) -> bool:
        """Whether none of its features is likely to be a coincidence."""
        mask = self.mask(one) & among
        m, b = mask.bit_count(), (mask & self.bad).bit_count()
        for rest in (rest & among for rest in self._rests(one)):
            sizes = [(rest & other.mask).bit_count() for other in self.literals]
            if holding_all(sizes, m, b, rest.bit_count()) > COINCIDENCES:
                return False
        return True

    def _is_unlikely(self, m: int) -> bool:
        """Whether hardly any feature or pair on m problems at most would have all faulty ones."""
        sizes = [mask.bit_count() for mask in self.short.values()]
        return holding_all(sizes, m, self.bad.bit_count(), self.all.bit_count()) <= UNLIKELY

    def coincidences(self, one: Literals, among: int, looked: Iterable[int]) -> float:
        """How many of the masks that were looked at would have as many of these problems as it has,
        faulty ones only, by chance.
        """
        sizes = ((mask & among).bit_count() for mask in looked)
        m, F = (self.mask(one) & among).bit_count(), (among & self.bad).bit_count()
        return of_faulty_alone(sizes, m, F, among.bit_count())

    def _rests(self, one: Literals) -> list[int]:
        """The problems without one of its features, in turn."""
        return [self.mask(tuple(o for o in one if o is not literal)) for literal in one]


def _conjunction(one: Literals) -> Conjunction:
    present = tuple(literal.name for literal in one if literal.is_present)
    return Conjunction(present, tuple(x.name for x in one if not x.is_present))
