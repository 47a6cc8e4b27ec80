"""The curvature as plain values and tensors, and back, for a model with the same layers only."""

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ekfac_ref.errors import ProblemError
from ekfac_ref.matrix.lookup import LookupEigenKronecker
from ekfac_ref.matrix.operators import EigenKronecker
from ekfac_ref.model.forward import in_algebra_dtype
from ekfac_ref.model.layers import Layer
from ekfac_ref.optim.curvature import BlockState, Curvature
from ekfac_ref.optim.running import RunningMean

_TYPES = {"kind": str, "layers": dict, "updates": int, "scale": float, "blocks": dict}


def stored(kind: str, layers: tuple[Layer, ...], curvature: Curvature) -> dict[str, Any]:
    """What ``restored`` reads. The tensors are the curvature's own, which nobody ever writes to."""
    return {
        "kind": kind,
        "layers": {layer.name: _structure(layer) for layer in layers},
        "updates": curvature.updates,
        "scale": curvature.scale,
        "blocks": {key: _stored_block(block) for key, block in curvature.blocks.items()},
    }


def restored(kind: str, layers: tuple[Layer, ...], state: Mapping[str, Any]) -> Curvature:
    """The curvature that was stored, bit for bit, in tensors of its own."""
    try:
        found = {key: state[key] for key in _TYPES}
    except (KeyError, TypeError) as error:
        raise ProblemError(
            f"state: there is no {error} in it; pass what state_dict() of a {kind} returned."
        ) from error
    for key, of_type in _TYPES.items():
        if not isinstance(found[key], of_type):
            raise ProblemError(
                f"state: {key} is of type {type(found[key]).__name__}; the state is damaged, load "
                "another one."
            )
    if found["kind"] != kind:
        raise ProblemError(
            f"state: it is of a {found['kind']}; load it into one, not into a {kind}."
        )
    structures = {layer.name: _structure(layer) for layer in layers}
    _check_same_layers(found["layers"], structures)
    keys = [(layer.name, k) for layer in layers for k in range(layer.groups)]
    if found["updates"] == 0:
        return Curvature()
    by_name = {layer.name: layer for layer in layers}
    blocks = {key: _restored_block(key, by_name[key[0]], found["blocks"].get(key)) for key in keys}
    return Curvature(found["updates"], found["scale"], blocks)


def _structure(layer: Layer) -> dict[str, Any]:
    return {
        "parameters": list(layer.parameters),
        "shape": list(layer.shape),
        "groups": layer.groups,
        "dtype": str(layer.weight.dtype),
    }


def _check_same_layers(theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    if list(theirs) != list(ours):
        raise ProblemError(
            f"state: it has the layers {list(theirs)}, but this model {list(ours)}; load the state "
            "of the same model, with the same layers."
        )
    for name in ours:
        for what, own in ours[name].items():
            if theirs[name].get(what) != own:
                raise ProblemError(
                    f"state: layer {name!r} has {what} {theirs[name].get(what)} in it, but {own} "
                    "in this model; load the state of the same model."
                )


def _stored_block(block: BlockState) -> dict[str, Any]:
    E = block.operator
    return {
        "A": block.A.total,
        "A_count": block.A.count,
        "B": block.B.total,
        "B_count": block.B.count,
        "Q_A": None if isinstance(E, LookupEigenKronecker) else E.Q_A,  # the identity
        "Q_B": E.Q_B,
        "eigenvalues": E.eigenvalues,
    }


def _restored_block(key: tuple[str, int], layer: Layer, values: Any) -> BlockState:
    like = in_algebra_dtype(layer.weight.new_empty(()))
    d_out, d_in = layer.shape[0] // layer.groups, layer.shape[1]
    by_words = layer.op is F.embedding and values is not None and values.get("Q_A", ...) is None
    diagonal = by_words and isinstance(values.get("A"), Tensor) and values["A"].ndim == 1
    shapes: dict[str, tuple[int, ...]] = {
        "A": (d_in,) if diagonal else (d_in, d_in),
        "B": (d_out, d_out),
        "Q_A": (d_in, d_in),
        "Q_B": (d_out, d_out),
        "eigenvalues": (d_out, d_in),
    }
    if by_words:
        del shapes["Q_A"]
    tensors = {}
    for name, shape in shapes.items():
        value = None if values is None else values.get(name)
        if not isinstance(value, Tensor) or value.shape != shape or value.dtype != like.dtype:
            raise ProblemError(
                f"state: layer {key[0]!r}, group {key[1]}: {name} is not a tensor of {like.dtype} "
                f"{list(shape)}; the state is damaged, load another one."
            )
        tensors[name] = value.detach().to(like.device, copy=True)
    for name in ("A_count", "B_count"):
        if not isinstance(values.get(name), float):
            raise ProblemError(
                f"state: layer {key[0]!r}, group {key[1]}: {name} is not a number; the state is "
                "damaged, load another one."
            )
    A, B = (RunningMean(tensors[name], values[f"{name}_count"]) for name in ("A", "B"))
    Q_B, eigenvalues = tensors["Q_B"], tensors["eigenvalues"]
    if by_words:
        return BlockState(A, B, LookupEigenKronecker.of_all_words(Q_B, eigenvalues))
    return BlockState(A, B, EigenKronecker(Q_B, tensors["Q_A"], eigenvalues))
