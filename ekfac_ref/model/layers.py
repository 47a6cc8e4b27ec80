"""Which parameters make up which layer, and an error for every trainable one that none covers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from ekfac_ref.errors import ProblemError
from ekfac_ref.model.refusals.names import check_names, naming
from ekfac_ref.model.refusals.ties import check_no_shared_memory, no_one_matrix
from ekfac_ref.model.weights.attention import RowRange, RowRanges, entries_of, rows_of
from ekfac_ref.model.weights.layer_kinds import NO_GRADIENT, Op, from_matrix, to_matrix
from ekfac_ref.model.weights.owned import BareWeight, Owned, owned_by


@dataclass(frozen=True, eq=False)
class Layer:
    """One trainable weight, all the modules that use it, and their bias; or any one parameter.

    An ``nn.MultiheadAttention`` has four, whichever way it stores them: ``"attention.q_proj"``,
    ``"attention.k_proj"``, ``"attention.v_proj"`` and ``"attention.out_proj"``. The first three
    share a Parameter, the bias's at least, and each has its own rows of it.

    Attributes:
        name: of the first module that owns the weight; of one of several weights of a module, see
            above.
        op: the function that applies the weight; None for a parameter that is none of a layer,
            which is a row vector here.
        weight: the Parameter itself, of all rows.
        bias: the bias Parameter, likewise, where there is one and it is trainable.
        parameters: names of weight and bias in ``model.named_parameters()``.
        groups: of a grouped convolution, else 1.
        rows: which rows of weight and of bias are this layer's, (first, behind the last); those of
            a stack of matrices, and the entries of their biases, are counted through; None for all.
    """

    name: str
    op: Op | None
    weight: Tensor
    bias: Tensor | None
    parameters: tuple[str, ...]
    groups: int
    rows: RowRanges = (None, None)

    @property
    def shape(self) -> tuple[int, int]:
        """[d_out, d_in] of [W | b], all groups."""
        d_out, d_weight = self._weight_matrix(self.weight).shape
        return d_out, d_weight + (self.bias is not None)

    def to_matrix(self, tensors: Mapping[str, Tensor]) -> Shaped[Tensor, "d_out d_in"]:
        """[W | b] from tensors (values, gradients) named and shaped like the Parameters."""
        matrix = self._weight_matrix(tensors[self.parameters[0]])
        if self.bias is None:
            return matrix
        bias = entries_of(tensors[self.parameters[1]], self.rows[1])
        return torch.cat([matrix, bias[:, None]], 1)

    def from_matrix(
        self, matrix: Shaped[Tensor, "d_out d_in"], others: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Tensors named and shaped like the Parameters, from [W | b]; undoes ``to_matrix``.

        ``others``: where a Parameter has rows of other layers, too, those of the tensor under its
        name here, or else zeros.
        """
        d_weight = matrix.shape[1] - (self.bias is not None)
        shape = rows_of(self.weight, self.rows[0]).shape
        weight = from_matrix(self.op, matrix[:, :d_weight], shape, self.groups)
        found = {}
        parts = (weight, self.weight, rows_of), (matrix[:, -1], self.bias, entries_of)
        for name, rows, (own, whole, part) in zip(self.parameters, self.rows, parts, strict=False):
            found[name] = own
            if rows is not None and whole is not None:
                found[name] = own.new_zeros(whole.shape)
                if others is not None and name in others:
                    found[name].copy_(others[name])
                part(found[name], rows).copy_(own)
        return found

    def _weight_matrix(self, weight: Tensor) -> Tensor:
        return to_matrix(self.op, rows_of(weight, self.rows[0]), self.groups)


Names = tuple[str, ...]
Owners = list[Owned]  # who has one weight
BareWeights = tuple[BareWeight, ...]


def find_layers(
    model: nn.Module,
    names: Names | None = None,
    that_run: Callable[[], Names] | None = None,
    bare: BareWeights = (),
) -> tuple[Layer, ...]:
    """The layers of the model with a trainable weight, in the order of ``named_modules``.

    With names given, those alone; without, all of them, and every trainable parameter must belong
    to one. A frozen weight is left alone; a frozen bias is a constant, not a coordinate.

    ``that_run``: which layers to advise naming, where not all parameters belong to one; tried on
    data if there is any. ``bare``: matrices that a forward was seen to multiply with, without a
    module.
    """
    modules, named = dict(model.named_modules()), _named(model, bare)
    check_names(model, named, names or (), given=names is not None)
    parameter_names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}

    def advised() -> Names:
        found = one_matrix_each(model, bare) if that_run is None else that_run()
        return tuple(name for name in found if names is None or name in names) or found

    layers = []
    for owners in _owners(named, names):
        if tie := no_one_matrix(owners):
            raise ProblemError(
                f"{tie}; untie them, or leave the weight out by {naming(advised())}. "
                "(per_sample_gradients and exact_fisher have it: G is the sum over its uses.)"
            )
        layers.append(_layer(owners, parameter_names))
    if names is None and (parameter := next(iter(_uncovered(model, layers)), None)):
        owner = type(modules[parameter.rpartition(".")[0]]).__name__
        raise ProblemError(
            f"parameter {parameter!r} (of a {owner}) is trainable, but no supported layer covers "
            f"it; freeze it, or say that it is left out by {naming(advised())}."
        )
    return _checked(model, layers)


