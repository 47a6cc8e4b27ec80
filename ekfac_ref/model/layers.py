"""Which parameters make up which layer, and an error for every trainable one that none covers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from ekfac_ref.errors import ProblemError
from ekfac_ref.model.linear.layer_kinds import NO_GRADIENT, OP_OF, Op, from_matrix, op_of, to_matrix
from ekfac_ref.model.refusals.ties import (
    check_no_shared_memory,
    groups_of,
    no_one_matrix,
    trainable_bias,
)


@dataclass(frozen=True, eq=False)
class Layer:
    """One trainable weight, all the modules that use it, and their bias; or any one parameter.

    Attributes:
        name: of the first module that owns the weight.
        op: the function that applies the weight; None for a parameter of no supported module,
            which is a row vector here.
        weight: the Parameter itself.
        bias: the bias Parameter, where there is one and it is trainable.
        parameters: names of weight and bias in ``model.named_parameters()``.
        groups: of a grouped convolution, else 1.
    """

    name: str
    op: Op | None
    weight: Tensor
    bias: Tensor | None
    parameters: tuple[str, ...]
    groups: int

    @property
    def shape(self) -> tuple[int, int]:
        """[d_out, d_in] of [W | b], all groups."""
        d_out, d_weight = to_matrix(self.op, self.weight, self.groups).shape
        return d_out, d_weight + (self.bias is not None)

    def to_matrix(self, tensors: dict[str, Tensor]) -> Shaped[Tensor, "d_out d_in"]:
        """[W | b] from tensors (values, gradients) named and shaped like the Parameters."""
        matrix = to_matrix(self.op, tensors[self.parameters[0]], self.groups)
        if self.bias is None:
            return matrix
        return torch.cat([matrix, tensors[self.parameters[1]][:, None]], 1)

    def from_matrix(self, matrix: Shaped[Tensor, "d_out d_in"]) -> dict[str, Tensor]:
        """Tensors named and shaped like the Parameters, from [W | b]; undoes ``to_matrix``."""
        d_weight = matrix.shape[1] - (self.bias is not None)
        weight = from_matrix(self.op, matrix[:, :d_weight], self.weight.shape, self.groups)
        tensors = (weight,) if self.bias is None else (weight, matrix[:, -1])
        return dict(zip(self.parameters, tensors, strict=True))


Names = tuple[str, ...]
Owners = list[tuple[str, nn.Module]]  # the modules that one weight is in


def find_layers(
    model: nn.Module, names: Names | None = None, that_run: Callable[[], Names] | None = None
) -> tuple[Layer, ...]:
    """The layers of the model with a trainable weight, in the order of ``named_modules``.

    With names given, those alone; without, all of them, and every trainable parameter must belong
    to one. A frozen weight is left alone; a frozen bias is a constant, not a coordinate.

    ``that_run``: which layers to advise naming, where not all parameters belong to one; tried on
    data if there is any.
    """
    modules = dict(model.named_modules())
    _check_names(model, modules, names or (), given=names is not None)
    parameter_names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}

    def advised() -> Names:
        found = callable_layers(model) if that_run is None else that_run()
        return tuple(name for name in found if names is None or name in names) or found

    layers = []
    for weight, owners in _owners(modules, names).items():
        if tie := no_one_matrix(owners):
            raise ProblemError(
                f"{tie}; untie them, or leave the weight out by {naming(advised())}. "
                "(per_sample_gradients and exact_fisher have it: G is the sum over its uses.)"
            )
        layers.append(_layer(weight, owners, parameter_names))
    if names is None and (parameter := next(iter(_uncovered(model, layers)), None)):
        owner = type(modules[parameter.rpartition(".")[0]]).__name__
        raise ProblemError(
            f"parameter {parameter!r} (of a {owner}) is trainable, but no supported layer covers "
            f"it; freeze it, or say that it is left out by {naming(advised())}."
        )
    return _checked(model, layers)


def find_parameters(
    model: nn.Module, names: Names | None = None, that_run: Callable[[], Names] | None = None
) -> tuple[Layer, ...]:
    """What gradients alone are defined for: all layers, and every other trainable parameter.

    A parameter that no layer covers is a row vector, [1, entries], under its own name, and can be
    named in ``names`` like a layer. A weight that its modules read in different orientations is one
    layer, in that of the module that has a bias, or else of the first; a bias of two layers is in
    the first.
    """
    modules = dict(model.named_modules())
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    of_modules = None if names is None else tuple(n for n in names if n not in parameters)
    _check_names(model, modules, of_modules or (), given=names is not None and not names)
    parameter_names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}
    layers: list[Layer] = []
    for weight, owners in _owners(modules, of_modules).items():
        layer = _layer(weight, owners, parameter_names)
        if layer.bias is not None and any(layer.bias is other.bias for other in layers):
            layer = replace(layer, bias=None, parameters=layer.parameters[:1])
        layers.append(layer)
    alone = _uncovered(model, layers) if names is None else [n for n in names if n in parameters]
    layers += [Layer(name, None, parameters[name], None, (name,), 1) for name in alone]
    return _checked(model, layers)


def _owners(modules: dict[str, nn.Module], names: Names | None) -> dict[Tensor, Owners]:
    owners: dict[Tensor, Owners] = {}
    for name, module in modules.items():
        weight = getattr(module, "weight", None)
        if op_of(module) is not None and isinstance(weight, nn.Parameter) and weight.requires_grad:
            owners.setdefault(weight, []).append((name, module))
    return {
        weight: those
        for weight, those in owners.items()
        if names is None or any(name in names for name, _ in those)
    }


def _checked(model: nn.Module, layers: list[Layer]) -> tuple[Layer, ...]:
    check_no_shared_memory(model, {name for layer in layers for name in layer.parameters})
    if not layers:
        raise ProblemError(
            "layers: the model has no supported layer with a trainable weight; call "
            "requires_grad_(True) on what you want the curvature of."
        )
    return tuple(layers)


def naming(layers: Names) -> str:
    """How to go on with these layers alone."""
    if layers:
        return f"naming the layers to treat: Problem(layers={layers!r})"
    kinds = ", ".join(kind.__name__ for kind in OP_OF)
    return (
        f"naming the layers to treat, of which there is none here: build the model of {kinds}, "
        "and pass it as it was before torch.jit, torch.export or a quantizer"
    )


def callable_layers(model: nn.Module) -> Names:
    """The names of all supported layers with a trainable weight that are called as modules.

    Attention calls its ``out_proj`` by a function of its own, which no layer is seen in. Nor is a
    weight one layer that its modules read in different orientations.
    """
    modules = dict(model.named_modules())
    return tuple(
        name
        for owners in _owners(modules, None).values()
        if no_one_matrix(owners) is None
        for name, module in owners
        if not isinstance(module, nn.modules.linear.NonDynamicallyQuantizableLinear)
    )


def _layer(weight: Tensor, owners: Owners, parameter_names: dict[Tensor, str]) -> Layer:
    for name, module in owners:
        refuse_options(name, type(module).__name__, vars(module))
    with_bias = [module for _, module in owners if trainable_bias(module) is not None]
    biases = {trainable_bias(module) for module in with_bias}
    # different ones are no column of one matrix, but parameters by themselves
    bias = biases.pop() if len(biases) == 1 else None
    module = with_bias[0] if bias is not None else owners[0][1]
    tensors = [weight] if bias is None else [weight, bias]
    named = tuple(parameter_names[tensor] for tensor in tensors)
    return Layer(owners[0][0], op_of(module), weight, bias, named, groups_of(module))


def refuse_options(name: str, kind: str, options: Mapping[str, Any]) -> None:
    """Raise a ProblemError for an option of a lookup, module or op, that changes its gradient."""
    for option in NO_GRADIENT:
        if options.get(option):
            raise ProblemError(
                f"layer {name!r}: {kind} with {option} has no per-sample gradient of the usual "
                f"form; switch {option} off, or name the other layers in Problem(layers=...)."
            )


def _check_names(
    model: nn.Module, modules: dict[str, nn.Module], names: Names, given: bool
) -> None:
    supported = [n for n, m in modules.items() if op_of(m) is not None]
    if given and not names:
        raise ProblemError(
            f"layers: no name is given; choose among {supported}, or leave layers=None."
        )
    for name in names:
        if name in dict(model.named_parameters()):
            raise ProblemError(
                f"layers: {name!r} is a parameter, for which per_sample_gradients and exact_fisher "
                f"are defined if it is trainable, and factors are not; choose among {supported}."
            )
        if name not in modules:
            raise ProblemError(f"layers: there is no module {name!r}; choose among {supported}.")
        if op_of(modules[name]) is None:
            own = tuple(
                f"{name}.{part}" for part, _ in modules[name].named_parameters(recurse=False)
            )
            raise ProblemError(
                f"layers: {name!r} is a {type(modules[name]).__name__}, which is not linear in one "
                f"weight; choose among {supported}"
                + (f", or name its parameters for exact_fisher alone, {own}." if own else ".")
            )
        if not isinstance(modules[name].weight, nn.Parameter):
            raise ProblemError(
                f"layers: the weight of {name!r} is computed from other parameters, not one "
                "itself; undo that (parametrize.remove_parametrizations, prune.remove), or leave "
                "the name out."
            )
        if not modules[name].weight.requires_grad:
            raise ProblemError(
                f"layers: the weight of {name!r} is frozen; call requires_grad_(True) on it, or "
                "leave the name out."
            )


def _uncovered(model: nn.Module, layers: list[Layer]) -> list[str]:
    covered = {name for layer in layers for name in layer.parameters}
    trainable = (name for name, p in model.named_parameters() if p.requires_grad)
    return [name for name in trainable if name not in covered]
