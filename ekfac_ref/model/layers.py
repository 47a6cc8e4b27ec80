"""Which parameters make up which layer, and an error for every trainable one that none covers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from ekfac_ref.errors import ProblemError
from ekfac_ref.model.layer_kinds import NO_GRADIENT, OP_OF, Op, from_matrix, op_of, to_matrix


@dataclass(frozen=True, eq=False)
class Layer:
    """One trainable weight, all the modules that use it, and their bias.

    Attributes:
        name: of the first module that owns the weight.
        op: the function that applies the weight.
        weight: the Parameter itself.
        bias: the bias Parameter, where there is one and it is trainable.
        parameters: names of weight and bias in ``model.named_parameters()``.
        groups: of a grouped convolution, else 1.
    """

    name: str
    op: Op
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
    _check_names(model, modules, names)
    parameter_names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}
    owners: dict[Tensor, list[tuple[str, nn.Module]]] = {}
    for name, module in modules.items():
        weight = getattr(module, "weight", None)
        if op_of(module) is not None and isinstance(weight, nn.Parameter) and weight.requires_grad:
            owners.setdefault(weight, []).append((name, module))
    layers = tuple(
        _layer(weight, uses, parameter_names)
        for weight, uses in owners.items()
        if names is None or any(name in names for name, _ in uses)
    )
    if names is None and (parameter := _uncovered(model, layers)):
        advised = callable_layers(model) if that_run is None else that_run()
        owner = type(modules[parameter.rpartition(".")[0]]).__name__
        raise ProblemError(
            f"parameter {parameter!r} (of a {owner}) is trainable, but no supported layer covers "
            f"it; freeze it, or say that it is left out by {naming(advised)}."
        )
    _check_no_shared_memory(model, layers)
    if not layers:
        raise ProblemError(
            "layers: the model has no supported layer with a trainable weight; call "
            "requires_grad_(True) on what you want the curvature of."
        )
    return layers


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

    Attention calls its ``out_proj`` by a function of its own, which no layer is seen in.
    """
    return tuple(
        name
        for name, module in model.named_modules()
        if op_of(module) is not None
        and not isinstance(module, nn.modules.linear.NonDynamicallyQuantizableLinear)
        and isinstance(module.weight, nn.Parameter)
        and module.weight.requires_grad
    )


def _layer(
    weight: Tensor, uses: list[tuple[str, nn.Module]], parameter_names: dict[Tensor, str]
) -> Layer:
    name, first = uses[0]
    for other_name, other in uses:
        refuse_options(other_name, type(other).__name__, vars(other))
        if op_of(other) is not op_of(first) or _groups(other) != _groups(first):
            raise ProblemError(
                f"layer {name!r}: its weight is tied to {other_name!r}, a {type(other).__name__}, "
                f"which reads it in another orientation (or other groups) than {name!r}, a "
                f"{type(first).__name__}; untie them, or leave the weight out by naming the other "
                "layers in Problem(layers=...)."
            )
    biases = [bias for _, module in uses if (bias := _trainable_bias(module)) is not None]
    if any(bias is not biases[0] for bias in biases):
        raise ProblemError(
            f"layer {name!r}: its weight is tied across {[n for n, _ in uses]}, but their biases "
            "differ, so there is no one matrix [W | b]; tie the biases too, or drop them."
        )
    tensors = [weight, *biases[:1]]
    named = tuple(parameter_names[tensor] for tensor in tensors)
    op = op_of(first)
    assert op is not None
    return Layer(name, op, weight, biases[0] if biases else None, named, _groups(first))


def _groups(module: nn.Module) -> int:
    return int(getattr(module, "groups", 1))


def _trainable_bias(module: nn.Module) -> Tensor | None:
    bias = getattr(module, "bias", None)
    return bias if isinstance(bias, nn.Parameter) and bias.requires_grad else None


def refuse_options(name: str, kind: str, options: Mapping[str, Any]) -> None:
    """Raise a ProblemError for an option of a lookup, module or op, that changes its gradient."""
    for option in NO_GRADIENT:
        if options.get(option):
            raise ProblemError(
                f"layer {name!r}: {kind} with {option} has no per-sample gradient of the usual "
                f"form; switch {option} off, or name the other layers in Problem(layers=...)."
            )


def _check_names(
    model: nn.Module, modules: dict[str, nn.Module], names: tuple[str, ...] | None
) -> None:
    supported = [n for n, m in modules.items() if op_of(m) is not None]
    if names is not None and not names:
        raise ProblemError(
            f"layers: no name is given; choose among {supported}, or leave layers=None."
        )
    for name in names if names is not None else ():
        if name not in modules:
            raise ProblemError(f"layers: there is no module {name!r}; choose among {supported}.")
        if op_of(modules[name]) is None:
            raise ProblemError(
                f"layers: {name!r} is a {type(modules[name]).__name__}, which is not linear in one "
                f"weight; choose among {supported}."
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


def _uncovered(model: nn.Module, layers: tuple[Layer, ...]) -> str | None:
    covered = {name for layer in layers for name in layer.parameters}
    trainable = (name for name, p in model.named_parameters() if p.requires_grad)
    return next((name for name in trainable if name not in covered), None)


def _check_no_shared_memory(model: nn.Module, layers: tuple[Layer, ...]) -> None:
    """Two Parameters over the same memory (say, one a view of the other's transpose) are a tie
    that autograd does not see.
    """
    ours = {name for layer in layers for name in layer.parameters}
    dense = ((n, p) for n, p in model.named_parameters() if p.layout is torch.strided)
    spans = [(n, _span(p)) for n, p in dense if p.numel()]
    for (one, (start, end)), (two, (other_start, other_end)) in combinations(spans, 2):
        if (one in ours or two in ours) and start < other_end and other_start < end:
            raise ProblemError(
                f"parameter {two!r} shares its memory with {one!r} without being the same "
                "Parameter, so they are tied in a way that gradients cannot see (two orientations, "
                "say); give it memory of its own with .clone()."
            )


def _span(p: Tensor) -> tuple[int, int]:
    last = sum((size - 1) * stride for size, stride in zip(p.shape, p.stride(), strict=True))
    start = p.data_ptr()
    return start, start + (last + 1) * p.element_size()