def find_parameters(
    model: nn.Module,
    names: Names | None = None,
    that_run: Callable[[], Names] | None = None,
    bare: BareWeights = (),
) -> tuple[Layer, ...]:
    """What gradients alone are defined for: all layers, and every other trainable parameter.

    A parameter that no layer covers is a row vector, [1, entries], under its own name, and can be
    named in ``names`` like a layer. A weight that its modules read in different orientations is one
    layer, in that of the module that has a bias, or else of the first; a bias of two layers is in
    the first.
    """
    named = _named(model, bare)
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad and n not in named}
    of_layers = None if names is None else tuple(n for n in names if n not in parameters)
    check_names(model, named, of_layers or (), given=names is not None and not names)
    parameter_names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}
    layers: list[Layer] = []
    for owners in _owners(named, of_layers):
        layer = _layer(owners, parameter_names)
        if any(_share_bias(layer, other) for other in layers):
            layer = replace(layer, bias=None, parameters=layer.parameters[:1])
        layers.append(layer)
    alone = _uncovered(model, layers) if names is None else [n for n in names if n in parameters]
    layers += [Layer(name, None, parameters[name], None, (name,), 1) for name in alone]
    return _checked(model, layers)


def _share_bias(one: Layer, two: Layer) -> bool:
    """Whether an entry of the bias of one layer is one of the other's."""
    shared = one.bias is not None and one.bias is two.bias
    return shared and (one.rows[1] == two.rows[1] or None in (one.rows[1], two.rows[1]))


def _named(model: nn.Module, bare: BareWeights = ()) -> dict[str, Owned]:
    """All weights by the names of layers, those that no module has behind the others."""
    of_modules = (one for name, m in model.named_modules() for one in owned_by(name, m))
    return {one.name: one for one in (*of_modules, *(one.of(model) for one in bare))}


def _owners(named: Mapping[str, Owned], names: Names | None) -> list[Owners]:
    """Of every weight, or of rows of it that are a layer by themselves."""
    by_weight: dict[Tensor, dict[RowRange, Owners]] = {}
    for one in named.values():
        if one.trainable:
            by_weight.setdefault(one.weight, {}).setdefault(one.rows[0], []).append(one)
    found = []
    for by_rows in by_weight.values():
        if None in by_rows:  # who has all rows has those of the others: one layer, or none
            found.append([*by_rows.pop(None), *chain(*by_rows.values())])
        else:
            found += by_rows.values()
    return [by for by in found if names is None or any(one.name in names for one in by)]


def _checked(model: nn.Module, layers: list[Layer]) -> tuple[Layer, ...]:
    check_no_shared_memory(model, {name for layer in layers for name in layer.parameters})
    real = tuple(layer.name for layer in layers if not layer.weight.is_complex())
    for layer in layers:
        if layer.name not in real:
            raise ProblemError(
                f"parameter {layer.parameters[0]!r}: complex, for which no Fisher is defined here; "
                f"make real ones of it, freeze it, or go on by {naming(real)}."
            )
    if not layers:
        raise ProblemError(
            "layers: the model has no supported layer with a trainable weight; call "
            "requires_grad_(True) on what you want the curvature of."
        )
    return tuple(layers)


def one_matrix_each(model: nn.Module, bare: BareWeights = ()) -> Names:
    """The names of all supported layers whose weight is trainable, real, and read in one way."""
    each = _owners(_named(model, bare), None)
    fit = (by for by in each if no_one_matrix(by) is None and not by[0].weight.is_complex())
    return tuple(one.name for owners in fit for one in owners)


def uncovered(model: nn.Module) -> Names:
    """The names of trainable parameters that no supported module has."""
    owned = _named(model).values()
    covered = {id(tensor) for one in owned for tensor in (one.weight, one.bias)}
    trainable = ((name, p) for name, p in model.named_parameters() if p.requires_grad)
    return tuple(name for name, p in trainable if id(p) not in covered)


def _layer(owners: Owners, parameter_names: dict[Tensor, str]) -> Layer:
    for one in owners:
        refuse_options(one.name, one.kind, one.options)
    with_bias = [one for one in owners if one.trainable_bias is not None]
    biases = {(one.trainable_bias, one.rows[1]) for one in with_bias}
    # different ones are no column of one matrix, but parameters by themselves
    first = with_bias[0] if len(biases) == 1 else owners[0]
    tensors = [first.weight, first.bias] if len(biases) == 1 else [first.weight]
    named = tuple(parameter_names[tensor] for tensor in tensors)
    bias = tensors[1] if len(biases) == 1 else None
    return Layer(owners[0].name, first.op, first.weight, bias, named, first.groups, first.rows)


def refuse_options(name: str, kind: str, options: Mapping[str, Any]) -> None:
    """Raise a ProblemError for an option of a lookup, module or op, that changes its gradient."""
    for option in NO_GRADIENT:
        if options.get(option):
            raise ProblemError(
                f"layer {name!r}: {kind} with {option} has no per-sample gradient of the usual "
                f"form; switch {option} off, or name the other layers in Problem(layers=...)."
            )


def _uncovered(model: nn.Module, layers: list[Layer]) -> list[str]:
    """Names of trainable parameters of none of them; one without entries has no gradient."""
    covered = {name for layer in layers for name in layer.parameters}
    trainable = (name for name, p in model.named_parameters() if p.requires_grad and p.numel())
    return [name for name in trainable if name not in covered]
