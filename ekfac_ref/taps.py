r"""What goes into a layer and what comes back to its output, without hooks.

A ``TorchFunctionMode`` sees the one call whose weight *is* the tapped Parameter. It keeps the
layer's inputs a_nt and adds a zero to its output; the gradient of <f_n, s_nc> with respect to that
zero is g_nct. All samples share one forward pass (``vmap``), all columns one backward pass.

Every use of a weight is a position: leading axes of a Linear, output positions of a convolution,
repeated calls of a module, other modules tied to the Parameter. No factor of N is in here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.func import vmap
from torch.overrides import TorchFunctionMode, resolve_name

from ekfac_ref.batches import Batch
from ekfac_ref.errors import ProblemError
from ekfac_ref.forward import call as call_model
from ekfac_ref.forward import forward_one, in_algebra_dtype, teaching_errors
from ekfac_ref.layers import Layer
from ekfac_ref.linear_form import Call, is_linear_in_weight, layer_inputs, positions

Columns = Callable[[Tensor, Batch], Tensor]


@dataclass(frozen=True)
class Tap:
    """What one layer (one group of it) saw of some samples: G_nc = sum_t g_nct a_nt^T.

    Attributes:
        a: inputs, the homogeneous 1 of the bias last.
        g: gradients of <f_n, s_nc> with respect to the output.
        counted: which positions count; None means all. Where one does not, g is zero.
    """

    a: Float[Tensor, "N T d_in"]
    g: Float[Tensor, "N C T d_out"]
    counted: Bool[Tensor, "N T"] | None


@dataclass(frozen=True)
class Use:
    """One call of a layer on one sample.

    Attributes:
        call: the op and its arguments.
        output: what it returned.
        axes: the output's axes other than channels, the sample's own (of size 1) included.
    """

    call: Call
    output: Tensor
    axes: torch.Size


class _Recorder(TorchFunctionMode):
    """Keeps every use of every layer; ``shift`` is added to the output of use k of a layer."""

    def __init__(
        self, layers: tuple[Layer, ...], shift: Callable[[str, int, Tensor], Tensor]
    ) -> None:
        super().__init__()
        self._shift = shift
        self._owner = {id(layer.weight): layer for layer in layers}
        self._owner |= {id(layer.bias): layer for layer in layers if layer.bias is not None}
        self.uses: dict[str, list[Use]] = {layer.name: [] for layer in layers}
        self.inputs: dict[str, list[Tensor]] = {layer.name: [] for layer in layers}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        layer = self._layer_among((*args, *kwargs.values()))
        if layer is None:
            return func(*args, **kwargs)
        if func is not layer.op:
            return _pass_harmless(layer, func, func(*args, **kwargs))
        call = Call.bind(func, args, kwargs)
        _check_call(layer, call)
        self.inputs[layer.name].append(_with_homogeneous(layer, call))
        y = func(*args, **kwargs)
        y = self._shift(layer.name, len(self.uses[layer.name]), y)
        self.uses[layer.name].append(Use(call, y, positions(call, y)[1]))
        return y

    def _layer_among(self, values: tuple[Any, ...]) -> Layer | None:
        for value in values:
            nested = self._layer_among(tuple(value)) if isinstance(value, (tuple, list)) else None
            found = nested or self._owner.get(id(value))
            if found is not None:
                return found
        return None


def uses(model: nn.Module, layers: tuple[Layer, ...], batch: Batch) -> dict[str, list[Use]]:
    """How the model uses each layer, seen on the first sample of the batch."""
    with _Recorder(layers, lambda name, k, y: y) as recorder:
        call_model(model, batch.samples(0, 1).inputs)
    for layer in layers:
        if not recorder.uses[layer.name]:
            raise ProblemError(
                f"layer {layer.name!r}: its weight was never used in the forward pass, so it has "
                "no curvature; leave it out by naming the others in Problem(layers=...)."
            )
    return recorder.uses


def tap(
    model: nn.Module,
    layers: tuple[Layer, ...],
    seen: dict[str, list[Use]],
    batch: Batch,
    columns: Columns,
) -> dict[str, tuple[Tap, ...]]:
    """The taps of every layer on one batch: {layer: one Tap per group}."""
    N = batch.size
    zeros = {
        name: [use.output.new_zeros(N, *use.output.shape) for use in calls]
        for name, calls in seen.items()
    }

    def one(inputs: Any, shifts: dict[str, list[Tensor]]) -> tuple[Tensor, dict[str, list[Tensor]]]:
        with _Recorder(layers, lambda name, k, y: y + shifts[name][k]) as recorder:
            f = forward_one(model, inputs)
        return f, recorder.inputs

    with teaching_errors():
        run = vjp(lambda s: vmap(one)(batch.inputs, s), zeros, has_aux=True)
    f, pullback, a = run  # type: ignore[misc]  # torch declares two results, with aux it is three
    S = columns(f, batch)
    (g,) = vmap(pullback, in_dims=1, out_dims=1)(S)
    return {layer.name: _by_group(layer, seen, a, g, batch.mask) for layer in layers}


def _by_group(
    layer: Layer,
    seen: dict[str, list[Use]],
    a: dict[str, list[Tensor]],
    g: dict[str, list[Tensor]],
    mask: Tensor | None,
) -> tuple[Tap, ...]:
    """All uses of a layer side by side along T, its groups apart."""
    calls = seen[layer.name]
    a_ntgi = in_algebra_dtype(torch.cat(a[layer.name], 1))
    g_ncto = torch.cat(
        [
            vmap(vmap(lambda y, use=use: positions(use.call, y)[0]))(g_use)
            for use, g_use in zip(calls, g[layer.name], strict=True)
        ],
        2,
    )
    g_ncto = in_algebra_dtype(g_ncto)
    g_nctgo = g_ncto.unflatten(-1, (layer.groups, -1))
    counted = _counted(layer, calls, mask)
    if counted is not None:
        _check_silent(layer, g_ncto, counted)
    return tuple(Tap(a_ntgi[:, :, k], g_nctgo[:, :, :, k], counted) for k in range(layer.groups))


def _counted(layer: Layer, calls: list[Use], mask: Tensor | None) -> Tensor | None:
    if mask is None or all(
        use.axes.numel() == 1 and use.axes[1:] != mask.shape[1:] for use in calls
    ):
        return None
    for use in calls:
        if _wide(use.axes) != _wide(mask.shape[1:]):
            raise ProblemError(
                f"layer {layer.name!r}: its positions have axes {list(use.axes[1:])}, but the mask "
                f"has {list(mask.shape[1:])} for each sample; return one boolean per position of "
                "this layer, or leave the layer out by naming the others in Problem(layers=...)."
            )
    return torch.cat([mask.flatten(1)] * len(calls), 1)


def _wide(axes: torch.Size) -> list[int]:
    return [size for size in axes if size != 1]


def _check_silent(layer: Layer, g: Tensor, counted: Tensor) -> None:
    """A position that does not count must not be able to move the loss."""
    loudest = (g.abs().amax((1, 3)) * ~counted).amax()
    if loudest > torch.finfo(g.dtype).eps * g.abs().amax():
        raise ProblemError(
            f"layer {layer.name!r}: a position that the mask leaves out carries gradient (up to "
            f"{loudest:.2g}), so it does count; make the model ignore it, or correct the mask."
        )


def _with_homogeneous(layer: Layer, call: Call) -> Tensor:
    a = layer_inputs(call, layer.groups)
    if layer.bias is None:
        return a
    # A tied module without a bias uses [W | b] at the homogeneous coordinate 0.
    one = 0.0 if call.arguments.get("bias") is None else 1.0
    return torch.cat([a, torch.full_like(a[..., :1], one)], -1)


def _check_call(layer: Layer, call: Call) -> None:
    if call.arguments["weight"] is not layer.weight:
        raise ProblemError(
            f"layer {layer.name!r}: its bias is used with another weight, so there is no one "
            "matrix [W | b]; give the other weight a bias of its own."
        )
    for name in ("input", "input1", "input2"):
        x = call.arguments.get(name)
        integer_wanted = "padding_idx" in call.arguments
        if x is not None and integer_wanted == x.dtype.is_floating_point:
            wanted = "integer indices" if integer_wanted else f"inputs of {layer.weight.dtype}"
            raise ProblemError(
                f"layer {layer.name!r}: it was given {x.dtype}, but takes {wanted}; convert the "
                "data."
            )
        if x is not None and not integer_wanted and x.dtype != layer.weight.dtype:
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
        if is_linear_in_weight(func)
        else "outside the layer's own op"
    )
    raise ProblemError(
        f"layer {layer.name!r}: its weight or bias is used {what} ({resolve_name(func)}, expected "
        f"{resolve_name(layer.op)}); call the module itself, untie it, or leave it out by naming "
        "the other layers in Problem(layers=...)."
    )
