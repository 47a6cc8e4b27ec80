r"""What goes into a layer and what comes back to its output, without hooks.

A ``TorchFunctionMode`` (``uses.Recorder``) sees the one call whose weight *is* the tapped
Parameter. It keeps the layer's inputs a_nt and adds a zero to its output; the gradient of
<f_n, s_nc> with respect to that zero is g_nct. All samples share one forward pass (``vmap``), all
columns one backward pass.

Every use of a weight is a position: leading axes of a Linear, output positions of a convolution,
repeated calls of a module, other modules tied to the Parameter. No factor of N is in here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.func import vjp, vmap

from ekfac_ref.batches import Batch
from ekfac_ref.forward import batchable, forward_one, in_algebra_dtype
from ekfac_ref.layers import Layer
from ekfac_ref.linear_form import positions
from ekfac_ref.masks import check_mute, counted_positions
from ekfac_ref.uses import Recorder, Use

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
        with Recorder(layers, lambda name, k, y: y + shifts[name][k]) as recorder:
            f = forward_one(model, inputs)
        return f, recorder.inputs

    with batchable():
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
    counted = counted_positions(layer, calls, mask)
    if counted is not None:
        check_mute(layer, g_ncto, counted)
    return tuple(Tap(a_ntgi[:, :, k], g_nctgo[:, :, :, k], counted) for k in range(layer.groups))
