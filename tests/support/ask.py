"""What the tests ask the reference: its blocks on a problem, or its matrix half on a and g."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import ekfac_ref as ek
from ekfac_ref.conformance.truth.observation import Observation, observe
from ekfac_ref.matrix.ekfac import eigenbasis, squares_from_taps
from ekfac_ref.matrix.kfac import FactorSums, add, chunk_factors, kronecker
from ekfac_ref.matrix.operators import BlockDiagonal


@dataclass(frozen=True, eq=False)
class Answer:
    """The three blocks of one layer (group), and what that layer saw."""

    layer: str
    F: ek.Dense
    K: ek.Kronecker
    E: ek.EigenKronecker
    seen: Observation


def answers(problem: ek.Problem) -> Iterator[Answer]:
    """Every layer and group of the problem."""
    observed = [(layer, seen) for layer, groups in observe(problem).items() for seen in groups]
    for (layer, seen), FKE in zip(observed, every_block(problem), strict=True):
        yield Answer(layer, *FKE, seen)


def every_block(problem: ek.Problem) -> Iterator[tuple]:
    """(F, KFAC, EKFAC) of every layer and group."""
    F, K, E = ek.exact_fisher(problem), ek.kfac(problem), ek.ekfac(problem)
    for layer in F:
        yield from zip(blocks(F[layer]), blocks(K[layer]), blocks(E[layer]), strict=True)


def blocks(operator: ek.Operator) -> tuple:
    return operator.blocks if isinstance(operator, BlockDiagonal) else (operator,)


def kfac_of(seen: Observation) -> ek.Kronecker:
    """KFAC of a and g without a network, every sample a chunk of its own."""
    return kronecker(_factors(seen))


def ekfac_of(seen: Observation) -> ek.EigenKronecker:
    """EKFAC of a and g without a network, every sample a chunk of its own."""
    factors = _factors(seen)
    Q_B, Q_A = eigenbasis(factors.g), eigenbasis(factors.a)
    pairs = zip(seen.a, seen.g, strict=True)
    squares = sum(squares_from_taps(a[None], g[None], Q_B, Q_A) for a, g in pairs)
    return ek.EigenKronecker(Q_B, Q_A, squares / len(seen.a))


def _factors(seen: Observation) -> FactorSums:
    samples = zip(seen.a, seen.g, seen.counted, strict=True)
    rows = [seen.sharing.rows(a[None], g[None], counted[None]) for a, g, counted in samples]
    return reduce(add, [chunk_factors(r, 1) for r in rows])
