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

from collections.abc import Collection, Iterator, Sequence
from itertools import combinations

from ekfac_ref.conformance.findings.attribution.chance import at_least
from ekfac_ref.conformance.findings.attribution.cheapest_cover import cheapest_cover
from ekfac_ref.conformance.findings.attribution.evidence import (
    COINCIDENCES,
    UNLIKELY,
    Attribution,
    Evidence,
    Literals,
)

LENGTH = 3  # features in one conjunction, at most
MISTAKES = 6  # conjunctions at once, at most
ANOTHER = 1.0  # what a further conjunction costs
EXCEPTIONS = 1 / 16  # of the problems, at least, are to be without a fault
MOSTLY = 3 / 4  # of the problems with a feature, where a mistake does not show on each


def attribute(problems: Sequence[Collection[str]], faulty: Collection[int]) -> Attribution:
    """The fewest features that separate.

    Args:
        problems: the features of each that could have shown the fault. Of two that would serve
            as well, the one that comes first in FEATURES is taken.
        faulty: positions in ``problems``, one or more.
    """
    return _Search(Evidence(problems, faulty)).found()


class _Search:
    def __init__(self, known: Evidence) -> None:
        self.known, self.bad = known, known.bad

    def found(self) -> Attribution:
        cover = self._cover([*self._separating(), *self._partial()])
        if cover and all(self.known.attributed(one).sure for one in cover):
            return self.known.attribution(cover)
        only = self._only()
        if only and (len(cover) == 1 or self.known.is_half(only)):
            return self.known.attribution([only])
        if len(cover) == 1:
            return self.known.attribution(cover)
        sure = self._greedy() if self._leaves_enough() else []
        for several in (sure, self._with_exceptions(sure)):
            some = self.known.attribution(several)
            if 2 * some.unexplained <= some.faulty:
                return some
        return self.known.attribution([only] if only else [])

    def _leaves_enough(self) -> bool:
        """Whether a fault is not nearly everywhere; the few exceptions would have any features."""
        return self.known.good.bit_count() >= EXCEPTIONS * self.known.all.bit_count()

    def _separating(self) -> Iterator[Literals]:
        """Conjunctions that hold on exactly the faulty problems."""
        if not self.known.good:
            yield ()
        around = [one for one in self.known.literals if self.bad & ~one.mask == 0]
        for length in range(1, LENGTH + 1):
            found = [c for c in combinations(around, length) if self.known.mask(c) == self.bad]
            yield from found
            if found:  # a longer one has a feature too many
                return

    def _partial(self) -> list[Literals]:
        """Conjunctions of one or two features that hold on some of the faulty problems only."""
        best: dict[int, Literals] = {}
        for one, mask in self.known.short.items():
            if not mask & self.known.good and mask.bit_count() > 1:
                best[mask] = min(one, best.get(mask, one), key=_cost)
        costs = {mask: _cost(one) for mask, one in best.items()}

        def is_needed(mask: int) -> bool:
            return not any(mask | m == m != mask and costs[m] <= costs[mask] for m in costs)

        return [one for mask, one in best.items() if is_needed(mask)]

    def _cover(self, candidates: list[Literals]) -> list[Literals]:
        """The cheapest that together hold on every faulty problem; none if there are none."""
        masks = [self.known.mask(one) for one in candidates]
        costs = [_cost(one) + ANOTHER for one in candidates]
        lengths = [len(one) for one in candidates]
        chosen = cheapest_cover(self.bad, masks, costs, lengths, MISTAKES)
        return [candidates[i] for i in chosen]

    def _only(self) -> Literals | None:
        """What every faulty problem has, and fewest of the others: they may show nothing."""
        around = [one for one in self.known.literals if self.bad & ~one.mask == 0]
        pairs = [*combinations(around, 1), *combinations(around, 2)]
        found = [one for one in pairs if self.known.is_sure(one, self.known.all)]
        sizes = {one: self.known.mask(one).bit_count() for one in found}
        return min(found, key=lambda one: (sizes[one], _cost(one)), default=None)

    def _greedy(self) -> list[Literals]:
        """Those that are sure, the one with most of the rest first.

        Where most problems are faulty, features enough have faulty ones only: they are to be rare
        among those that are without a fault or without a cause so far.
        """
        left, chosen, looked = self.bad, list[Literals](), self.known.short.values()
        pool = [one for one in self._partial() if self.known.attributed(one).sure]
        while pool and len(chosen) < MISTAKES:
            pool.sort(key=lambda one: -(self.known.mask(one) & left).bit_count())
            among = self.known.good | left
            rare = (c for c in pool if self.known.coincidences(c, among, looked) <= COINCIDENCES)
            best = next(rare, None)
            if best is None or (self.known.mask(best) & left).bit_count() < 2:
                break
            chosen.append(best)
            left &= ~self.known.mask(best)
        return chosen

    def _with_exceptions(self, chosen: Sequence[Literals]) -> list[Literals]:
        """With features more, most problems of which have the fault: it may not show on each.

        That of most of the rest first, and so that no feature at all would have so many by chance.
        """
        left, found = self.bad & ~self.known.any_of(chosen), [*chosen]
        present = [one for one in self.known.literals if one.is_present]
        while left and self._leaves_enough() and len(found) < MISTAKES:
            F, M = left.bit_count(), (self.known.good | left).bit_count()

            def is_one(b: int, m: int, F: int = F, M: int = M) -> bool:
                by_chance = len(self.known.literals) * at_least(b, m, F, M)
                return b >= MOSTLY * m > 0 and by_chance <= UNLIKELY

            sizes = {one: (one.mask & left).bit_count() for one in present}
            good = {one: (one.mask & self.known.good).bit_count() for one in present}
            fit = [one for one, b in sizes.items() if is_one(b, b + good[one])]
            if not fit:
                break
            best = max(fit, key=lambda one: sizes[one])
            found.append((best,))
            left &= ~best.mask
        return found


def _cost(one: Literals) -> float:
    return sum(literal.cost for literal in one)
