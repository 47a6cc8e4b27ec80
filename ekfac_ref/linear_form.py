r"""Every layer as y = W a: the identity-weight trick, and the two layout functions.

A layer that is linear in its weight becomes a matrix product when it is evaluated **at the identity
weight**: ``op(x, identity)`` returns the a_t themselves, whatever the stride, padding or dilation,
because the op itself does the work. What "the identity" is depends only on how a kind of layer
stores the matrix [d_out, d_in] in its Parameter, and that is what ``to_matrix`` and ``from_matrix``
know, and nobody else:

==================  =========================  ==================================================
op                  Parameter                  matrix
==================  =========================  ==================================================
linear              [out, in]                  as it is
bilinear            [out, in1, in2]            [out, in1 in2]
conv                [out, in/groups, *k]       [out, in/groups k], rows group by group
conv_transpose      [in, out/groups, *k]       [out, in/groups k], rows group by group
embedding           [vocabulary, out]          its transpose; a_t is one-hot, 0 at padding_idx
==================  =========================  ==================================================

Source of the view: Grosse & Martens 2016 (1602.01407), Dangel 2023 (2307.02275).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Shaped
from torch import Tensor

Op = Callable[..., Tensor]

_CONV = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED = (*_CONV[:5], "output_padding", "groups", "dilation")
_ARGUMENTS: dict[Op, tuple[str, ...]] = {
    F.linear: ("input", "weight", "bias"),
    F.bilinear: ("input1", "input2", "weight", "bias"),
    F.conv1d: _CONV,
    F.conv2d: _CONV,
    F.conv3d: _CONV,
    F.conv_transpose1d: _TRANSPOSED,
    F.conv_transpose2d: _TRANSPOSED,
    F.conv_transpose3d: _TRANSPOSED,
    F.embedding: ("input", "weight", "padding_idx"),
}
_SPATIAL_AXES: dict[Op, int] = {
    F.conv1d: 1,
    F.conv2d: 2,
    F.conv3d: 3,
    F.conv_transpose1d: 1,
    F.conv_transpose2d: 2,
    F.conv_transpose3d: 3,
}
TRANSPOSED_CONVOLUTIONS = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


@dataclass(frozen=True)
class Call:
    """One call of an op that is linear in its weight, its arguments by name."""

    op: Op
    arguments: dict[str, Any]

    @staticmethod
    def bind(op: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> "Call":
        """Name the positional arguments, which builtins cannot do themselves."""
        return Call(op, dict(zip(_ARGUMENTS[op], args, strict=False)) | kwargs)


def is_linear_in_weight(op: Op) -> bool:
    """Whether the op is one of those that this file knows."""
    return op in _ARGUMENTS


def positions(call: Call, y: Shaped[Tensor, "..."]) -> tuple[Shaped[Tensor, "T d"], torch.Size]:
    """An output of the call as one row per position, and the axes the positions came from."""
    channel = -1 - _SPATIAL_AXES.get(call.op, 0)
    y = y.movedim(channel, -1)
    return y.reshape(-1, y.shape[-1]), y.shape[:-1]


def layer_inputs(call: Call, groups: int) -> Shaped[Tensor, "T groups d_weight"]:
    """The a_t of one call, without the homogeneous coordinate of a bias."""
    weight = call.arguments["weight"]
    if call.op is F.linear:  # the identity weight would return the input itself
        return call.arguments["input"].reshape(-1, 1, weight.shape[1]).clone()
    d = to_matrix(call.op, weight, groups).shape[1]
    eye = torch.eye(d, dtype=weight.dtype, device=weight.device).repeat(groups, 1)
    identity = from_matrix(call.op, eye, weight.shape, groups)
    if call.arguments.get("padding_idx") is not None:
        identity[call.arguments["padding_idx"]] = 0  # the row that autograd never trains
    at_identity = {**call.arguments, "weight": identity}
    at_identity.pop("bias", None)
    return positions(call, call.op(**at_identity))[0].reshape(-1, groups, d)


def to_matrix(
    op: Op, weight: Shaped[Tensor, "..."], groups: int
) -> Shaped[Tensor, "d_out d_weight"]:
    """The Parameter (or its gradient) as the matrix that multiplies a; groups stacked as rows."""
    if op is F.embedding:
        return weight.T
    if op in TRANSPOSED_CONVOLUTIONS:
        by_group = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
        return by_group.transpose(1, 2).flatten(0, 1).flatten(1)
    return weight.flatten(1)


def from_matrix(
    op: Op, matrix: Shaped[Tensor, "d_out d_weight"], shape: torch.Size, groups: int
) -> Shaped[Tensor, "..."]:
    """The inverse of ``to_matrix``: shape is the Parameter's; only d_out may differ from it."""
    if op is F.embedding:
        return matrix.T.contiguous()
    if op in TRANSPOSED_CONVOLUTIONS:
        by_group = matrix.reshape(groups, -1, shape[0] // groups, *shape[2:])
        return by_group.transpose(1, 2).flatten(0, 1)
    return matrix.reshape(-1, *shape[1:])
