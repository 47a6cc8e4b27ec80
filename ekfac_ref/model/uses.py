"""Every use of a layer's weight in a forward pass, seen without hooks, and an error for misuses."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from ekfac_ref.errors import ProblemError, first_line, of_memory
from ekfac_ref.model.forward import call as call_model
from ekfac_ref.model.layer_kinds import ARGUMENTS_OF
from ekfac_ref.model.layers import Layer, naming, refuse_options
from ekfac_ref.model.linear_form import Call, channels_in_place, channels_last, layer_inputs
from ekfac_ref.model.refusals.causes import way_out
from ekfac_ref.question.batches import Batch


@dataclass(frozen=True)
class Use:
    """One call of a layer, on one sample or on a batch.

    Attributes:
        a: its inputs, the homogeneous 1 of the bias last; positions of all samples in the order of
            ``axes``.
        axes: the output's axes other than channels, those of the samples included.
        transformed: whether it was inside of a ``torch.func`` transform that the forward made.
    """

    a: Shaped[Tensor, "T groups d_in"]
    axes: torch.Size
    transformed: bool


Shift = Callable[[str, int, Shaped[Tensor, "*axes d_out"]], Shaped[Tensor, "*axes_of_all d_out"]]


class LayerRefused(ProblemError):
    """One layer cannot be treated; the others may be."""


class Recorder(TorchFunctionMode):
    """Keeps every use of every layer; ``shift`` is given the output of use k of a layer."""

    def __init__(self, layers: tuple[Layer, ...], shift: Shift | None = None) -> None:
        super().__init__()
        self._shift = shift
        self._transforms = transforms()
        self._owner = {id(layer.weight): layer for layer in layers}
        self._owner |= {id(layer.bias): layer for layer in layers if layer.bias is not None}
        self.uses: dict[str, list[Use]] = {layer.name: [] for layer in layers}
        self.calling: Layer | None = None  # whom an error inside of the op is about
        # of the coarsest dtype that any op rounded to, layers' included: float32 in a float64 norm
        self.roundoff = 0.0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        layer = self._layer_among((*args, *kwargs.values()))
        if layer is None:
            result = func(*args, **kwargs)
            if isinstance(result, Tensor) and result.is_floating_point():
                self._note_rounding(result, (*args, *kwargs.values()))
            return result
        if func is not layer.op:
            return _pass_harmless(layer, func, func(*args, **kwargs))
        call = Call.bind(func, args, kwargs)
        self.calling = layer
        _check_call(layer, call, self._owner.get(id(call.arguments.get("bias")), layer))
        with torch.no_grad():  # to which checkpointing would save tensors that it does not expect
            a = _with_homogeneous(layer, call)
        y = func(*args, **kwargs)
        uses, outputs = self.uses[layer.name], channels_last(call, y)
        if self._shift is not None:
            y = channels_in_place(call, self._shift(layer.name, len(uses), outputs))
        # Under autocast it is the rounded input that is multiplied.
        a = a.to(y.dtype)
        self.roundoff = max(self.roundoff, torch.finfo(y.dtype).eps)
        uses.append(Use(a, outputs.shape[:-1], transforms() > self._transforms))
        self.calling = None
        return y

    def _note_rounding(self, result: Tensor, values: tuple[Any, ...]) -> None:
        unit = torch.finfo(result.dtype).eps
        floats = (x for x in values if isinstance(x, Tensor) and x.is_floating_point())
        if unit > self.roundoff and any(torch.finfo(x.dtype).eps < unit for x in floats):
            self.roundoff = unit

    def _layer_among(self, values: tuple[Any, ...]) -> Layer | None:
        for value in values:
            nested = self._layer_among(tuple(value)) if isinstance(value, (tuple, list)) else None
            found = nested or self._owner.get(id(value))
            if found is not None:
                return found
        return None


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


def uses(model: nn.Module, layers: tuple[Layer, ...], batch: Batch) -> Recorder:
    """What the model does with each layer, as recorded on the first sample of the batch."""
    try:
        return _uses(model, layers, batch)
    except LayerRefused as error:
        raise ProblemError(
            f"{str(error).removesuffix('.')}; go on by {naming(that_run(model, layers, batch))}."
        ) from error


def that_run(model: nn.Module, layers: tuple[Layer, ...], batch: Batch) -> tuple[str, ...]:
    """The names of the layers that can be treated together, tried one after the other."""
    kept: tuple[Layer, ...] = ()
    for layer in layers:
        try:
            found = _uses(model, (*kept, layer), batch)
        except ProblemError:
            continue
        if not any(use.transformed for use in found.uses[layer.name]):
            kept = (*kept, layer)
    return tuple(layer.name for layer in kept)


def _uses(model: nn.Module, layers: tuple[Layer, ...], batch: Batch) -> Recorder:
    found = _recorded(model, layers, batch.samples(0, 1))
    if not all(found.uses.values()):  # an expert that the first sample does not go to
        everywhere = _recorded(model, layers, batch).uses
        unused = [name for name, uses in everywhere.items() if not uses]
        if unused:
            raise LayerRefused(
                f"layer {unused[0]!r}: its weight was never used in the forward pass, so it has "
                "no curvature; leave it out by naming the others in Problem(layers=...)."
            )
    return found


def _recorded(model: nn.Module, layers: tuple[Layer, ...], batch: Batch) -> Recorder:
    with torch.enable_grad(), Recorder(layers) as recorder:  # as when it is trained
        try:
            call_model(model, batch.inputs)
        except ProblemError:
            raise
        except Exception as error:
            if of_memory(error):
                raise
            raise ProblemError(_why_it_failed(recorder, error)) from error
    return recorder


def _why_it_failed(recorder: Recorder, error: Exception) -> str:
    if recorder.calling is None:
        advice = way_out(error) or (
            "look at the error above, and try model on the first sample of the batch alone"
        )
        return f"model: its forward failed on one sample ({first_line(error)}); {advice}."
    return (
        f"layer {recorder.calling.name!r}: it cannot take its input ({first_line(error)}); bring "
        "the data into the shape, device and range of values that the layer was made for."
    )


def _with_homogeneous(layer: Layer, call: Call) -> Tensor:
    a = layer_inputs(call, layer.groups).detach()
    if layer.bias is None:
        return a.clone()  # the forward may go on to write into its own input
    # A tied module with no bias, or a frozen one, uses [W | b] at the homogeneous coordinate 0.
    one = 1.0 if call.arguments.get("bias") is layer.bias else 0.0
    return torch.cat([a, torch.full_like(a[..., :1], one)], -1)


def _check_call(layer: Layer, call: Call, owner_of_bias: Layer) -> None:
    if call.op is torch.addmm and {*call.arguments} != {*ARGUMENTS_OF[torch.addmm]}:
        raise LayerRefused(
            f"layer {layer.name!r}: it calls torch.addmm with beta, alpha or names of arguments; "
            "call torch.addmm(bias, input, weight), and scale the input or the output instead."
        )
    if call.arguments["weight"] is not layer.weight or owner_of_bias is not layer:
        raise LayerRefused(
            f"layer {owner_of_bias.name!r}: its weight or bias is used together with another "
            "weight, so there is no one matrix [W | b]; give the other weight a bias of its own."
        )
    if call.op is F.embedding:
        refuse_options(layer.name, "F.embedding", call.arguments)
    autocast = torch.is_autocast_enabled(layer.weight.device.type)
    for name in ("input", "input1", "input2"):
        x = call.arguments.get(name)
        integer_wanted = call.op is F.embedding
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


def _pass_harmless(layer: Layer, func: Any, result: Any) -> Any:
    """Asking a weight for its shape is fine; computing with it in another op is not."""
    parts = result if isinstance(result, (tuple, list)) else (result,)
    if not any(isinstance(part, Tensor) for part in parts):
        return result
    what = (
        "in two orientations: it is tied between ops"
        if func in ARGUMENTS_OF
        else "outside the layer's own op"
    )
    raise LayerRefused(
        f"layer {layer.name!r}: its weight or bias is used {what} ({resolve_name(func)}, expected "
        f"{resolve_name(layer.op)}); call the module itself, untie it, or leave it out by naming "
        "the other layers in Problem(layers=...)."
    )
