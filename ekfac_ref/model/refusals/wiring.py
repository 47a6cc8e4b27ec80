r"""What was seen of the layers against the gradient by plain autograd: no use unseen, none twice.

For any numbers r_n of the samples and w_c of the columns

    d/dW sum_n r_n <f_n, sum_c w_c s_nc>  =  sum_nc r_n w_c G_nc  =  sum_nct r_n w_c g_nct a_nt^T

with the left side from one forward pass of the whole batch and one backward pass, without recorder
and ``vmap``. Random r and w see what plain sums would not: a wrong axis of samples or of columns.

The two sides round differently, and a ReLU or a maximum may go the other way where two numbers are
equal but for rounding. So before anything is refused, both sides are computed once more, in float64
and with parameters that are moved by a percent: what is wrong there is wrong.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite, prod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._pytree import tree_map

from ekfac_ref.errors import ProblemError
from ekfac_ref.model.forward import call, in_algebra_dtype
from ekfac_ref.model.layers import Layer
from ekfac_ref.model.private_copy import copy_of
from ekfac_ref.model.refusals.causes import batchable
from ekfac_ref.model.session import Form, Session, open_session
from ekfac_ref.model.uses import Use
from ekfac_ref.question.batches import Batch

_ROUNDINGS = 32  # beyond these, both sides are computed once more


@dataclass(frozen=True)
class Sum:
    """A sum of matrices [W | b], in units in which no square overflows.

    Attributes:
        total: the sum, the rows of all groups one below the other.
        squares: for every column, the sum of the squares of all terms.
        unit: what the terms have been divided by.
    """

    total: Float[Tensor, "d_out d_in"]
    squares: Float[Tensor, " d_in"]
    unit: float


def units(*factors: Iterable[Tensor]) -> list[float]:
    """The largest absolute value in each, NaN if there is any; or 1 where the product of those is
    next to nothing, below the normal numbers.
    """
    largest = [[torch.stack(torch.aminmax(x)) for x in xs if x.numel()] for xs in factors]
    sizes = [float(torch.stack(ends).abs().amax()) if ends else 0.0 for ends in largest]
    smallest = max((torch.finfo(ends[0].dtype).tiny for ends in largest if ends), default=0.0)
    return [1.0] * len(sizes) if prod(sizes) <= smallest else sizes


@dataclass(frozen=True)
class Seen:
    """What was seen of some samples.

    Attributes:
        S: the Fisher's columns for their outputs, held constant.
        weighted: {layer: from r [N] and w [C] to sum_nc r_n w_c G_nc}.
    """

    S: Float[Tensor, "N C *out"]
    weighted: Mapping[str, Callable[[Tensor, Tensor], Sum]]


See = Callable[[Session, Form, Batch], tuple[Seen, Any]]


def of_taps(by_group: Sequence[tuple[Tensor, Tensor]], r: Tensor, w: Tensor) -> Sum:
    """sum_nct r_n w_c g_nct a_nt^T, from (a [N, T, d_in], g [N, C, T, d_out]) of every group."""
    unit_a, unit_g = units((a for a, _ in by_group), (g for _, g in by_group))
    totals, squares = [], []
    for a, g in by_group:
        a_i = a.flatten(0, 1) / unit_a
        g_o = torch.einsum("n,c,ncto->nto", r, w / unit_g, g).flatten(0, 1)
        totals.append(g_o.T @ a_i)
        squares.append(g_o.square().sum(1) @ a_i.square())
    return Sum(torch.cat(totals), torch.stack(squares).sum(0), unit_a * unit_g)


def of_gradients(G: Float[Tensor, "N C d_out d_in"], r: Tensor, w: Tensor) -> Sum:
    """sum_nc r_n w_c G_nc, from the G_nc themselves."""
    (unit,) = units([G])
    total = torch.einsum("n,c,ncoi->oi", r, w / unit, G)
    return Sum(total, (G / unit).square().sum((0, 1, 2)), unit)


def check_wiring(session: Session, batch: Batch, seen: Seen, see: See) -> None:
    """Raise a ProblemError for a layer whose gradients are not those of autograd.

    Args:
        session: whose model and layers they are.
        batch: the samples.
        seen: what was seen of them.
        see: how it was; asked again where the two sides differ.
    """
    off = _off(session, batch, seen)
    unit = torch.finfo(session.problem.dtype).eps
    suspects = [name for name, ratio in off.items() if not ratio <= _ROUNDINGS * unit]
    elsewhere = list(_elsewhere(session, batch, see)) if suspects else []
    for name in suspects:
        if all(not off_there[name] <= limit for off_there, limit in elsewhere):
            raise ProblemError(
                f"layer {name!r}: its gradients as seen here differ from those of autograd by "
                f"{off[name]:.2g} of their size, so its weight is used in a way that is not seen "
                "(an alias or a copy of it, a hook that changes gradients); call the module "
                "itself, or leave it out by naming the other layers in Problem(layers=...)."
            )


def _elsewhere(
    session: Session, batch: Batch, see: See
) -> Iterator[tuple[dict[str, float], float]]:
    """How far apart the two sides are elsewhere, and what rounding may do there: in float64, or at
    three places in the problem's own dtype if the forward insists on that.
    """
    try:
        yield _off_at(session, batch, see, torch.float64, 1), 1e-8
    except (ProblemError, RuntimeError, TypeError):
        own = session.problem.dtype
        unit = torch.finfo(own).eps
        for place in (1, 2, 3):
            yield _off_at(session, batch, see, own, place), max(unit**0.5, 2 * _ROUNDINGS * unit)


def _off_at(
    session: Session, batch: Batch, see: See, dtype: torch.dtype, place: int
) -> dict[str, float]:
    drawn = torch.Generator().manual_seed(place)
    model = copy_of(session.problem.model).to(dtype)
    for parameter in model.parameters():
        noise = torch.rand(parameter.shape, generator=drawn, dtype=torch.float64)
        parameter.data.mul_(1 + 0.02 * (noise - 0.5).to(parameter))
    data = tree_map(
        lambda x: x.to(dtype) if x.dtype.is_floating_point else x, (batch.inputs, batch.targets)
    )
    other = open_session(replace(session.problem, model=model, batches=[data]))
    ((moved, form),) = other.batches()
    return _off(other, moved, see(other, form, moved)[0])


def _off(session: Session, batch: Batch, seen: Seen) -> dict[str, float]:
    """How far the two sides are apart in every layer, in roots of ``Sum.squares``."""
    drawn = torch.Generator().manual_seed(0)  # the caller's random numbers stay where they are
    r, w = (_numbers(size, drawn).to(seen.S) for size in seen.S.shape[:2])
    gradients = _by_autograd(session, batch, torch.einsum("n,c,nc...->n...", r, w, seen.S))
    weights = in_algebra_dtype(r), in_algebra_dtype(w)
    off = {}
    for layer in session.layers:
        gradient = in_algebra_dtype(layer.to_matrix(gradients))
        off[layer.name] = _distance(layer, gradient, seen.weighted[layer.name](*weights))
    return off


def _numbers(size: int, drawn: torch.Generator) -> Tensor:
    """Of both signs, their absolute values between 1/2 and 1."""
    x = torch.rand(size, generator=drawn, dtype=torch.float64) - 0.5
    return x + 0.5 * x.sign()


def _distance(layer: Layer, gradient: Tensor, seen: Sum) -> float:
    if not isfinite(seen.unit):
        raise ProblemError(
            f"layer {layer.name!r}: NaN or infinity in its inputs or gradients; look for a root, a "
            "norm or a quotient of 0 in the forward (torch.where differentiates both branches)."
        )
    residual = (gradient / seen.unit - seen.total).square().sum(0)
    weight = layer.shape[1] - (layer.bias is not None)
    parts = ((residual[:weight], seen.squares[:weight]), (residual[weight:], seen.squares[weight:]))
    return max(_ratio(float(apart.sum()), float(size.sum())) for apart, size in parts)


def _ratio(apart: float, size: float) -> float:
    return 0.0 if apart == 0 else (apart / size) ** 0.5 if size > 0 else float("inf")


def _by_autograd(session: Session, batch: Batch, v: Float[Tensor, "N *out"]) -> dict[str, Tensor]:
    """The gradient of sum_n <f_n, v_n> for every layer's parameters, by their names."""
    of_layers = {name for layer in session.layers for name in layer.parameters}
    own = {name: p for name, p in session.model.named_parameters() if name in of_layers}
    originals = {n: p for n, p in session.problem.model.named_parameters() if p.requires_grad}
    asked = [*own.values(), *originals.values()]
    found: tuple[Tensor | None, ...] = (None,) * len(asked)
    with torch.enable_grad(), batchable("loss.backward() fails on it; make that work first"):
        try:
            for parameter in own.values():
                parameter.requires_grad_(True)
            f = call(session.model, batch.inputs)
            if f.requires_grad:
                found = torch.autograd.grad(f, asked, v, allow_unused=True)
        finally:
            for parameter in own.values():
                parameter.requires_grad_(False)
    for name, gradient in zip(originals, found[len(own) :], strict=True):
        if gradient is not None:
            raise ProblemError(
                f"parameter {name!r}: the forward of a copy of the model reaches that of the "
                "model itself, by a global name or an object that a copy shares; use it through "
                "self in the forward."
            )
    return {
        name: p.new_zeros(p.shape) if gradient is None else gradient
        for (name, p), gradient in zip(own.items(), found[: len(own)], strict=True)
    }


def check_uses(
    tried: Mapping[str, list[Use]], found: Mapping[str, list[Tensor]] | None = None
) -> None:
    """Raise a ProblemError for a layer whose uses cannot be tapped.

    Args:
        tried: {layer: its uses when the model was tried}.
        found: {layer: the inputs of its uses now}, where that is known.
    """
    for name, uses in tried.items():
        if any(use.transformed for use in uses):
            raise ProblemError(
                f"layer {name!r}: the forward calls it inside of torch.func.grad, jvp, vmap or "
                "the like, where what goes in and what comes back cannot be seen; pass the "
                "network that is transformed as the model, with its outputs as they are, or leave "
                "the layer out by naming the others in Problem(layers=...)."
            )
        if found is not None and len(found[name]) != len(uses):
            raise ProblemError(
                f"layer {name!r}: it was used {len(uses)} times when the model was tried, but "
                f"{len(found[name])} times now; let the forward be one function, of its inputs "
                "alone."
            )
