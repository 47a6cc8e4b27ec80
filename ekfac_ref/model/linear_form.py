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

from ekfac_ref.model.rewritten import rewritten

Op = Callable[..., Tensor]

CONVOLUTIONS: tuple[Op, ...] = (F.conv1d, F.conv2d, F.conv3d)
TRANSPOSED_CONVOLUTIONS: tuple[Op, ...] = (
    F.conv_transpose1d,
    F.conv_transpose2d,
    F.conv_transpose3d,
)
_CONV = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED = (*_CONV[:5], "output_padding", "groups", "dilation")
# op: names of its arguments, in order
LINEAR_IN_WEIGHT: dict[Op, tuple[str, ...]] = {
    F.linear: ("input", "weight", "bias"),
    F.bilinear: ("input1", "input2", "weight", "bias"),
    F.embedding: ("input", "weight", "padding_idx"),
    **dict.fromkeys(CONVOLUTIONS, _CONV),
    **dict.fromkeys(TRANSPOSED_CONVOLUTIONS, _TRANSPOSED),
}
_SPATIAL_AXES = dict(zip(CONVOLUTIONS + TRANSPOSED_CONVOLUTIONS, 2 * (1, 2, 3), strict=True))


@dataclass(frozen=True)
class Call:
    """One call of an op that is linear in its weight, its arguments by name."""

    op: Op
    arguments: dict[str, Any]

    @staticmethod
    def bind(op: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> "Call":
        """Name the positional arguments, which builtins cannot do themselves."""
        return Call(op, dict(zip(LINEAR_IN_WEIGHT[op], args, strict=False)) | kwargs)


def channels_last(call: Call, y: Shaped[Tensor, "..."]) -> Shaped[Tensor, "... d"]:
    """An output of the call, its channel axis moved behind those that count positions."""
    return y.movedim(-1 - _SPATIAL_AXES.get(call.op, 0), -1)


def layer_inputs(call: Call, groups: int) -> Shaped[Tensor, "T groups d_weight"]:
    """The a_t of one call, without the homogeneous coordinate of a bias."""
    weight = call.arguments["weight"]
    if call.op is F.linear:  # the identity weight would return the input itself
        return call.arguments["input"].reshape(-1, 1, weight.shape[1])
    d = to_matrix(call.op, weight, groups).shape[1]
    eye = torch.eye(d, dtype=weight.dtype, device=weight.device).repeat(groups, 1)
    identity = from_matrix(call.op, eye, weight.shape, groups)
    if call.arguments.get("padding_idx") is not None:
        identity[call.arguments["padding_idx"]] = 0  # the row that autograd never trains
    at_identity = {**call.arguments, "weight": identity}
    at_identity.pop("bias", None)
    return channels_last(call, rewritten(call.op)(**at_identity)).reshape(-1, groups, d)


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
