"""How implementations lay out eigenvectors, eigenvalues and vec([W | b]): for ``Convention``."""

from collections.abc import Callable

import torch
from torch import Tensor

Layout = Callable[[Tensor, int, int], Tensor]
Bias = Callable[[Layout, int, int], Tensor]


def rows(x: Tensor, d_out: int, d_in: int) -> Tensor:
    """[d_out, d_in], or flat with the input running fastest."""
    if tuple(x.shape) not in {(d_out, d_in), (d_out * d_in,)}:
        raise ValueError(f"shape {list(x.shape)}, expected {[d_out, d_in]} or flat")
    return x.reshape(d_out, d_in)


def columns(x: Tensor, d_out: int, d_in: int) -> Tensor:
    """[d_in, d_out], or flat with the output running fastest."""
    return rows(x, d_in, d_out).T


def in_columns(Q: Tensor) -> Tensor:
    """An eigenvector is a column of its matrix, as ``eigh`` returns it."""
    return Q


def in_rows(Q: Tensor) -> Tensor:
    """An eigenvector is a row of its matrix, as in the ``Vh`` of an SVD."""
    return Q.T


def bias_last(vec: Layout, d_out: int, d_in: int) -> Tensor:
    """Where a vector holds the entries of [W | b]: the bias is the last input."""
    return vec(torch.arange(d_out * d_in), d_out, d_in)


def bias_first(vec: Layout, d_out: int, d_in: int) -> Tensor:
    """The same for [b | W]: the bias is the first input."""
    return bias_last(vec, d_out, d_in).roll(-1, 1)


def bias_behind(vec: Layout, d_out: int, d_in: int) -> Tensor:
    """The same for a vector with all of W first, then all of b, as ``parameters()`` lists them."""
    weights = d_out * (d_in - 1)
    behind = weights + torch.arange(d_out)
    return torch.cat([bias_last(vec, d_out, d_in - 1), behind[:, None]], 1)
