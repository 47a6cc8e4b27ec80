"""The groups of a layer at once are what they are one after the other."""

import pytest
import torch
from torch import Tensor

from ekfac_ref.matrix import eigen, groups, pieces
from ekfac_ref.matrix.basis import basis_of
from ekfac_ref.matrix.kfac import chunk_factors, kronecker
from ekfac_ref.question.sharing import Expand, Reduce, Rows, Sharing

GROUPS, N, C, T, D_OUT, D_IN = 3, 5, 2, 4, 2, 6


def taps(N: int = N) -> list[tuple[Tensor, Tensor]]:
    return [
        (torch.randn(N, T, D_IN).double(), torch.randn(N, C, T, D_OUT).double())
        for _ in range(GROUPS)
    ]


def rows(sharing: Sharing, N: int) -> list[Rows]:
    return [sharing.rows(a, g, None) for a, g in taps(N)]


@pytest.mark.parametrize("samples", [N, 0])  # new ones, or further columns of these
@pytest.mark.parametrize("sharing", [Expand(), Reduce()], ids=str)
@pytest.mark.parametrize("size", [N, 1])  # more rows than dimensions, and fewer
def test_factors(sharing: Sharing, size: int, samples: int) -> None:
    given = rows(sharing, size)
    found = groups.factors_by_group(given, min(samples, size))
    expected = [chunk_factors(r, min(samples, size)) for r in given]
    assert len(found) == GROUPS
    for x, y in zip(found, expected, strict=True):
        assert (x.rows_a, x.samples, type(x.a), type(x.g)) == (
            *(y.rows_a, y.samples),
            *(type(y.a), type(y.g)),
        )
        torch.testing.assert_close(x.a.gram(), y.a.gram())
        torch.testing.assert_close(x.g.gram(), y.g.gram())


@pytest.mark.parametrize("size", [N, 1])
def test_bases_and_squares(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the operators that come of them; tiny, all at once and in pieces, and not tiny."""
    given = taps(size)
    factors = [chunk_factors(Expand().rows(a, g, None), size) for a, g in given]
    alone = [basis_of(f) for f in factors]
    expected = [Q.operator(Q.squares(a, g)) for Q, (a, g) in zip(alone, given, strict=True)]
    for tiny, room in ((groups.TINY, pieces.AT_ONCE), (groups.TINY, 0), (0, pieces.AT_ONCE)):
        monkeypatch.setattr(groups, "TINY", tiny)
        monkeypatch.setattr(pieces, "AT_ONCE", room)
        together = groups.bases_by_group(factors)
        squares = groups.squares_by_group(given, together)
        for Q, S, E, f in zip(together, squares, expected, factors, strict=True):
            torch.testing.assert_close(Q.operator(S).dense(), E.dense())
            A = kronecker(f).A
            rotated = Q.Q_A.T @ A @ Q.Q_A
            torch.testing.assert_close(rotated, rotated.diagonal().diag())


def test_a_solver_that_fails_on_several_is_asked_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    right = torch.linalg.eigh

    def of_one(matrix: Tensor) -> tuple[Tensor, Tensor]:
        if matrix.dim() > 2:
            raise torch.linalg.LinAlgError
        return right(matrix)

    matrices = torch.randn(GROUPS, 4, 4).double()
    matrices = matrices + matrices.mT
    expected = eigen.eigh_of_several(matrices)
    monkeypatch.setattr(torch.linalg, "eigh", of_one)
    for x, y in zip(eigen.eigh_of_several(matrices), expected, strict=True):
        torch.testing.assert_close(x, y)
