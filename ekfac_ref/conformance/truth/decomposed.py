"""Eigenpairs of matrices, looked up where an equal one was decomposed before.

Mutants differ in one step, so most of them decompose the factors that others have, and in every
turn of the eigenvectors the same again.
"""

from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

from ekfac_ref.matrix.eigen import eigh


@dataclass(frozen=True)
class _Known:
    """A matrix that equals every one with the same bits."""

    numbers: bytes
    shape: torch.Size
    dtype: torch.dtype
    matrix: Tensor = field(compare=False)


def decomposed(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """``eigh`` of a matrix [d, d]; what is returned is the caller's own."""
    numbers = matrix.numpy(force=True).tobytes()
    w, Q = _decomposed(_Known(numbers, matrix.shape, matrix.dtype, matrix))
    return w.clone(), Q.clone()


@lru_cache(maxsize=256)  # of some kilobytes each
def _decomposed(known: _Known) -> tuple[Tensor, Tensor]:
    return eigh(known.matrix)
