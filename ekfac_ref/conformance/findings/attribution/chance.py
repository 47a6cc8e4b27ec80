"""How much of what separates problems with a fault from the others would do so by chance."""

from collections import Counter
from collections.abc import Iterable
from math import comb


def holding_all(sizes: Iterable[int], most: int, b: int, M: int) -> float:
    """Of random sets among M problems, ``most`` at most in each, how many have b given ones."""
    return sum(comb(size, b) for size in sizes if b <= size <= most) / comb(M, b)


def of_faulty_alone(sizes: Iterable[int], least: int, F: int, M: int) -> float:
    """Of random sets, ``least`` at least in each, how many have but faulty ones, F among M."""
    numbers = Counter(sizes)
    return sum(n * comb(F, k) / comb(M, k) for k, n in numbers.items() if k >= least)


def at_least(b: int, m: int, F: int, M: int) -> float:
    """The probability that of m problems among M, F of which are faulty, b or more are faulty."""
    ways = sum(comb(m, k) * comb(M - m, F - k) for k in range(b, min(m, F) + 1))
    return ways / comb(M, F)
