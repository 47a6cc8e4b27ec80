"""The eigenproblems, each solved by one rank, which sends the eigenvectors to the others.

All ranks need one basis, to the bit. Equal matrices need not have equal eigenvectors on two
machines, and where eigenvalues coincide any rotation is one; so no rank solves for itself.
"""

from torch import Tensor

from ekfac_ref.matrix.basis import MatrixBasis, WordBasis
from ekfac_ref.matrix.kfac import FactorSums
from ekfac_ref.matrix.words import Counts
from ekfac_ref.passes import Bases, ByGroup, eigenbases
from ekfac_ref.sharded.ranks import Ranks


def shared_bases(ranks: Ranks, factors: ByGroup[FactorSums]) -> Bases:
    """The eigenvectors of B and A of every layer, on all ranks; A and B are those of all data."""
    owner = owners(factors, ranks.size)
    mine = {name: fs for name, fs in factors.items() if owner[name] == ranks.rank}
    own, _ = ranks.together(lambda: eigenbases(mine))
    return {
        name: _of_owner(ranks, of_layer, own.get(name), owner[name])
        for name, of_layer in factors.items()
    }


def owners(factors: ByGroup[FactorSums], ranks: int) -> dict[str, int]:
    """{layer: the rank that solves its eigenproblems}: the largest first, each to the least busy.

    A matrix takes d^3 operations; counts of words take none. All ranks come to the same answer.
    """
    cost = {name: sum(map(_operations, of_layer)) for name, of_layer in factors.items()}
    busy = [0] * ranks
    owner = {}
    for name in sorted(cost, key=lambda name: -cost[name]):
        owner[name] = busy.index(min(busy))
        busy[owner[name]] += cost[name]
    return owner


def _operations(factors: FactorSums) -> int:
    d_in = 0 if isinstance(factors.a, Counts) else len(factors.a.gram())
    return len(factors.g.gram()) ** 3 + d_in**3


def _of_owner(
    ranks: Ranks, factors: list[FactorSums], own: list[MatrixBasis | WordBasis] | None, owner: int
) -> list[MatrixBasis | WordBasis]:
    """The bases of one layer: one broadcast of all its matrices."""
    parts = [
        part
        for k, of_group in enumerate(factors)
        for part in _matrices(of_group, None if own is None else own[k])
    ]
    received = iter(ranks.sent(parts, owner))
    bases: list[MatrixBasis | WordBasis] = []
    for of_group in factors:
        if isinstance(of_group.a, Counts):
            words = of_group.a
            bases.append(WordBasis(next(received), words.seen, len(words.counts)))
        else:
            bases.append(MatrixBasis(next(received), next(received)))
    return bases


def _matrices(factors: FactorSums, own: MatrixBasis | WordBasis | None) -> list[Tensor]:
    """Q_B and, where it is a matrix, Q_A; of another rank's basis, memory for them."""
    if isinstance(own, MatrixBasis):
        return [own.Q_B, own.Q_A]
    if own is not None:
        return [own.Q_B]
    squares = [factors.g.gram()] + ([] if isinstance(factors.a, Counts) else [factors.a.gram()])
    return [square.new_empty(square.shape) for square in squares]
