"""Whose weight or bias a tensor is, be it the Parameter or a view of it."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ekfac_ref.model.layers import Layer
from ekfac_ref.model.weights import attention
from ekfac_ref.model.weights.linear_form import Call
from ekfac_ref.model.weights.views import StoredMatrix, entries_in, is_run, origin, stored_in

_DTYPES = (Tensor.double, Tensor.float, Tensor.half, Tensor.bfloat16)
_DETACHED = (torch.detach, Tensor.detach, Tensor.data.__get__)  # type: ignore[attr-defined]
_CONVERSIONS = (*_DTYPES, Tensor.to, Tensor.type, Tensor.type_as, Tensor.cpu, Tensor.contiguous)


class Holders:
    """The layers by their Parameters, of which several may have parts of one."""

    def __init__(self, layers: tuple[Layer, ...]) -> None:
        self._by_parameter: dict[int, list[Layer]] = {}
        for layer in layers:
            for tensor in (layer.weight, layer.bias) if layer.bias is not None else (layer.weight,):
                self._by_parameter.setdefault(id(tensor), []).append(layer)

    def name_also(self, x: Tensor, parameter: Tensor) -> bool:
        """Have x and its views, too, if all of this Parameter is theirs."""
        owners = self._by_parameter.get(id(parameter))
        if owners is not None:
            self._by_parameter[id(x)] = owners
        return owners is not None

    def have(self, x: Any) -> bool:
        """Whether it is one of their Parameters, or a view of one."""
        return isinstance(x, Tensor) and id(origin(x)) in self._by_parameter

    def have_a_view(self, x: Any) -> bool:
        """Whether it is a view of one, and not the Parameter."""
        return self.have(x) and id(x) not in self._by_parameter

    def among(
        self, values: Iterable[Any], rows: attention.RowRanges | None = None
    ) -> Iterator[Layer]:
        """The layers whose weights or biases are among the values.

        Of those that have rows of a Parameter, the one with these rows alone, if any are given.
        """
        for value in values:
            if isinstance(value, (tuple, list)):
                yield from self.among(value, rows)
            if isinstance(value, Tensor):
                for layer in self._by_parameter.get(id(origin(value)), ()):
                    any_rows = rows is None or layer.op is not attention.projection
                    meant = any_rows or layer.rows == rows
                    if meant and _has_some(layer, value):
                        yield layer

    def of_matrix(self, matrix: Tensor) -> Layer | None:
        """The layer of whose Parameter it is a view, by which that is its matrix [out, in]."""
        weight = origin(matrix)
        owners = self._by_parameter.get(id(weight), ())
        matrices = [x for x in owners if x.weight is weight and x.op in (F.linear, torch.addmm)]
        part = stored_in(weight, matrix) if matrices else None
        of_part = (x for x in matrices if part == StoredMatrix(x.rows[0], x.op is torch.addmm))
        return next(of_part, None)

    def of_bias(self, layer: Layer, call: Call) -> Layer:
        """Whose bias the layer is called with; itself, where that is nobody's."""
        owners = self._by_parameter.get(id(call.arguments.get("bias")), ())
        return next((x for x in reversed(owners) if x.rows[1] == layer.rows[1]), layer)

    def only_looked_at(self, func: Any, result: Any, values: tuple[Any, ...]) -> bool:
        """Whether an op made no tensor, or views of Parameters: nothing is computed with them.

        Detached, they are constants, and no longer the holders'.

        What is returned as it was given was written into, unless there was nothing to convert.
        """
        if func in _DETACHED:
            return True
        parts = result if isinstance(result, (tuple, list)) else (result,)
        tensors = [x for x in parts if isinstance(x, Tensor)]
        given = [] if func in _CONVERSIONS else [*map(id, values)]
        return all(self.have(x) and id(x) not in given for x in tensors)


def _has_some(layer: Layer, x: Tensor) -> bool:
    """Whether x, a view of a Parameter of the layer, or all of it, shows entries of its own."""
    of_weight = origin(x) is layer.weight
    rows = layer.rows[not of_weight]
    if rows is None or x is origin(x) or x.numel() == 0:
        return True
    width = layer.weight.shape[-1] if of_weight else 1
    first = x.storage_offset() - origin(x).storage_offset()
    last = first + sum((n - 1) * step for n, step in zip(x.shape, x.stride(), strict=True))
    return first < rows[1] * width and rows[0] * width <= last


def is_bias(layer: Layer, x: Any) -> bool:
    """Whether x is the bias of the layer, or the row of the Parameter that is."""
    if layer.bias is None or not is_run(x) or origin(x) is not layer.bias:
        return False
    return entries_in(layer.bias, x) == layer.rows[1]
