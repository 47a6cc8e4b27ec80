"""Eigenvectors of the factors, which are free to be in any order and to have any signs.

Some mistakes depend on these, and then are made with every one, to be told whoever makes them.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

import torch
from torch import Tensor

from ekfac_ref.conformance.truth.decomposed import decomposed

Turn = tuple[list[int], list[float]]  # an order of eigenvectors, and then a sign of each
_turns: ContextVar[Mapping[int, Turn]] = ContextVar("turns", default=MappingProxyType({}))


@contextmanager
def turned(turns: Mapping[int, Turn]) -> Iterator[None]:
    """Within it, eigenvectors of a factor [d, d] come in the order and with the signs of d."""
    token = _turns.set(turns)
    try:
        yield
    finally:
        _turns.reset(token)


def eigenpairs(factor: Tensor) -> tuple[Tensor, Tensor]:
    """(w, Q) of a factor [d, d], eigenvectors as columns; ascending, unless they are ``turned``."""
    w, Q = decomposed(factor)
    if len(w) not in _turns.get():
        return w, Q
    order, signs = _turns.get()[len(w)]
    return w[order], Q[:, order] * torch.tensor(signs, dtype=Q.dtype)


def eigenvectors(factor: Tensor) -> Tensor:
    """Q, the orthonormal eigenvectors of a factor [d, d] as columns."""
    return eigenpairs(factor)[1]
