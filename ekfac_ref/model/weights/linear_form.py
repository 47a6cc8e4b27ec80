r"""Every layer as y = W a: the identity-weight trick.

A layer that is linear in its weight becomes a matrix product when it is evaluated **at the identity
weight**: ``op(x, identity)`` returns the a_t themselves, whatever the stride, padding or dilation,
because the op itself does the work. What "the identity" is depends only on how a kind of layer
stores its matrix (``layer_kinds.py``). It is the definition; convolutions, where that is a hundred
times the work, read their patches instead (``patches.py``).

Source of the view: Grosse & Martens 2016 (1602.01407), Dangel 2023 (2307.02275).
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Shaped
from torch import Tensor

from ekfac_ref.model.weights.layer_kinds import (
    ARGUMENTS_OF,
    CONVOLUTIONS,
    MATRIX_PRODUCTS,
    SPATIAL_AXES,
    Op,
    from_matrix,
    to_matrix,
)
from ekfac_ref.model.weights.patches import rows_of_patches


@dataclass(frozen=True)
class Call:
    """One call of an op that is linear in its weight, its arguments by name."""

    op: Op
    arguments: dict[str, Any]

    @staticmethod
    def bind(op: Op, args: tuple[Any, ...], kwargs: dict[str, Any]) -> "Call":
        """Name the positional arguments, which builtins cannot do themselves."""
        return Call(op, dict(zip(ARGUMENTS_OF[op], args, strict=False)) | kwargs)


def channels_last(call: Call, y: Shaped[Tensor, "..."]) -> Shaped[Tensor, "... d"]:
    """An output of the call, its channel axis moved behind those that count positions."""
    return y.movedim(-1 - SPATIAL_AXES.get(call.op, 0), -1)


def channels_in_place(call: Call, y: Shaped[Tensor, "... d"]) -> Shaped[Tensor, "..."]:
    """Undoes ``channels_last``, for any number of axes in front."""
    return y.movedim(-1, -1 - SPATIAL_AXES.get(call.op, 0))


def layer_inputs(
    call: Call, groups: int, one: float | None = None
) -> Shaped[Tensor, "T groups d_in"]:
    """The a_t of one call, with ``one`` as the last coordinate, if it is given, for the bias.

    Those of a lookup are [T, 1, 1], the number of the word that is one-hot, or -1 for no word. In
    memory of their own, for the forward may go on to write into its own input.
    """
    if call.op is F.embedding:
        words, padding = call.arguments["input"].long(), call.arguments.get("padding_idx")
        if padding is not None:  # the row that autograd never trains
            words = words.masked_fill(words == padding % len(call.arguments["weight"]), -1)
        return words.reshape(-1, 1, 1).clone()
    if call.op in MATRIX_PRODUCTS:  # the identity weight would return the input itself
        x: Tensor = call.arguments["input"]
        return _copied(x.reshape(-1, 1, x.shape[-1]), one)
    if call.op in CONVOLUTIONS:
        return rows_of_patches(call.arguments, groups, one)
    return _copied(at_identity_weight(call, groups), one)


def _copied(a: Shaped[Tensor, "T groups d"], one: float | None) -> Shaped[Tensor, "T groups d_in"]:
    """A copy, with ``one`` behind every row."""
    d = a.shape[-1]
    rows = a.new_empty(*a.shape[:-1], d + (one is not None))
    rows[..., :d] = a
    if one is not None:
        rows[..., d] = one
    return rows


def at_identity_weight(call: Call, groups: int) -> Shaped[Tensor, "T groups d_weight"]:
    """The a_t of one call, by the op itself: its definition, for every op that is not x W^T."""
    weight = call.arguments["weight"]
    d = to_matrix(call.op, weight, groups).shape[1]
    eye = torch.eye(d, dtype=weight.dtype, device=weight.device).repeat(groups, 1)
    identity = from_matrix(call.op, eye, weight.shape, groups)
    at_identity = {**call.arguments, "weight": identity}
    at_identity.pop("bias", None)
    return channels_last(call, call.op(**at_identity)).reshape(-1, groups, d)
