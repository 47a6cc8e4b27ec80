r"""What goes into a layer and what comes back to its output, without hooks.

A ``TorchFunctionMode`` (``uses.Recorder``) sees the one call whose weight *is* the tapped
Parameter. It keeps the layer's inputs a_nt and adds a zero to its output; the gradient of
<f_n, s_nc> with respect to that zero is g_nct. All samples share one forward pass (``vmap``), all
columns one backward pass.

Every use of a weight is a position: leading axes of a Linear, output positions of a convolution,
repeated calls of a module, other modules tied to the Parameter. No factor of N is in here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.func import vmap

from ekfac_ref.model.forward import forward_one, in_algebra_dtype
from ekfac_ref.model.layers import Layer
from ekfac_ref.model.linear_form import channels_last
from ekfac_ref.model.masks import check_silent, counted_positions
from ekfac_ref.model.refusals.causes import batchable
from ekfac_ref.model.refusals.weighted import Seen, of_taps
from ekfac_ref.model.refusals.wiring import check_wiring
from ekfac_ref.model.session import Form, Session
from ekfac_ref.model.uses import Recorder, check_uses
from ekfac_ref.question.batches import Batch


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


def tap(session: Session, form: Form, batch: Batch) -> dict[str, tuple[Tap, ...]]:
    """The taps of every layer on one batch: {layer: one Tap per group}. Checked by autograd."""
    seen, taps = _see(session, form, batch)
    check_wiring(session, batch, seen, _see)
    return taps


def _see(session: Session, form: Form, batch: Batch) -> tuple[Seen, dict[str, tuple[Tap, ...]]]:
    check_uses(form.uses)
    shifts = {
        name: [use.output.new_zeros(()).expand(batch.size, *use.output.shape) for use in calls]
        for name, calls in form.uses.items()
    }

    def one(inputs: Any, shifts: dict[str, list[Tensor]]) -> tuple[Tensor, dict[str, list[Tensor]]]:
        def shifted(name: str, k: int, y: Tensor) -> Tensor:
            return y + shifts[name][k] if k < len(shifts[name]) else y

        with Recorder(session.layers, shifted) as recorder:
            f = forward_one(session.model, inputs)
        check_uses(form.uses, recorder.inputs)
        return f, recorder.inputs

    with torch.enable_grad(), batchable():
        leaves = [shift.requires_grad_() for uses in shifts.values() for shift in uses]
        f, a = vmap(one)(batch.inputs, shifts)
    S = session.columns(f.detach(), batch)
    with batchable():
        pulled = iter(_pull_back(f, leaves, S))
    g = {name: [next(pulled) for _ in uses] for name, uses in shifts.items()}
    taps = {layer.name: _by_group(layer, form, a, g, batch.mask) for layer in session.layers}
    weighted = {name: partial(of_taps, [(t.a, t.g) for t in ts]) for name, ts in taps.items()}
    return Seen(S, weighted), taps


def _pull_back(f: Tensor, leaves: list[Tensor], S: Float[Tensor, "N C *out"]) -> list[Tensor]:
    """The gradients [N, C, *output] of all <f_n, s_nc> with respect to each leaf."""
    if not f.requires_grad:
        found: list[Tensor | None] = [None] * len(leaves)
    elif S.shape[1] == 1:  # what a batch of one column would cost is a few percent of EKFAC
        plain = torch.autograd.grad(f, leaves, S[:, 0], allow_unused=True)
        found = [None if g is None else g[:, None] for g in plain]
    else:
        columns = S.movedim(1, 0)
        batched = torch.autograd.grad(f, leaves, columns, is_grads_batched=True, allow_unused=True)
        found = [None if g is None else g.movedim(0, 1) for g in batched]
    return [
        leaf.new_zeros(()).expand(len(leaf), S.shape[1], *leaf.shape[1:]) if g is None else g
        for leaf, g in zip(leaves, found, strict=True)
    ]


def _by_group(
    layer: Layer,
    form: Form,
    a: dict[str, list[Tensor]],
    g: dict[str, list[Tensor]],
    mask: Tensor | None,
) -> tuple[Tap, ...]:
    """All uses of a layer side by side along T, its groups apart."""
    calls = form.uses[layer.name]
    uses_g = zip(calls, g[layer.name], strict=True)
    a_ntgi = in_algebra_dtype(_side_by_side([a_k.detach() for a_k in a[layer.name]], 1))
    g_ncto = in_algebra_dtype(
        _side_by_side([channels_last(use.call, g_k).flatten(2, -2) for use, g_k in uses_g], 2)
    )
    g_nctgo = g_ncto.unflatten(-1, (layer.groups, -1))
    counted = counted_positions(layer, calls, mask)
    if counted is not None:
        check_silent(layer, g_ncto, counted)
    return tuple(Tap(a_ntgi[:, :, k], g_nctgo[:, :, :, k], counted) for k in range(layer.groups))


def _side_by_side(tensors: list[Tensor], axis: int) -> Tensor:
    """``torch.cat``, which would copy even a single tensor."""
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors, axis)


def tapped(session: Session, budget: int) -> Iterator[tuple[Batch, dict[str, tuple[Tap, ...]]]]:
    """One pass: {layer: one Tap per group} of chunks that need about ``budget`` bytes at most."""
    for batch, form in session.batches():
        for chunk in batch.chunks(_bytes_per_sample(session, form), budget):
            yield chunk, tap(session, form, chunk)


def _bytes_per_sample(session: Session, form: Form) -> int:
    numbers, C = 0, form.columns
    for layer in session.layers:
        T = sum(use.axes.numel() for use in form.uses[layer.name])
        d_out, d_in = layer.shape
        inputs_and_gradients = T * (layer.groups * d_in + C * d_out)
        numbers += inputs_and_gradients + (C * d_out * d_in if T > 1 else 0)
    return 2 * numbers * session.layers[0].weight.itemsize
