"""Eigenvectors of a symmetric matrix, also where LAPACK's solvers do not find them."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ekfac_ref.question.finite import all_finite


def eigh(matrix: Float[Tensor, "d d"]) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
    """Eigenvalues, ascending, and orthonormal eigenvectors as columns.

    The float32 divide-and-conquer solver fails on some rank-deficient matrices, with an error
    (about 1 in 300 Gram matrices of a handful of repetitive rows) or in silence, with NaN among the
    eigenvalues of a finite matrix (seen of a 66 x 66 one of rank 2). float64 is asked then. That
    has failed too, with one library's LAPACK (seen of a 165 x 165 one of rank 3); numpy brings
    another.
    """
    if (found := _solved(matrix)) is not None:
        return found
    exact = matrix.double()
    w, Q = _solved(exact) or map(torch.from_numpy, np.linalg.eigh(exact.numpy(force=True)))
    return w.to(matrix), Q.to(matrix)


def eigh_of_several(
    matrices: Float[Tensor, "k d d"],
) -> tuple[Float[Tensor, "k d"], Float[Tensor, "k d d"]]:
    """``eigh`` of each of these, by one call of the solver where that succeeds."""
    if (found := _solved(matrices)) is not None:
        return found
    each = [eigh(matrix) for matrix in matrices]
    return torch.stack([w for w, _ in each]), torch.stack([Q for _, Q in each])


def _solved(matrix: Tensor) -> tuple[Tensor, Tensor] | None:
    """By torch, or None where its solver gives up or answers NaN of a finite matrix."""
    try:
        w, Q = torch.linalg.eigh(matrix)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]  # it is documented there
        return None
    return (w, Q) if all_finite(w) and all_finite(Q) else None
