r"""Which features separate the problems with a fault from those without? As few as it takes.

A conjunction of features that holds on exactly the faulty problems is their **cause**, the shorter
the better: a feature that is present costs 1, one that is absent 2, every further conjunction 1.
Two mistakes at once are two conjunctions, each of which holds on faulty problems only.

Nothing is proved by a coincidence. Let a conjunction hold on m problems, b of them faulty, and
without one of its features on M; were that feature nothing to do with the fault, a random set of m
among the M would have all b in it with probability :math:`\binom{m}{b} / \binom{M}{b}`. The sum of
these over all features that would have served as well is the number of coincidences to be expected,
and a cause is called sure where none of its features has more than COINCIDENCES.

Where no conjunction is sure to hold on exactly the faulty problems, one that holds on all of them
is taken: the fault may not show on each. If it holds on more than twice as many, that is only sure
where no more than UNLIKELY of all features and pairs would do so by chance. Of several mistakes,
any of which may not show on each, features are taken that MOSTLY come with the fault.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from operator import or_

from ekfac_ref.conformance.findings.attribution.chance import (
    at_least,
    holding_all,
    of_faulty_alone,
)
from ekfac_ref.conformance.findings.attribution.cheapest_cover import cheapest_cover
from ekfac_ref.conformance.findings.attribution.conjunction import Attributed, Conjunction
from ekfac_ref.conformance.findings.attribution.literals import Literal, literals_of

COINCIDENCES = 0.2
OF_A_PAIR = 0.02  # coincidences, for either feature of one of several pairs, which are many
UNLIKELY = 1e-3  # coincidences, where most problems with the cause are without the fault
LENGTH = 3  # features in one conjunction, at most
MISTAKES = 6  # conjunctions at once, at most
ANOTHER = 1.0  # what a further conjunction costs
EXCEPTIONS = 1 / 16  # of the problems, at least, are to be without a fault
MOSTLY = 3 / 4  # of the problems with a feature, where a mistake does not show on each


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


def attribute(problems: Sequence[Collection[str]], faulty: Collection[int]) -> Attribution:
    """The fewest features that separate.

    Args:
        problems: the features of each that could have shown the fault. Of two that would serve
            as well, the one that comes first in FEATURES is taken.
        faulty: positions in ``problems``, one or more.
    """
    return _Search(problems, faulty).found()


_Candidate = tuple[Literal, ...]


class _Search:
    def __init__(self, problems: Sequence[Collection[str]], faulty: Collection[int]) -> None:
        self.all = (1 << len(problems)) - 1
        self.bad = sum(1 << i for i in set(faulty))
        self.good = self.all & ~self.bad
        self.literals = literals_of(problems, self.all)
        pairs = [*combinations(self.literals, 1), *combinations(self.literals, 2)]
        self.short = {one: self._mask(one) for one in pairs}

    def found(self) -> Attribution:
        cover = self._cover([*self._separating(), *self._partial()])
        if cover and all(self._attributed(one).sure for one in cover):
            return self._attribution(cover)
        only = self._only()
        if only and (len(cover) == 1 or self._is_half(only)):
            return self._attribution([only])
        if len(cover) == 1:
            return self._attribution(cover)
        sure = self._greedy() if self._leaves_enough() else []
        for several in (sure, self._with_exceptions(sure)):
            some = self._attribution(several)
            if 2 * some.unexplained <= some.faulty:
                return some
        return self._attribution([only] if only else [])

    def _leaves_enough(self) -> bool:
        """Whether a fault is not nearly everywhere; the few exceptions would have any features."""
        return self.good.bit_count() >= EXCEPTIONS * self.all.bit_count()

    def _separating(self) -> Iterator[_Candidate]:
        """Conjunctions that hold on exactly the faulty problems."""
        if not self.good:
            yield ()
        around = [one for one in self.literals if self.bad & ~one.mask == 0]
        for length in range(1, LENGTH + 1):
            found = [c for c in combinations(around, length) if self._mask(c) == self.bad]
            yield from found
            if found:  # a longer one has a feature too many
                return

    def _partial(self) -> list[_Candidate]:
        """Conjunctions of one or two features that hold on some of the faulty problems only."""
        best: dict[int, _Candidate] = {}
        for one, mask in self.short.items():
            if not mask & self.good and mask.bit_count() > 1:
                best[mask] = min(one, best.get(mask, one), key=_cost)
        costs = {mask: _cost(one) for mask, one in best.items()}

        def is_needed(mask: int) -> bool:
            return not any(mask | m == m != mask and costs[m] <= costs[mask] for m in costs)

        return [one for mask, one in best.items() if is_needed(mask)]

    def _cover(self, candidates: list[_Candidate]) -> list[_Candidate]:
        """The cheapest that together hold on every faulty problem; none if there are none."""
        masks = [self._mask(one) for one in candidates]
        costs = [_cost(one) + ANOTHER for one in candidates]
        lengths = [len(one) for one in candidates]
        return [candidates[i] for i in cheapest_cover(self.bad, masks, costs, lengths, MISTAKES)]

    def _only(self) -> _Candidate | None:
        """What every faulty problem has, and fewest of the others: they may show nothing."""
        around = [one for one in self.literals if self.bad & ~one.mask == 0]
        pairs = [*combinations(around, 1), *combinations(around, 2)]
        found = [one for one in pairs if self._is_sure(one, self.all)]
        return min(found, key=lambda one: (self._mask(one).bit_count(), _cost(one)), default=None)

    def _is_half(self, one: _Candidate) -> bool:
        """Whether at least every other problem that it holds on is faulty."""
        mask = self._mask(one)
        return 2 * (mask & self.bad).bit_count() >= mask.bit_count()

    def _greedy(self) -> list[_Candidate]:
        """Those that are sure, the one with most of the rest first.

        Where most problems are faulty, features enough have faulty ones only: they are to be rare
        among those that are without a fault or without a cause so far.
        """
        left, chosen, looked = self.bad, list[_Candidate](), self.short.values()
        pool = [one for one in self._partial() if self._attributed(one).sure]
        while pool and len(chosen) < MISTAKES:
            pool.sort(key=lambda one: -(self._mask(one) & left).bit_count())
            among = self.good | left
            rare = (c for c in pool if self._coincidences(c, among, looked) <= COINCIDENCES)
            best = next(rare, None)
            if best is None or (self._mask(best) & left).bit_count() < 2:
                break
            chosen.append(best)
            left &= ~self._mask(best)
        return chosen

    def _with_exceptions(self, chosen: Sequence[_Candidate]) -> list[_Candidate]:
        """With features more, most problems of which have the fault: it may not show on each.

        That of most of the rest first, and so that no feature at all would have so many by chance.
        """
        left, found = self.bad & ~self._any(chosen), [*chosen]
        present = [one for one in self.literals if one.is_present]
        while left and self._leaves_enough() and len(found) < MISTAKES:
            F, M = left.bit_count(), (self.good | left).bit_count()

            def is_one(b: int, m: int, F: int = F, M: int = M) -> bool:
                by_chance = len(self.literals) * at_least(b, m, F, M)
                return b >= MOSTLY * m > 0 and by_chance <= UNLIKELY

            sizes = {one: (one.mask & left).bit_count() for one in present}
            fit = [x for x, b in sizes.items() if is_one(b, b + (x.mask & self.good).bit_count())]
            if not fit:
                break
            best = max(fit, key=lambda one: sizes[one])
            found.append((best,))
            left &= ~best.mask
        return found

    def _any(self, several: Iterable[_Candidate]) -> int:
        """The problems that one of them holds on."""
        return reduce(or_, map(self._mask, several), 0)

    def _attribution(self, cover: Sequence[_Candidate]) -> Attribution:
        causes = [self._attributed(one) for one in cover]
        unexplained = (self.bad & ~self._any(cover)).bit_count()
        causes.sort(key=lambda cause: -cause.faulty)
        return Attribution(tuple(causes), self.bad.bit_count(), self.all.bit_count(), unexplained)

    def _attributed(self, one: _Candidate) -> Attributed:
        mask = self._mask(one)
        faulty = mask & self.bad
        # Faulty problems of another cause say nothing about this one.
        sure = self._is_sure(one, self.good | faulty)
        sure &= self._is_half(one) or self._is_unlikely(mask.bit_count())
        if len(one) > 1 and faulty != self.bad:
            singles = [literal.mask for literal in self.literals]
            rests = self._rests(one)
            sure &= all(self._coincidences(one, rest, singles) <= OF_A_PAIR for rest in rests)
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

    def _is_sure(self, one: _Candidate, among: int) -> bool:
        """Whether none of its features is likely to be a coincidence."""
        mask = self._mask(one) & among
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

    def _coincidences(self, one: _Candidate, among: int, looked: Iterable[int]) -> float:
        """How many of the masks that were looked at would have as many of these problems as it has,
        faulty ones only, by chance.
        """
        sizes = ((mask & among).bit_count() for mask in looked)
        m, F = (self._mask(one) & among).bit_count(), (among & self.bad).bit_count()
        return of_faulty_alone(sizes, m, F, among.bit_count())

    def _rests(self, one: _Candidate) -> list[int]:
        """The problems without one of its features, in turn."""
        return [self._mask(tuple(o for o in one if o is not literal)) for literal in one]

    def _mask(self, one: _Candidate) -> int:
        mask = self.all
        for literal in one:
            mask &= literal.mask
        return mask


def _cost(one: _Candidate) -> float:
    return sum(literal.cost for literal in one)


def _conjunction(one: _Candidate) -> Conjunction:
    present = tuple(literal.name for literal in one if literal.is_present)
    return Conjunction(present, tuple(x.name for x in one if not x.is_present))
