r"""Products with matrices that no module applies, as one op: y = F.linear(x, W, b).

A forward may hold a Parameter by itself, and multiply in any of torch's ways:

    x @ W,   W @ x,   x @ W.T + b,   torch.addmm(b, x, W),   torch.einsum("ti,oi->to", x, W) + b,
    torch.tensordot(x, W, 1),   torch.inner(x, V),   torch.addmv(b, V, x),
    F.linear(x, W[e], b[e]),   torch.baddbmm(b, x, W),      W and b of several experts

Each is ``F.linear`` of the input and of a view of the Parameter (``views.py``). Of three axes, the
first may count matrices, or two are one side of a single matrix: ``einsum("ti,ihd->thd", x, W)``.
What einsum, tensordot and inner contract is in ``contractions.py``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Shaped
from torch import Tensor

from ekfac_ref.model.weights.contractions import contraction

_OF_TENSORS = (Tensor.matmul, Tensor.mm, Tensor.mv, Tensor.bmm)
_PRODUCTS = (torch.matmul, torch.linalg.matmul, torch.mm, torch.mv, torch.bmm, *_OF_TENSORS)
_ADDMM = (torch.addmm, Tensor.addmm)
_UNROUNDED = (torch.mv, Tensor.mv)  # by autocast, which does round what F.linear is given
# a bias, two factors: what multiplies these
_BIASED: dict[Any, Callable[..., Tensor]] = {
    **dict.fromkeys((torch.addmv, Tensor.addmv), torch.mv),
    **dict.fromkeys((torch.baddbmm, Tensor.baddbmm), torch.bmm),
}
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
    contracted = contraction(func, args, kwargs)
    if contracted is not None:
        (a, b), (of_a, of_b), out = contracted.factors, contracted.axes, contracted.out
        if ours(a) == ours(b):
            return None
        return _of_axes(of_a, a, of_b, b, out) if ours(b) else _of_axes(of_b, b, of_a, a, out)
    if not {*kwargs} <= {*_OPERANDS}:
        return None
    args = (*args, *(kwargs[name] for name in _OPERANDS if name in kwargs))
    tensors = [x for x in args if isinstance(x, Tensor)]
    if len(tensors) < 2:
        return None
    *bias, x, W = tensors
    if ours(x) == ours(W):
        return None
    if func in _ADDMM and ours(W) and len(bias) == 1 and bias[0].dim() == 1:
        return AsLinear((W.mT,), partial(F.linear, x, W.mT, bias[0]))
    if bias or len(args) > 2 or func not in _PRODUCTS:
        return None
    if func in _UNROUNDED and torch.is_autocast_enabled(W.device.type):
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


def _of_axes(of_x: str, x: Tensor, of_W: str, W: Tensor, out: str) -> AsLinear | None:
    """Some axes of W are summed with those of x, others go into the output; one may count W."""
    once = of_x.replace(".", "")
    if len({*once}) < len(once) or not len({*of_W}) == len(of_W) == W.dim():  # a diagonal
        return None
    sizes = dict(zip(of_W, W.shape, strict=True))
    if any(n != sizes.get(axis, n) for axis, n in _sizes(of_x, x)):  # one of them is repeated
        return None
    summed = "".join(axis for axis in of_W if axis in of_x and axis not in out)
    kept = "".join(axis for axis in of_W if axis in out and axis not in of_x)
    e, pair = of_W[:-2], of_W[-2:]
    if len(e) == 1 and e in out and {*pair} & {*summed} and {*pair} & {*kept}:
        return _of_stack(of_x, e, pair, out, x, W)
    if of_W not in (kept + summed, summed + kept) or not summed or not kept:
        return None
    others = "".join(axis for axis in of_x if axis not in summed)
    side = prod(sizes[axis] for axis in kept)
    matrix = W.reshape(side, -1) if of_W == kept + summed else W.reshape(-1, side).mT

    def run() -> Tensor:
        rows = torch.einsum(f"{of_x}->{others}{summed}", x).flatten(-len(summed))
        y = F.linear(rows, matrix).unflatten(-1, [sizes[axis] for axis in kept])
        return torch.einsum(f"{others}{kept}->{out}", y)

    return AsLinear((matrix,), run)


def _of_stack(of_x: str, e: str, pair: str, out: str, x: Tensor, W: Tensor) -> AsLinear:
    """Axis e counts matrices; of the others, one is summed and one goes into the output."""
    i, o = (pair[0], pair[1]) if pair[0] not in out else (pair[1], pair[0])
    own, others = e if e in of_x else "", of_x.replace(i, "").replace(e, "")
    each = tuple(W) if pair == o + i else tuple(W.mT)

    def run() -> Tensor:
        rows = torch.einsum(f"{of_x}->{own}{others}{i}", x)
        inputs = rows if own else [rows] * len(each)
        y = torch.stack([*map(F.linear, inputs, each)])
        return torch.einsum(f"{e}{others}{o}->{out}", y)

    return AsLinear(each, run, x.dim() - 1 - len(own))


def _sizes(axes: str, x: Tensor) -> Iterator[tuple[str, int]]:
    """The named axes of x with their lengths; an ellipsis stands for any others."""
    first, _, last = axes.partition("...")
    yield from zip(first, x.shape, strict=False)
    yield from zip(reversed(last), reversed(x.shape), strict=False)


def terms_of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """The two terms of a plain sum; none of another call."""
    return args if func in _ADD and len(args) == 2 and kwargs in ({}, {"alpha": 1}) else ()


def product_and_sum(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Callable[[], Tensor] | None:
    """The call in two ops, a product and a sum with its bias; None of another call.

    None under autocast, which would round in between.
    """
    if func not in _BIASED or len(args) != 3 or kwargs:
        return None
    if torch.is_autocast_enabled(args[0].device.type):
        return None

    def run() -> Tensor:
        y = _BIASED[func](*args[1:])
        return torch.add(y, args[0])

    return run
