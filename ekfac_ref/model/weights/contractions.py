r"""Contractions of two tensors, however they are written: which axes are one, and which go out.

torch.einsum("ti, io", [x, W])      "ti,io->to": the axes that are there once, A to Z, a to z
torch.tensordot(x, W, dims=1)       the last axis of x with the first of W
torch.tensordot(x, W, ([1], [0]))   axis 1 of x with axis 0 of W
torch.inner(x, V)                   the last axes of both
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from string import ascii_lowercase, ascii_uppercase
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Contraction:
    """Two tensors, and a letter for each of their axes; three dots stand for any others.

    Attributes:
        factors: the tensors.
        axes: their letters. What both have is one axis.
        out: the letters of the axes of the result; all others are summed over.
    """

    factors: tuple[Tensor, Tensor]
    axes: tuple[str, str]
    out: str


def contraction(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Contraction | None:
    """What the call computes, if torch computes it at all; None for another."""
    read = _READ.get(func)
    return None if read is None else read(*args, **kwargs)


def _of_einsum(equation: str, *given: Any) -> Contraction | None:
    operands = given[0] if len(given) == 1 and isinstance(given[0], (tuple, list)) else given
    inputs, arrow, out = equation.replace(" ", "").partition("->")
    axes = inputs.split(",")
    if len(axes) != 2 or len(operands) != 2:
        return None
    if not arrow:  # torch's order: the other axes first, then A to Z, then a to z
        once = sorted(axis for axis in inputs if axis.isalpha() and inputs.count(axis) == 1)
        out = "".join(["..." if "." in inputs else "", *once])
    return Contraction((operands[0], operands[1]), (axes[0], axes[1]), out)


def _of_tensordot(a: Tensor, b: Tensor, dims: Any, out: Any) -> Contraction | None:
    if out is not None or not isinstance(dims, (int, tuple, list)):
        return None
    return _of_pairs(a, b, *((range(-dims, 0), range(dims)) if isinstance(dims, int) else dims))


def _of_inner(input: Tensor, other: Tensor, out: Any = None) -> Contraction | None:
    scales = input.dim() == 0 or other.dim() == 0
    return None if scales or out is not None else _of_pairs(input, other, [-1], [-1])


def _of_pairs(a: Tensor, b: Tensor, first: Sequence[int], second: Sequence[int]) -> Contraction:
    """Each of the first axes, of a, is one with its partner of b, and summed over."""
    of_a, of_b = [*ascii_lowercase[: a.dim()]], [*ascii_uppercase[: b.dim()]]
    for i, j in zip(first, second, strict=True):
        of_b[j] = of_a[i]
    out = [axis for axis in of_a + of_b if axis not in of_a or axis not in of_b]
    return Contraction((a, b), ("".join(of_a), "".join(of_b)), "".join(out))


_READ: dict[Any, Callable[..., Contraction | None]] = {
    torch.functional.einsum: _of_einsum,
    torch.functional.tensordot: _of_tensordot,
    torch.inner: _of_inner,
    Tensor.inner: _of_inner,
}
