"""Which part of a Parameter a view of it is: its strides tell, and whether it is transposed."""

from dataclasses import dataclass
from math import prod
from typing import Any

from jaxtyping import Shaped
from torch import Tensor

from ekfac_ref.model.weights.attention import RowRange


def origin(x: Tensor) -> Tensor:
    """What x is a view of, or x itself."""
    return x if x._base is None else x._base


def as_stored(x: Any) -> Any:
    """What x is a view of, if it shows all of that in its own shape; or else x itself.

    ``W.squeeze(1).unsqueeze(1)`` is W, if that has an axis of length 1 there.
    """
    W = origin(x) if isinstance(x, Tensor) else x
    if W is x or x.shape != W.shape or x.storage_offset() != W.storage_offset():
        return x
    return W if _has_steps(x, W.stride()) else x


@dataclass(frozen=True)
class StoredMatrix:
    """A matrix within a Parameter of two axes, or of three.

    Attributes:
        rows: which rows of the Parameter, its leading axes flattened; None for all of it, the axes
            behind the first flattened.
        transposed: whether the matrix is the transpose of these rows.
    """

    rows: RowRange
    transposed: bool


def stored_in(parameter: Tensor, view: Tensor) -> StoredMatrix | None:
    """Which part of the Parameter a view of it with two axes is; None for what is no matrix."""
    if view.dim() != 2 or parameter.dim() not in (2, 3):
        return None
    if not parameter.is_contiguous():  # kept by columns: all of it, or nothing
        both = {_where(parameter): False, _where(parameter.mT): True}
        return StoredMatrix(None, both[_where(view)]) if _where(view) in both else None
    first = view.storage_offset() - parameter.storage_offset()
    for matrix, transposed in ((view, False), (view.mT, True)):
        rows, width = matrix.shape
        d, everything = parameter.shape[-1], prod(parameter.shape[1:])
        if width == d and first % d == 0 and _has_strides(matrix, d):
            whole = parameter.dim() == 2 and rows == len(parameter)
            return StoredMatrix(None if whole else (first // d, first // d + rows), transposed)
        if matrix.shape == (len(parameter), everything) and _has_strides(matrix, everything):
            return StoredMatrix(None, transposed)
    return None


def _has_strides(matrix: Tensor, width: int) -> bool:
    """Whether rows of so many entries follow one another."""
    return _has_steps(matrix, (width, 1))


def _has_steps(x: Tensor, wanted: tuple[int, ...]) -> bool:
    """Whether these are its strides; an axis of length 1 may have any."""
    triples = zip(x.shape, x.stride(), wanted, strict=True)
    return all(n == 1 or step == own for n, step, own in triples)


def _where(x: Tensor) -> tuple[Any, ...]:
    return x.storage_offset(), x.shape, x.stride()


def is_run(x: Any) -> bool:
    """Whether it is a vector of entries that follow one another in memory."""
    return isinstance(x, Tensor) and x.dim() == 1 and (len(x) == 1 or x.stride(0) == 1)


def entries_in(parameter: Tensor, run: Shaped[Tensor, " n"]) -> RowRange:
    """Which entries of the Parameter a run of them is, (first, behind the last); None for all.

    All are a vector: of several, or of one in a stack, their places are told.
    """
    first = int(run.storage_offset() - parameter.storage_offset())
    everything = parameter.dim() == 1 and len(run) == len(parameter)
    return None if everything else (first, first + len(run))
