"""Eigenvectors of a symmetric matrix, also where LAPACK's float32 solver gives up."""

import torch
from jaxtyping import Float
from torch import Tensor


def eigh(matrix: Float[Tensor, "d d"]) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
    """Eigenvalues, ascending, and orthonormal eigenvectors as columns.

    The float32 divide-and-conquer solver fails to converge on some rank-deficient matrices (about 1
    in 300 Gram matrices of a handful of repetitive rows); float64 has not been seen to.
    """
    try:
        w, Q = torch.linalg.eigh(matrix)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]  # it is documented there
        if matrix.dtype == torch.float64:
            raise
        w, Q = torch.linalg.eigh(matrix.double())
    return w.to(matrix), Q.to(matrix)
