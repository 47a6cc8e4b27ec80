r"""Products with matrices that no module applies, as one op: y = F.linear(x, W, b).

A forward may hold a Parameter by itself, and multiply in any of torch's ways:

    x @ W,   W @ x,   x @ W.T + b,   torch.addmm(b, x, W),   torch.einsum("ti,oi->to", x, W) + b,
    F.linear(x, W[e], b[e]),   torch.bmm(x, W),             W and b of several experts

Each is ``F.linear`` of the input and of a view of the Parameter, whose strides say which part of it
it is, and whether it is transposed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Shaped
from torch import Tensor

from ekfac_ref.model.weights.attention import RowRange

_MATMUL = (torch.matmul, Tensor.matmul, torch.mm, Tensor.mm, torch.mv, Tensor.mv)
_BMM = (*_MATMUL[:2], torch.bmm, Tensor.bmm)
_ADDMM = (torch.addmm, Tensor.addmm)
_ADD = (torch.add, Tensor.add, Tensor.add_)
_OPERANDS = ("input", "mat1", "mat2", "other", "vec")  # as torch names them, in their order


@dataclass(frozen=True)
class AsLinear:
    """A call, done by ``F.linear`` alone.

    Attributes:
        matrices: what it multiplies with, each [out, in] and a view of a Parameter.
        run: returns what the call returns; of several matrices, a view of their outputs side by
            side, [..., matrices, *stacked, out].
        stacked: how many axes of those are behind the one that counts matrices.
    """

    matrices: tuple[Shaped[Tensor, "out in"], ...]
    run: Callable[[], Tensor]
    stacked: int = 1


def as_linear(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], ours: Callable[[Any], bool]
) -> AsLinear | None:
    """None for what is no product of an input with one operand that is ours."""
    if not {*kwargs} <= {*_OPERANDS}:
        return None
    args = (*args, *(kwargs[name] for name in _OPERANDS if name in kwargs))
    tensors = [x for x in args if isinstance(x, Tensor)]
    if len(tensors) < 2:
        return None
    *bias, x, W = tensors
    if ours(x) == ours(W):
        return None
    if func is torch.functional.einsum and not bias and isinstance(args[0], str):
        return _of_einsum(args[0], x, W) if ours(W) else _of_einsum(args[0], W, x, swapped=True)
    if func in _ADDMM and ours(W) and len(bias) == 1 and bias[0].dim() == 1:
        return AsLinear((W.mT,), partial(F.linear, x, W.mT, bias[0]))
    if bias or len(args) > 2 or func not in (*_MATMUL, *_BMM):
        return None
    return _times(x, W) if ours(W) else _from_the_left(x, W)


def _from_the_left(W: Tensor, x: Tensor) -> AsLinear | None:
    """W x, the columns of x being inputs."""
    if x.dim() == 1:
        return _times(x, W.mT) if W.dim() == 2 else None
    product = _times(x.mT, W.mT) if W.dim() > 1 else None
    return product and replace(product, run=lambda: product.run().mT)


def _times(x: Tensor, W: Tensor) -> AsLinear | None:
    """x W, the rows of x being inputs; [..., E or 1, T, in] times [E, in, out] matrix by matrix."""
    if W.dim() == 3 and len(W) == 1 and x.dim() > 1:
        x, W = x if x.dim() > 2 else x[None], W[0]
    if W.dim() == 2:
        return AsLinear((W.mT,), partial(F.linear, x, W.mT))
    x = x if x.dim() > 2 else x[None]
    if W.dim() != 3 or x.dim() < 3 or x.shape[-3] not in (1, len(W)):
        return None
    each = tuple(W.mT)

    def run() -> Tensor:
        inputs = x.expand(*x.shape[:-3], len(each), *x.shape[-2:]).unbind(-3)
        return torch.stack([*map(F.linear, inputs, each)], -3)

    return AsLinear(each, run)


def _of_einsum(equation: str, x: Tensor, W: Tensor, swapped: bool = False) -> AsLinear | None:
    """One axis of W is summed with one of x, one goes into the output; one in front may count W."""
    operands, _, out = equation.replace(" ", "").partition("->")
    of_x, _, of_W = operands.partition(",")
    if swapped:
        of_x, of_W = of_W, of_x
    e, pair, once = of_W[:-2], of_W[-2:], of_x.replace(".", "")
    summed, kept = set(pair) - set(out), set(pair) - set(of_x)
    if e not in out or len(e) > 1 or len(summed) != 1 or len(kept) != 1 or summed == kept:
        return None
    if len({*once}) < len(once):  # a diagonal
        return None
    sizes = dict(zip(of_W, W.shape, strict=True))
    if any(n != sizes.get(axis, n) for axis, n in _sizes(of_x, x)):  # one of them is repeated
        return None
    (i,), (o,) = summed, kept
    own, others = e if e in of_x else "", of_x.replace(i, "").replace(e or i, "")
    each = tuple(W) if e else (W,)
    matrices = each if pair == o + i else tuple(M.mT for M in each)

    def run() -> Tensor:
        rows = torch.einsum(f"{of_x}->{own}{others}{i}", x)
        inputs = rows if own else [rows] * len(each)
        y = torch.stack([*map(F.linear, inputs, matrices)]) if e else F.linear(rows, *matrices)
        return torch.einsum(f"{e}{others}{o}->{out}", y)

    return AsLinear(matrices, run, x.dim() - 1 - len(own))


def _sizes(axes: str, x: Tensor) -> Iterator[tuple[str, int]]:
    """The named axes of x with their lengths; an ellipsis stands for any others."""
    first, _, last = axes.partition("...")
    yield from zip(first, x.shape, strict=False)
    yield from zip(reversed(last), reversed(x.shape), strict=False)


def terms_of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """The two terms of a plain sum; none of another call."""
    return args if func in _ADD and len(args) == 2 and kwargs in ({}, {"alpha": 1}) else ()


def origin(x: Tensor) -> Tensor:
    """What x is a view of, or x itself."""
    return x if x._base is None else x._base


@dataclass(frozen=True)
class StoredMatrix:
    """A matrix within a Parameter of two axes, or of three with one matrix behind the other.

    Attributes:
        rows: which rows of the Parameter, its leading axes flattened; None for all of two axes.
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
    d, first = parameter.shape[-1], view.storage_offset() - parameter.storage_offset()
    for matrix, transposed in ((view, False), (view.mT, True)):
        (n, width), strides = matrix.shape, matrix.stride()
        fits = width == d and first % d == 0
        if fits and all(k == 1 or s == t for k, s, t in zip((n, d), strides, (d, 1), strict=True)):
            everything = parameter.dim() == 2 and n == len(parameter)
            return StoredMatrix(None if everything else (first // d, first // d + n), transposed)
    return None


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
