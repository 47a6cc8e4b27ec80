r"""What passes over the data add up, not divided by anything, and the operators once all is there.

Two passes. The first sums the rows behind A and B, with their counts; the second sums the squares
behind Lambda, in one basis. Sums and counts of two parts of the data add up to those of both, so
``blocks.py`` has them of all the data at once, and ``sharded/`` of the parts that processes hold. A
grouped layer has one entry per group, and becomes a BlockDiagonal.
"""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from ekfac_ref.errors import ProblemError
from ekfac_ref.matrix.basis import MatrixBasis, WordBasis
from ekfac_ref.matrix.groups import bases_by_group, factors_by_group, squares_by_group
from ekfac_ref.matrix.kfac import FactorSums, add, kronecker
from ekfac_ref.matrix.lookup import LookupEigenKronecker, LookupKronecker
from ekfac_ref.matrix.operators import BlockDiagonal, EigenKronecker, Kronecker, direct_sum
from ekfac_ref.matrix.words import check_bags
from ekfac_ref.model.tapped import TappedData
from ekfac_ref.model.taps import Taps

Value = TypeVar("Value")
ByGroup = dict[str, list[Value]]
Bases = ByGroup[MatrixBasis | WordBasis]
Kroneckers = dict[str, Kronecker | LookupKronecker | BlockDiagonal]
EigenKroneckers = dict[str, EigenKronecker | LookupEigenKronecker | BlockDiagonal]


def factor_sums(data: TappedData) -> ByGroup[FactorSums]:
    """The first pass: sums of rows behind KFAC's factors, under the problem's sharing."""
    sharing = data.session.problem.sharing

    def of_chunk(chunk: tuple[int, Taps]) -> ByGroup[FactorSums]:
        samples, taps = chunk
        found: ByGroup[FactorSums] = {}
        for name, by_group in taps.items():
            for t in by_group:
                check_bags(name, t.inputs, t.g.shape[2], sharing)
            rows = [sharing.rows(t.inputs, t.g, t.counted) for t in by_group]
            found[name] = factors_by_group(rows, samples)
        return found

    total: ByGroup[FactorSums] = {}
    for found in map(of_chunk, data):
        for name, by_group in found.items():
            accumulate(total, name, by_group, add)
    return total


def of_all_data(factors: ByGroup[FactorSums]) -> ByGroup[FactorSums]:
    """These sums, if they are over something; a ProblemError for a layer without any row."""
    for name, of_layer in factors.items():
        if of_layer[0].rows_a == 0:
            raise ProblemError(
                f"layer {name!r}: the mask counts none of its positions in all the data, or there "
                "is none, or the model never uses it, so A is a mean over nothing; correct the "
                "mask (True = counts) or the data, or leave the layer out."
            )
    return factors


def kroneckers(factors: ByGroup[FactorSums]) -> Kroneckers:
    """B (x) A of every layer, divided by the counts."""
    return {name: direct_sum([kronecker(f) for f in fs]) for name, fs in factors.items()}


def eigenbases(factors: ByGroup[FactorSums]) -> Bases:
    """The eigenvectors of B and A of every layer."""
    return {name: bases_by_group(fs) for name, fs in factors.items()}


def square_sums(data: TappedData, bases: Bases) -> tuple[int, ByGroup[Tensor]]:
    """The second pass: N, and N Lambda of every layer in these bases, [r_out, r_in]."""

    def of_chunk(chunk: tuple[int, Taps]) -> tuple[int, ByGroup[Tensor]]:
        samples, taps = chunk
        return samples, {
            name: squares_by_group([(t.inputs, t.g) for t in by_group], bases[name])
            for name, by_group in taps.items()
        }

    N = 0
    sums: ByGroup[Tensor] = {}
    for samples, squares in map(of_chunk, data):
        for name, by_group in squares.items():
            accumulate(sums, name, by_group, plus)
        N += samples
    return N, sums


def eigenkroneckers(bases: Bases, N: int, sums: ByGroup[Tensor]) -> EigenKroneckers:
    """EKFAC's operator of every layer, from N Lambda."""
    return {
        name: direct_sum(
            [Q.operator(total / N) for Q, total in zip(bases[name], totals, strict=True)]
        )
        for name, totals in sums.items()
    }


def accumulate(
    totals: ByGroup[Value], name: str, new: list[Value], sum_of: Callable[[Value, Value], Value]
) -> None:
    """Add what a chunk has of one layer, group by group, to the totals."""
    old = totals.get(name)
    totals[name] = new if old is None else [sum_of(x, y) for x, y in zip(old, new, strict=True)]


def plus(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The sum of both, in the memory of x, which is a sum of one's own."""
    return x.add_(y)
