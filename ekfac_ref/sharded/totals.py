r"""Sums over the data of all ranks: each reads its own, and one all_reduce adds up a layer.

A rank without data sends zeros. It learns the shapes from those that have some, as all learn the
counts N and M (or N+): of the sums, each rank tells an outline before they are sent.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ekfac_ref.matrix.kfac import FactorSums
from ekfac_ref.matrix.outer_products import Gram
from ekfac_ref.matrix.words import Counts
from ekfac_ref.model.copies.modes import ITS_OWN
from ekfac_ref.model.layers import BareWeights
from ekfac_ref.model.random_state import generators, untouched
from ekfac_ref.model.recording.bare_weights import bare_weights
from ekfac_ref.model.tapped import TappedData
from ekfac_ref.passes import Bases, ByGroup, accumulate, factor_sums, square_sums
from ekfac_ref.question.batches import NoBatches, read
from ekfac_ref.question.problem import Problem
from ekfac_ref.sharded.ranks import Ranks


@dataclass(frozen=True)
class Outline:
    """What there is to know of the sums behind one A and B, without them.

    Attributes:
        shape: (d_out, d_in).
        words: whether the sum behind A is kept as counts of words.
        rows_a: M positions or N+ samples.
        samples: N.
        dtype: of the matrices.
    """

    shape: tuple[int, int]
    words: bool
    rows_a: int
    samples: int
    dtype: torch.dtype

    def plus(self, other: "Outline") -> "Outline":
        """Of both sums together; words with a matrix are a matrix."""
        return Outline(
            self.shape,
            self.words and other.words,
            self.rows_a + other.rows_a,
            self.samples + other.samples,
            self.dtype,
        )


def samples_before(ranks: Ranks, problem: Problem) -> int:
    """How many samples the ranks before this one have; reads the data once."""

    def own() -> int:
        with untouched(*generators(problem.batches)):
            try:
                return sum(batch.size for batch in read(problem))
            except NoBatches:
                return 0

    return sum(ranks.together(own, lambda samples: samples)[1][: ranks.rank])


def bare_weights_of_all(ranks: Ranks, problem: Problem) -> BareWeights:
    """The matrices of no module, of each Parameter as the first rank has them whose data shows any.

    A rank without data sees none, and one whose first batch leaves an expert out not that one.
    """

    def own() -> BareWeights:
        with untouched(*generators(problem.batches)):
            return bare_weights(problem, ITS_OWN)

    found: dict[str, BareWeights] = {}
    for of_rank in ranks.together(own, lambda seen: seen)[1]:
        of_rank = [one for one in of_rank if one.weight not in found]
        for one in of_rank:
            found[one.weight] = (*found.get(one.weight, ()), one)
    order = (name for name, _ in problem.model.named_parameters())
    return tuple(one for name in order for one in found.get(name, ()))


def total_factors(ranks: Ranks, data: TappedData) -> ByGroup[FactorSums]:
    """The first pass: sums behind A and B of every layer, over the data of all ranks.

    A ProblemError on all ranks where none has data. A layer that this rank's data does not use has
    no rows here: another rank's may use it, or the sums say in the end that none does.
    """
    data.session.learned.used |= {layer.name for layer in data.session.layers}

    def own_sums() -> ByGroup[FactorSums]:
        try:
            sums = factor_sums(data)
        except NoBatches:
            return {}
        return {name: [_written_out(f) for f in of_layer] for name, of_layer in sums.items()}

    own, told = ranks.together(own_sums, _outlines)
    device = data.session.layers[0].weight.device
    return {
        name: _added_up(ranks, outlines, own.pop(name, None), device)
        for name, outlines in _joined(told).items()
    }


def total_squares(ranks: Ranks, data: TappedData, bases: Bases) -> tuple[int, ByGroup[Tensor]]:
    """The second pass: N and N Lambda of every layer in these bases, over the data of all ranks."""

    def own_sums() -> tuple[int, ByGroup[Tensor]]:
        try:
            return square_sums(data, bases)
        except NoBatches:
            return 0, {}

    (_, own), samples = ranks.together(own_sums, lambda sums: sums[0])
    totals = {}
    for name, of_layer in bases.items():
        zeros = [Q.Q_B.new_zeros(Q.shape) for Q in of_layer]
        totals[name] = ranks.sums(own.pop(name, zeros))
    return sum(samples), totals


def _written_out(sums: FactorSums) -> FactorSums:
    """With matrices in place of rows: [d, d], however few rows there are."""
    a = sums.a if isinstance(sums.a, Counts) else Gram(sums.a.gram())
    return FactorSums(a, Gram(sums.g.gram()), sums.rows_a, sums.samples)


def _outlines(sums: ByGroup[FactorSums]) -> ByGroup[Outline]:
    return {name: [_outline(f) for f in of_layer] for name, of_layer in sums.items()}


def _outline(sums: FactorSums) -> Outline:
    B, words = sums.g.gram(), isinstance(sums.a, Counts)
    d_in = len(sums.a.counts) if isinstance(sums.a, Counts) else len(sums.a.gram())
    return Outline((len(B), d_in), words, sums.rows_a, sums.samples, B.dtype)


def _joined(told: list[ByGroup[Outline]]) -> ByGroup[Outline]:
    """The outlines of the sums over all ranks."""
    joined: ByGroup[Outline] = {}
    for of_rank in told:
        for name, outlines in of_rank.items():
            accumulate(joined, name, outlines, Outline.plus)
    if not joined:
        raise NoBatches
    return joined


def _added_up(
    ranks: Ranks, outlines: list[Outline], own: list[FactorSums] | None, device: torch.device
) -> list[FactorSums]:
    """The sums of one layer over ranks, group by group; ``own`` is None on a rank without data."""
    parts = [
        part
        for k, outline in enumerate(outlines)
        for part in _matrices(outline, None if own is None else own[k], device)
    ]
    totals = iter(ranks.sums(parts))
    found = []
    for k, outline in enumerate(outlines):
        g = Gram(next(totals))
        if outline.words:
            counts = torch.zeros(outline.shape[1], dtype=torch.long, device=device)
            if own is not None and isinstance(known := own[k].a, Counts):
                counts = known.counts
            a: Gram | Counts = Counts(ranks.sums([counts])[0], outline.dtype)
        else:
            a = Gram(next(totals))
        found.append(FactorSums(a, g, outline.rows_a, outline.samples))
    return found


def _matrices(outline: Outline, own: FactorSums | None, device: torch.device) -> list[Tensor]:
    """The sums behind B and, where it is a matrix, behind A."""
    if own is not None:
        return [own.g.gram()] if outline.words else [own.g.gram(), own.a.gram()]
    sizes = outline.shape[:1] if outline.words else outline.shape
    return [torch.zeros(d, d, dtype=outline.dtype, device=device) for d in sizes]
