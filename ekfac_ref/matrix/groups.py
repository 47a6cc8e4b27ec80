"""The groups of one layer at once: a depthwise convolution has a thousand, with tiny matrices.

What each function returns is what ``kfac.py``, ``basis.py`` and ``ekfac.py`` say of one group after
the other. They are asked where there is but one group, where rows are kept as they are, and for a
chunk that has more columns of samples that were there before.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ekfac_ref.matrix.basis import MatrixBasis, WordBasis, basis_of
from ekfac_ref.matrix.eigen import eigh_of_several
from ekfac_ref.matrix.ekfac import squares_of_several
from ekfac_ref.matrix.kfac import FactorSums, chunk_factors
from ekfac_ref.matrix.outer_products import Gram
from ekfac_ref.question.one_hot import OneHot
from ekfac_ref.question.sharing import Rows

TINY = 4096  # entries of G; of larger ones, it matters what is multiplied first


def factors_by_group(rows: Sequence[Rows], samples: int) -> list[FactorSums]:
    """The sums over one chunk, of every group."""
    several = [r.a for r in rows if isinstance(r.a, Tensor)]
    if len(several) < 2 or not samples or (rows[0].complete and _few(rows[0])):
        return [chunk_factors(r, samples) for r in rows]
    A, B = (x.mT @ x for x in (torch.stack(several), torch.stack([r.g for r in rows])))
    count = len(several[0])
    return [FactorSums(Gram(A_k), Gram(B_k), count, samples) for A_k, B_k in zip(A, B, strict=True)]


def bases_by_group(factors: Sequence[FactorSums]) -> list[MatrixBasis | WordBasis]:
    """The eigenvectors of B and A of every group."""
    grams_a = [f.a.matrix for f in factors if isinstance(f.a, Gram)]
    grams_g = [f.g.matrix for f in factors if isinstance(f.g, Gram)]
    if len(factors) == 1 or not len(factors) == len(grams_a) == len(grams_g):
        return [basis_of(f) for f in factors]
    Q_B, Q_A = (eigh_of_several(torch.stack(grams))[1] for grams in (grams_g, grams_a))
    return [MatrixBasis(*pair) for pair in zip(Q_B, Q_A, strict=True)]


def squares_by_group(
    taps: Sequence[tuple[Tensor | OneHot, Tensor]], bases: Sequence[MatrixBasis | WordBasis]
) -> list[Tensor]:
    """N Lambda of a chunk of samples, of every group, from its inputs and output gradients."""
    several = [a for a, _ in taps if isinstance(a, Tensor)]
    matrices = [Q for Q in bases if isinstance(Q, MatrixBasis)]
    if len(several) < 2 or several[0].shape[2] * taps[0][1].shape[3] > TINY:
        return [Q.squares(a, g) for (a, g), Q in zip(taps, bases, strict=True)]
    g, Q_B, Q_A = (
        torch.stack(list(x))
        for x in ((g for _, g in taps), (Q.Q_B for Q in matrices), (Q.Q_A for Q in matrices))
    )
    return list(squares_of_several(torch.stack(several), g, Q_B, Q_A))


def _few(rows: Rows) -> bool:
    """Whether there are fewer rows than dimensions, of inputs or of gradients."""
    assert isinstance(rows.a, Tensor)
    return any(len(x) < x.shape[1] for x in (rows.a, rows.g))
