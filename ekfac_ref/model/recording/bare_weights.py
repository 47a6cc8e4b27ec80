"""Parameters that no supported module has, and that a forward applies as layers would.

Whether it multiplies, from which side, and with which bias, looks rows up or convolves, no module
says; a forward pass does. A stack of matrices, [experts, rows, columns], is a layer for each of
them.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ekfac_ref.model.copies.modes import Modes
from ekfac_ref.model.copies.private_copy import made_private
from ekfac_ref.model.forward import call as call_model
from ekfac_ref.model.layers import Layer, uncovered
from ekfac_ref.model.recording.recorder import Recorder
from ekfac_ref.model.weights.attention import RowRange
from ekfac_ref.model.weights.layer_kinds import MATRIX_PRODUCTS, NO_GRADIENT, Op
from ekfac_ref.model.weights.linear_form import Call
from ekfac_ref.model.weights.lookups import call_of
from ekfac_ref.model.weights.owned import BareWeight
from ekfac_ref.model.weights.views import entries_in, is_run, origin
from ekfac_ref.question.batches import Batch, read
from ekfac_ref.question.problem import Problem

# axes of a Parameter: what may be given all of it, beside products
_WHOLE: dict[int, tuple[Op, ...]] = {
    2: (F.embedding,),
    3: (F.conv1d, F.conv_transpose1d, F.bilinear),
    4: (F.conv2d, F.conv_transpose2d),
    5: (F.conv3d, F.conv_transpose3d),
}


def bare_weights(problem: Problem, modes: Modes) -> tuple[BareWeight, ...]:
    """What the forward multiplies or convolves with, or looks up, on the first batch.

    And on those behind it, for as long as there is a Parameter that none has used, an expert's say.
    None of a Parameter that it uses in another way, too, or from both sides; and none where there
    is no forward, which is told where the layers are tried. A bias of several Parameters is none of
    either's: there is no one matrix [W | b].
    """
    names = uncovered(problem.model)
    asked = names if problem.layers is None else problem.layers
    if not {*names} & {*asked, *(x.rpartition("[")[0] for x in asked)}:
        return ()
    with suppress(Exception):
        model = made_private(modes.copied(problem.model), problem.output)
        return _of_model(model, read(problem))
    return ()


def _of_model(model: nn.Module, batches: Iterator[Batch]) -> tuple[BareWeight, ...]:
    own = {name: model.get_parameter(name) for name in uncovered(model)}
    candidates = {name: _every_way(name, p) for name, p in own.items() if p.dim() in _WHOLE}
    recorder = _Products(tuple(x for both in candidates.values() for x in both), own)
    with suppress(Exception):
        while any(map(recorder.awaits, candidates.values())):
            batch = next(batches)
            for some in (batch.samples(0, 1), batch):
                with torch.enable_grad(), recorder:
                    call_model(model, some.inputs)
    found = [x for both in candidates.values() for x in recorder.weights_among(both)]
    of_bias = {(x.bias, x.weight) for x in found}
    several = [name for name, n in Counter(name for name, _ in of_bias).items() if n > 1]
    return tuple(
        replace(x, bias=None, rows=(x.rows[0], None)) if x.bias in several else x for x in found
    )


def _every_way(name: str, parameter: Tensor) -> list[Layer]:
    """All of it, by every op that takes it; and each of its matrices as it is, and transposed.

    Of three axes, those of a stack; or the two in front are one side of a matrix, or those behind.
    """
    n = parameter.shape[-2]
    every: list[RowRange] = [None]
    if parameter.dim() == 3:
        stack = [(e * n, (e + 1) * n) for e in range(len(parameter))]
        every += [*stack, (0, n * len(parameter))] if len(stack) > 1 else stack
    ways = [(op, rows) for op in (F.linear, torch.addmm) for rows in every]
    ways += [(op, None) for op in _WHOLE[parameter.dim()]]
    return [
        Layer(f"{name} {rows} {op}", op, parameter, None, (name,), 1, (rows, None))
        for op, rows in ways
    ]


class _Products(Recorder):
    """Keeps which matrices are multiplied with, and which biases are added."""

    def __init__(self, layers: tuple[Layer, ...], own: Mapping[str, Tensor]) -> None:
        super().__init__(layers)
        self._own, self._names = own, {id(p): name for name, p in own.items()}
        self._biases: dict[str, set[tuple[str, RowRange]]] = defaultdict(set)
        self._groups: dict[str, set[int]] = defaultdict(set)
        self._used_otherwise: set[str] = set()

    def awaits(self, candidates: list[Layer]) -> bool:
        """Whether one Parameter was not used so far, in any of these ways or otherwise."""
        ((parameter,),) = {layer.parameters for layer in candidates}
        used = any(self.uses[layer.name] for layer in candidates)
        return not used and parameter not in self._used_otherwise

    def weights_among(self, candidates: list[Layer]) -> list[BareWeight]:
        """Of one Parameter: the matrix that it is, or all of a stack, if some are multiplied with.

        From one side, and as one or the other.
        """
        ((parameter,),) = {layer.parameters for layer in candidates}
        used = [layer for layer in candidates if self.uses[layer.name]]
        if parameter in self._used_otherwise or len({layer.op for layer in used}) != 1:
            return []
        same_side = [layer for layer in candidates if layer.op is used[0].op]
        of_stack = [layer for layer in same_side if _place_in_stack(layer) is not None]
        matrices = of_stack if {*used} <= {*of_stack} else used
        if len(used) > 1 and matrices is used:
            return []
        groups = {n for layer in used for n in self._groups.get(layer.name, {1})}
        if len(groups) > 1:
            return []
        bias, found = self._bias_of(used), []
        for layer in matrices:
            e = _place_in_stack(layer)
            name = parameter if e is None else f"{parameter}[{e}]"
            entries = None if bias is None else _entries(layer, self._own[bias])
            assert layer.op is not None
            rows = layer.rows[0], entries
            found.append(BareWeight(name, layer.op, parameter, bias, rows, *groups))
        return found

    def _bias_of(self, used: list[Layer]) -> str | None:
        """The one Parameter of which each is given its own entries, if it is given any."""
        given = [
            (name, rows == _entries(x, self._own[name]))
            for x in used
            for name, rows in self._biases[x.name]
        ]
        names = {name for name, _ in given}
        return names.pop() if len(names) == 1 and all(own for _, own in given) else None

    def _own_call(
        self, layer: Layer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Layer, Call] | None:
        """By the op that is called, of the ways in which its weight may be used."""
        call = call_of(func, args, kwargs)
        if call is None or call.op in MATRIX_PRODUCTS:
            own = super()._own_call(layer, func, args, kwargs)
            of_weight = own is not None and own[1].arguments["weight"] is own[0].weight
            return own if of_weight else None  # a Parameter may be an input
        weight, groups = call.arguments.get("weight"), call.arguments.get("groups", 1)
        if any(call.arguments.get(option) for option in NO_GRADIENT):
            return None
        for way in self._holders.among([weight]):
            if way.op is call.op and way.weight is weight:
                self._groups[way.name].add(groups)
                return replace(way, groups=groups), call
        return None

    def _of_its_op(self, layer: Layer, call: Call, run: Callable[[], Tensor]) -> Tensor:
        self._takes(layer, call.arguments.get("bias"))
        return super()._of_its_op(layer, call, run)

    def _may_have_bias(self, layer: Layer) -> bool:
        return True

    def _takes(self, layer: Layer, bias: Any) -> bool:
        if not is_run(bias) or len(bias) != layer.shape[0]:
            return False
        parameter = origin(bias)
        name = self._names.get(id(parameter))
        if name is None or not parameter.is_contiguous():  # whose entries are in no order
            return False
        self._biases[layer.name].add((name, entries_in(parameter, bias)))
        return True

    def _of_another_op(self, layer: Layer, func: Any, scaled: bool) -> None:
        self._used_otherwise.update(layer.parameters)


def _place_in_stack(layer: Layer) -> int | None:
    """Which matrix of a stack it is; None for what is all of its Parameter."""
    if layer.rows[0] is None or layer.weight.dim() == 2:
        return None
    (first, behind), n = layer.rows[0], layer.weight.shape[-2]
    return first // n if behind - first == n else None


def _entries(layer: Layer, bias: Tensor) -> RowRange:
    """Which entries of a Parameter are the bias of this one of its matrices; None for all."""
    e, d_out = _place_in_stack(layer), layer.shape[0]
    if e is None:
        return None if bias.dim() == 1 else (0, bias.numel())
    return e * d_out, (e + 1) * d_out
