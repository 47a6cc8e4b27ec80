"""Eigenvectors of a symmetric matrix, also where LAPACK's float32 solver does not find them."""

import torch
from jaxtyping import Float
from torch import Tensor


def eigh(matrix: Float[Tensor, "d d"]) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
    """Eigenvalues, ascending, and orthonormal eigenvectors as columns.

    The float32 divide-and-conquer solver fails on some rank-deficient matrices, with an error
    (about 1 in 300 Gram matrices of a handful of repetitive rows) or in silence, with NaN among the
    eigenvalues of a finite matrix (seen of a 66 x 66 one of rank 2). float64 has not been seen to.
    """
    try:
        w, Q = torch.linalg.eigh(matrix)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]  # it is documented there
        if matrix.dtype == torch.float64:
            raise
    else:
        if matrix.dtype == torch.float64 or (w.isfinite().all() and Q.isfinite().all()):
            return w, Q
    w, Q = torch.linalg.eigh(matrix.double())
    return w.to(matrix), Q.to(matrix)
