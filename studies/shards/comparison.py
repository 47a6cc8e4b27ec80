"""One problem, asked of all ranks with its data shared out, and of one rank with all of it."""

import hashlib
import pickle
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._pytree import tree_map

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref import sharded
from ekfac_ref.conformance.problems.draw import mixtures
from ekfac_ref.matrix.basis import MatrixBasis
from ekfac_ref.model.session import open_session
from ekfac_ref.model.tapped import TappedData
from ekfac_ref.passes import ByGroup, factor_sums, square_sums
from ekfac_ref.sharded.ranks import Ranks
from ekfac_ref.sharded.totals import bare_weights_of_all, total_factors

Batches = list[tuple[Any, Tensor]]
# Of one matrix with a basis of its own; that of two answers would ask about other data.
LAWS = ("trace", "commutes", "orthonormal basis", "eigenbasis", "eigenvalues", "comparison")


@dataclass(frozen=True)
class Compared:
    """One rank's answer beside that of all ranks.

    Attributes:
        number: of the problem.
        dtype: of its matrices.
        samples: of each rank.
        counts: whether N and M (or N+) of every layer are equal.
        A, B, Lambda: |X - Y| / |Y| in the Frobenius norm, over the dtype's eps, of the worst layer;
            Lambda by one rank in the basis that the ranks used.
        laws: {law: whether it holds} of the ranks' operators, asked with all data; ``comparison``
            is that of E, and is missing where rounding leaves several bases.
        same: whether all ranks have the same operators, to the bit.
    """

    number: int
    dtype: str
    samples: tuple[int, ...]
    counts: bool
    A: float
    B: float
    Lambda: float
    laws: dict[str, bool]
    same: bool


def compared(seed: int, count: int, number: int) -> Compared | None:
    """On all ranks: problem ``number`` of ``count`` that are drawn; what came of it, on rank 0."""
    problem = _drawn(seed, count)[number]
    parts = shared_out(list(problem.batches), dist.get_world_size(), number)
    return beside_one_rank(problem, parts, LAWS, number)


def beside_one_rank(
    problem: ek.Problem, parts: list[Batches], laws: tuple[str, ...] = (), number: int = 0
) -> Compared | None:
    """On all ranks, each with a part of the data: what came of it, on rank 0."""
    ranks = Ranks.of(None)
    own = replace(problem, batches=parts[ranks.rank])
    E, K = sharded.ekfac(own), sharded.kfac(own)
    bare = bare_weights_of_all(ranks, own)
    sums = total_factors(ranks, TappedData(open_session(own, bare=bare)))
    digests: list[Any] = [None] * ranks.size
    dist.all_gather_object(digests, (digest(E), digest(K)))
    if ranks.rank:
        return None
    whole = replace(problem, batches=[batch for part in parts for batch in part])
    A, B = _factors_off(K, ek.kfac(whole))
    found = ct.ask(lambda _: E, whole, laws)
    return Compared(
        number,
        str(next(_numbers(E)).dtype).removeprefix("torch."),
        tuple(sum(len(y) for _, y in part) for part in parts),
        _counts(sums) == _counts(factor_sums(TappedData(open_session(whole)))),
        A,
        B,
        _eigenvalues_off(E, whole),
        {law: verdict is None for law, verdict in found.items()},
        len(set(digests)) == 1,
    )


def shared_out(batches: Batches, ranks: int, number: int) -> list[Batches]:
    """The batches of each rank, in turn from another first one on; every third problem's are cut.

    Ranks have unequally many, and of few batches some have none.
    """
    pieces = batches
    if number % 3 == 0:
        pieces = [piece for batch in batches for piece in _cut(*batch)]
    return [pieces[(rank + number) % ranks :: ranks] for rank in range(ranks)]


def _cut(inputs: Any, targets: Tensor) -> Batches:
    """A third and the rest of a batch, if it has two samples."""
    stops = sorted({0, len(targets) // 3, len(targets)})
    return [
        (tree_map(lambda x, i=i, j=j: x[i:j], inputs), targets[i:j]) for i, j in pairwise(stops)
    ]


@cache
def _drawn(seed: int, count: int) -> list[ek.Problem]:
    return mixtures(ct.Abilities(), count, seed)


def digest(operators: dict[str, Any]) -> str:
    """Of all numbers of the operators, to the bit."""
    return hashlib.sha256(pickle.dumps([X.tolist() for X in _numbers(operators)])).hexdigest()


def _numbers(operators: dict[str, Any]) -> Iterator[Tensor]:
    for block in _blocks(operators):
        yield from (value for value in vars(block).values() if isinstance(value, Tensor))


def _blocks(operators: dict[str, Any]) -> list[Any]:
    return [block for X in operators.values() for block in getattr(X, "blocks", [X])]


def _counts(sums: ByGroup[Any]) -> dict[str, list[tuple[int, int]]]:
    return {name: [(f.rows_a, f.samples) for f in of_layer] for name, of_layer in sums.items()}


def _factors_off(found: dict[str, Any], right: dict[str, Any]) -> tuple[float, float]:
    pairs = list(zip(_blocks(found), _blocks(right), strict=True))
    return max(_off(x.A, y.A) for x, y in pairs), max(_off(x.B, y.B) for x, y in pairs)


def _eigenvalues_off(E: dict[str, Any], whole: ek.Problem) -> float:
    bases: Any = {
        name: [MatrixBasis(block.Q_B, block.Q_A) for block in _blocks({name: X})]
        for name, X in E.items()
    }
    with torch.no_grad():
        N, squares = square_sums(TappedData(open_session(whole)), bases)
    right = [total / N for of_layer in squares.values() for total in of_layer]
    pairs = zip(_blocks(E), right, strict=True)
    return max(_off(block.eigenvalues, Lambda) for block, Lambda in pairs)


def _off(found: Tensor, right: Tensor) -> float:
    """|found - right| / |right|, in units of the dtype's eps; 0 if both are zero."""
    off, size = float((found - right).norm()), float(right.norm())
    return off / size / torch.finfo(right.dtype).eps if off else 0.0
