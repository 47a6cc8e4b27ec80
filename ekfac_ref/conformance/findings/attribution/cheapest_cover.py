"""The cheapest sets that together cover everything. A set is an integer, bit i stands for i."""

from collections.abc import Iterator, Sequence
from math import inf

LOOKS = 5_000  # selections that are looked at


def cheapest_cover(
    everything: int,
    sets: Sequence[int],
    costs: Sequence[float],
    lengths: Sequence[int],
    most: int,
) -> list[int]:
    """The numbers of ``most`` sets or fewer; none if there are none that do.

    Of two selections of the same cost, the one whose longest is shorter.
    """
    cheapest_first = sorted(range(len(sets)), key=lambda i: (costs[i], -sets[i].bit_count()))
    on = {bit: [i for i in cheapest_first if sets[i] & bit] for bit in _bits(everything)}
    rarest_first = sorted(on, key=lambda bit: len(on[bit]))
    best: tuple[float, int, list[int]] = (inf, 0, [])
    tries = 0

    def go(left: int, chosen: list[int], cost: float, longest: int) -> None:
        nonlocal best, tries
        tries += 1
        if not left:
            best = min(best, (cost, longest, chosen), key=lambda one: one[:2])
            return
        if len(chosen) == most or tries > LOOKS:
            return
        rarest = next(bit for bit in rarest_first if bit & left)
        for i in on[rarest]:
            length = max(longest, lengths[i])
            if (cost + costs[i], length) < best[:2]:
                go(left & ~sets[i], [*chosen, i], cost + costs[i], length)

    go(everything, [], 0.0, 0)
    return best[2]


def _bits(mask: int) -> Iterator[int]:
    while mask:
        bit = mask & -mask
        yield bit
        mask &= ~bit
