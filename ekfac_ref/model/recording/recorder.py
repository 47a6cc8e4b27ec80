"""Every use of a layer's weight in a forward pass, seen without hooks, and an error for misuses."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Shaped
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from ekfac_ref.errors import ProblemError
from ekfac_ref.model.layers import Layer
from ekfac_ref.model.recording.holders import Holders, is_bias
from ekfac_ref.model.recording.scaled import Scaled
from ekfac_ref.model.recording.without_bias import WithoutBias
from ekfac_ref.model.refusals.misuses import (
    check_inputs,
    check_together,
    refuse_op,
)
from ekfac_ref.model.weights import attention
from ekfac_ref.model.weights.kept_inputs import KeptInputs
from ekfac_ref.model.weights.linear_form import Call, channels_in_place, channels_last, layer_inputs
from ekfac_ref.model.weights.lookups import call_of
from ekfac_ref.model.weights.products import AsLinear, as_linear, product_and_sum, terms_of
from ekfac_ref.model.weights.views import origin


@dataclass(frozen=True)
class Use:
    """One call of a layer, on one sample or on a batch.

    Attributes:
        inputs: a_t, the homogeneous 1 of the bias last; positions of all samples in the order of
            ``axes``. Of a lookup, the number of the word (``linear_form.py``), and d_in is 1.
        axes: the output's axes other than channels, those of the samples included.
        transformed: whether it was inside of a ``torch.func`` transform that the forward made.
    """

    inputs: KeptInputs
    axes: torch.Size
    transformed: bool


Shift = Callable[[str, int, Shaped[Tensor, "*axes d_out"]], Shaped[Tensor, "*axes_of_all d_out"]]


class Recorder(TorchFunctionMode):
    """Keeps every use of every layer.

    Args:
        layers: which.
        shift: is given the output of use k of a layer, and returns what goes on in its stead.
        at_once: whether inputs are read when they come, for a forward that writes into them.
    """

    def __init__(
        self, layers: tuple[Layer, ...], shift: Shift | None = None, at_once: bool = False
    ) -> None:
        super().__init__()
        self._shift, self._at_once = shift, at_once
        self._transforms = transforms()
        self._holders = Holders(layers)
        self._scaled = Scaled(self._holders)
        self.uses: dict[str, list[Use]] = {layer.name: [] for layer in layers}
        # Outputs so far, by the id of what they are views of.
        self._without_bias: dict[int, WithoutBias] = {}
        self.calling: Layer | None = None  # whom an error inside of the op is about
        # of the coarsest dtype that any op rounded to, layers' included: float32 in a float64 norm
        self.roundoff = 0.0

    @property
    def used(self) -> set[str]:
        """The names of the layers that are used."""
        return {name for name, uses in self.uses.items() if uses}

    @property
    def overwritten(self) -> bool:
        """Whether inputs are no longer what they were when they came."""
        return any(use.inputs.overwritten for uses in self.uses.values() for use in uses)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        args, kwargs = self._scaled.moved_to_inputs(func, args, kwargs or {})
        values = (*args, *kwargs.values())
        attending = self._holders.among(attention.weights_given(func, args, kwargs))
        if any(layer.op is not None for layer in attending):
            with self:  # which is not active in here
                return attention.layer_by_layer(*args, **kwargs)
        if self._add_bias(terms_of(func, args, kwargs)):
            return func(*args, **kwargs)
        rows = attention.projected_rows(func, args, kwargs)
        layer = next(self._holders.among(values, rows), None)
        apart = None if layer is None else product_and_sum(func, args, kwargs)
        if apart is not None:
            with self:
                return apart()
        scaled = self._scaled.among(values)
        if layer is not None and not scaled and (own := self._own_call(layer, func, args, kwargs)):
            layer, call = own
            self.calling = layer
            result = self._of_its_op(layer, call, partial(func, *args, **kwargs))
            self.calling = None
            return result
        product = None if layer is None else as_linear(func, args, kwargs, self._holders.have)
        if product is not None and any(map(self._holders.of_matrix, product.matrices)):
            with self:
                y = product.run()
            self._note_stack(y, product)
            return y
        result = func(*args, **kwargs)
        if isinstance(result, Tensor) and _rounds(result):
            self._note_rounding(result, values)
        if layer is None or self._scaled.note(func, args, kwargs, result):
            return result
        if _goes_on(result) and not self._holders.only_looked_at(func, result, values):
            self._of_another_op(layer, func, scaled)
        return result

    def _own_call(
        self, layer: Layer, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Layer, Call] | None:
        """The layer that is called, by its op or by F.linear with a view; None for other calls."""
        call = call_of(func, args, kwargs)
        if call is None:
            return None
        if not any(self._holders.have_a_view(x) for x in call.arguments.values()):
            return (layer, call) if call.op is layer.op else None
        viewed = self._holders.of_matrix(call.arguments["weight"]) if func is F.linear else None
        if viewed is None:
            return None
        given = {**call.arguments, "weight": viewed.weight}
        if is_bias(viewed, given.get("bias")):
            given["bias"] = viewed.bias
        return viewed, Call(func, given)

    def _add_bias(self, terms: tuple[Any, ...]) -> bool:
        """Whether they are the output of a layer, or of several, and its bias."""
        for y, bias in (terms, terms[::-1]) if terms else ():
            output = self._without_bias.get(id(origin(y))) if isinstance(y, Tensor) else None
            runs = () if output is None else output.biases(y, bias)
            if output is None or not runs:
                continue
            pairs = [*zip(output.of, runs, strict=True)]
            if all(self._takes(layer, run) for (layer, _), run in pairs):
                for (_, use), run in pairs:
                    use.inputs.with_bias(origin(run))
                return True
        return False

    def _takes(self, layer: Layer, bias: Any) -> bool:
        return is_bias(layer, bias)

    def _of_its_op(self, layer: Layer, call: Call, run: Callable[[], Tensor]) -> Tensor:
        check_together(layer, call, self._holders.of_bias(layer, call))
        check_inputs(layer, call)
        y, transformed = run(), transforms() > self._transforms
        # Under autocast it is the rounded input that is multiplied.
        read = partial(_with_homogeneous, layer, y.dtype)
        with torch.no_grad():  # to which checkpointing would save tensors that it does not expect
            inputs = KeptInputs(call, read, self._at_once or transformed)
        uses, outputs = self.uses[layer.name], channels_last(call, y)
        if self._shift is not None:
            shifted = channels_in_place(call, self._shift(layer.name, len(uses), outputs))
            # What is not differentiated goes on as it is, in its own shape.
            y = shifted if torch.is_grad_enabled() else y
        self.roundoff = max(self.roundoff, torch.finfo(y.dtype).eps)
        uses.append(Use(inputs, outputs.shape[:-1], transformed))
        added_later = call.op is F.linear and call.arguments.get("bias") is None
        if added_later and self._may_have_bias(layer):
            self._without_bias[id(origin(y))] = WithoutBias(y, [(layer, uses[-1])])
        return y

    def _may_have_bias(self, layer: Layer) -> bool:
        return layer.bias is not None

    def _note_stack(self, y: Tensor, product: AsLinear) -> None:
        """The outputs of several matrices side by side, each the last use of one."""
        layers = [x for x in map(self._holders.of_matrix, product.matrices) if x is not None]
        may = {x.name for x in layers if self._may_have_bias(x) and self.uses[x.name]}
        if 1 < len(may) == len(product.matrices):
            of, side = [(x, self.uses[x.name][-1]) for x in layers], -2 - product.stacked
            self._without_bias[id(origin(y))] = WithoutBias(origin(y), of, side)

    def _of_another_op(self, layer: Layer, func: Any, scaled: bool) -> None:
        refuse_op(layer, func, scaled)

    def _note_rounding(self, result: Tensor, values: tuple[Any, ...]) -> None:
        unit = torch.finfo(result.dtype).eps
        floats = (x for x in values if isinstance(x, Tensor) and _rounds(x))
        if unit > self.roundoff and any(torch.finfo(x.dtype).eps < unit for x in floats):
            self.roundoff = unit


def _rounds(x: Tensor) -> bool:
    return x.is_floating_point() or x.is_complex()


def _goes_on(result: Any) -> bool:
    """Whether gradients come back through it; a norm of detached values is a constant."""
    return any(isinstance(x, Tensor) and x.requires_grad for x in tree_leaves(result))


def axes_of_uses(uses: dict[str, list[Use]]) -> dict[str, list[torch.Size]]:
    """{layer: the axes of each of its uses}."""
    return {name: [use.axes for use in of_layer] for name, of_layer in uses.items()}


def check_not_transformed(uses: Mapping[str, list[Use]]) -> None:
    """Raise a ProblemError for a layer that the forward calls inside of a transform."""
    for name, of_layer in uses.items():
        if any(use.transformed for use in of_layer):
            raise ProblemError(
                f"layer {name!r}: the forward calls it inside of torch.func.grad, jvp, vmap or "
                "the like, where what goes in and what comes back cannot be seen; pass the "
                "network that is transformed as the model, with its outputs as they are, or leave "
                "the layer out by naming the others in Problem(layers=...)."
            )


def transforms() -> int:
    """How many transforms of ``torch.func`` are active."""
    innermost = torch._C._functorch.peek_interpreter_stack()
    return 0 if innermost is None else innermost.level()


def _with_homogeneous(layer: Layer, dtype: torch.dtype, call: Call) -> Tensor:
    one = None
    if layer.bias is not None:
        # A tied module with no bias, or a frozen one, uses [W | b] at the homogeneous coordinate 0.
        one = 1.0 if call.arguments.get("bias") is layer.bias else 0.0
    a = layer_inputs(call, layer.groups, one)
    return a.to(dtype) if a.is_floating_point() else a
