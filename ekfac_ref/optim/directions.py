r"""From gradients to directions: x = (scale E + damping I)^-1 g, layer by layer."""

from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from ekfac_ref.errors import ProblemError, enough_memory
from ekfac_ref.matrix.operators import Operator
from ekfac_ref.model.forward import in_algebra_dtype
from ekfac_ref.model.layers import Layer
from ekfac_ref.question.finite import all_finite


@torch.no_grad()
@enough_memory()
def directions(
    layers: tuple[Layer, ...],
    operators: Mapping[str, Operator],
    gradients: Mapping[str, Tensor],
    dampings: Mapping[str, float],
) -> dict[str, Tensor]:
    """New tensors under the names of ``gradients``, which were checked.

    Args:
        layers: a layer that has no gradients is skipped.
        operators: {layer: operator}, in units of the loss.
        gradients: {parameter name: gradient}. Those of no layer come back unchanged.
        dampings: {layer: damping}.
    """
    for damping in dampings.values():
        if not is_number(damping):
            raise ProblemError(
                f"damping: {damping!r} is not a number; pass one in units of the loss's own "
                "curvature, 1e-3 say."
            )
    found = {name: gradient.clone() for name, gradient in gradients.items()}
    for layer in layers:
        if layer.parameters[0] not in gradients:
            continue
        V = in_algebra_dtype(layer.to_matrix(dict(gradients)))
        try:
            with torch.autocast(V.device.type, enabled=False):  # which would round
                x = operators[layer.name].solve(V, damping=dampings[layer.name])
        except ProblemError as error:
            raise ProblemError(f"layer {layer.name!r}: {error}") from error
        for name, part in layer.from_matrix(x, found).items():
            found[name] = part.to(gradients[name].dtype).contiguous()
    return found


def is_number(value: Any) -> bool:
    """Whether it is one real number, or a tensor that holds one."""
    return isinstance(value, Real) or (isinstance(value, Tensor) and value.numel() == 1)


def check_gradients(
    layers: tuple[Layer, ...],
    parameters: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
) -> None:
    """Raise a ProblemError unless they are finite, shaped like the parameters, and whole layers."""
    for name, gradient in gradients.items():
        if name not in parameters:
            raise ProblemError(
                f"gradients: the model has no parameter {name!r}; use the names of "
                "model.named_parameters()."
            )
        _check_like(name, parameters[name], gradient)
        if not all_finite(gradient):
            raise ProblemError(
                f"gradients: NaN or infinity in that of {name!r}; leave this step out "
                "(zero_grad()), and look at the batch and at the learning rate."
            )
    for layer in layers:
        given = [name for name in layer.parameters if name in gradients]
        missing = [name for name in layer.parameters if name not in gradients]
        if given and missing:
            raise ProblemError(
                f"gradients: there is one for {given[0]!r}, but none for {missing[0]!r}, and the "
                f"layer {layer.name!r} is preconditioned as one matrix [W | b]; give both or "
                "neither."
            )


def check_all_given(layers: tuple[Layer, ...], gradients: Mapping[str, Tensor]) -> None:
    """Raise a ProblemError where a layer has none."""
    for layer in layers:
        if layer.parameters[0] not in gradients:
            raise ProblemError(
                f"gradients: there is none for {layer.parameters[0]!r}; give one for every "
                f"parameter of the layers {[layer.name for layer in layers]}."
            )


def _check_like(name: str, parameter: Tensor, gradient: Tensor) -> None:
    got, wanted = ((list(x.shape), x.dtype, x.device, x.layout) for x in (gradient, parameter))
    if got != wanted:
        what = next((g, w) for g, w in zip(got, wanted, strict=True) if g != w)
        raise ProblemError(
            f"gradients: that of {name!r} has {what[0]}, but the parameter {what[1]}; give each "
            "gradient the shape, dtype, device and layout of its parameter."
        )
