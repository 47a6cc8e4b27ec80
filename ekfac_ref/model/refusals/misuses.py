"""Uses of a layer's weight for which there is no g a^T: in another op, with another weight."""

from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import resolve_name

from ekfac_ref.errors import ProblemError
from ekfac_ref.model.layers import Layer, refuse_options
from ekfac_ref.model.weights.attention import projection
from ekfac_ref.model.weights.layer_kinds import ARGUMENTS_OF, LOOKUPS
from ekfac_ref.model.weights.linear_form import Call
from ekfac_ref.question.one_hot import LARGE_VOCABULARY


class LayerRefused(ProblemError):
    """One layer cannot be treated; the others may be."""


def check_together(layer: Layer, call: Call, owner_of_bias: Layer) -> None:
    """Raise a LayerRefused where weight and bias are not one matrix [W | b]."""
    if call.op is torch.addmm and {*call.arguments} != {*ARGUMENTS_OF[torch.addmm]}:
        raise LayerRefused(
            f"layer {layer.name!r}: it calls torch.addmm with beta, alpha or names of arguments; "
            "call torch.addmm(bias, input, weight), and scale the input or the output instead."
        )
    groups = call.arguments.get("groups", 1)
    if groups != layer.groups:
        raise LayerRefused(
            f"layer {layer.name!r}: it is called in {groups} groups, and elsewhere in "
            f"{layer.groups}, so it has no one matrix for each; give each its own weight."
        )
    if call.op is F.embedding_bag and layer.shape[1] > LARGE_VOCABULARY:
        raise LayerRefused(
            f"layer {layer.name!r}: A of bags of {layer.shape[1]} words is a matrix on all of "
            f"them, where there may be {LARGE_VOCABULARY}; sum up the outputs of an Embedding "
            "instead, whose words are positions of their own."
        )
    if call.arguments["weight"] is not layer.weight or owner_of_bias is not layer:
        raise LayerRefused(
            f"layer {owner_of_bias.name!r}: its weight or bias is used together with another "
            "weight, so there is no one matrix [W | b]; give the other weight a bias of its own."
        )


def check_inputs(layer: Layer, call: Call) -> None:
    """Raise a ProblemError for an option or a dtype of inputs under which there is no gradient."""
    if call.op in LOOKUPS:
        name = "F.embedding" if call.op is F.embedding else "F.embedding_bag"
        refuse_options(layer.name, name, call.arguments)
    autocast = torch.is_autocast_enabled(layer.weight.device.type)
    for name in ("input", "input1", "input2"):
        x = call.arguments.get(name)
        integer_wanted = call.op in LOOKUPS
        if x is not None and integer_wanted == x.dtype.is_floating_point:
            wanted = "integer indices" if integer_wanted else f"inputs of {layer.weight.dtype}"
            raise ProblemError(
                f"layer {layer.name!r}: it was given {x.dtype}, but takes {wanted}; convert the "
                "data."
            )
        as_it_is = integer_wanted or autocast
        if x is not None and not as_it_is and x.dtype != layer.weight.dtype:
            raise ProblemError(
                f"layer {layer.name!r}: inputs are {x.dtype}, its weight {layer.weight.dtype}; "
                f"convert the data with .to({layer.weight.dtype}) or the model alike."
            )


def refuse_op(layer: Layer, func: Any, scaled: bool) -> None:
    """Raise a LayerRefused where a weight or bias is computed with in another op.

    ``scaled``: after it was multiplied by a number, which only some ops are read with.
    """
    assert layer.op is not None
    if _writes(func):
        raise ProblemError(
            f"layer {layer.name!r}: the forward writes into its weight or bias ({_name(func)}); do "
            "that outside of forward, or, where only the first call does it, call the model once "
            "before, in the mode in which it is meant."
        )
    what = "outside the layer's own op"
    if scaled:
        what = "after it was multiplied by a number"
    elif func is layer.op:
        what = "transposed, or in part"
    elif func in ARGUMENTS_OF and projection not in (func, layer.op):
        what = "in two orientations: it is tied between ops"
    raise LayerRefused(
        f"layer {layer.name!r}: its weight or bias is used {what} ({_name(func)}, expected "
        f"{_name(layer.op)}); call the module itself, untie it, or leave it out by naming "
        "the other layers in Problem(layers=...)."
    )


def _writes(func: Any) -> bool:
    """Whether it writes into what it is given, by torch's rule for names."""
    name = func.__name__
    return name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))


def _name(func: Any) -> str | None:
    return resolve_name(F.multi_head_attention_forward if func is projection else func)
