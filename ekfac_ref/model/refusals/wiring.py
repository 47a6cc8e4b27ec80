r"""What was seen of the layers against the gradient by plain autograd: no use unseen, none twice.

For any numbers r_n of the samples and w_c of the columns

    d/dW sum_n r_n <f_n, sum_c w_c s_nc>  =  sum_nc r_n w_c G_nc  =  sum_nct r_n w_c g_nct a_nt^T

with the left side from a backward pass to the parameters themselves: of a forward pass without
recorder and ``vmap``, or, for batches of a form on which the recorder was found to change nothing
(``batched/layout.py``), of the pass that was recorded. Both sides are multiplied with a random
vector, which takes no product of matrices and sees what an entry has. Random r and w see what plain
sums would not: a wrong axis of samples or of columns.

The two sides round differently; where all cancels, rounding is all that is left; and a ReLU or a
maximum may go the other way where two numbers are equal but for rounding. So before anything is
refused, both sides are computed once more, in float64 and with parameters and inputs that are a
percent other, and compared with what float32 makes of them: what is wrong there is wrong.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ekfac_ref.errors import ProblemError
from ekfac_ref.model.copies.dtypes import inputs_in, model_in
from ekfac_ref.model.forward import in_algebra_dtype
from ekfac_ref.model.refusals.by_autograd import by_autograd
from ekfac_ref.model.refusals.weighted import Seen, any_numbers, combined, weight_and_bias, weights
from ekfac_ref.model.session import Session
from ekfac_ref.question.batches import Batch
from ekfac_ref.question.inputs import on_tensors

PLACES = (1, 2, 3)
# Beyond these, or a quarter, both sides are computed once more. What attention makes of scores
# that cancel is off by a hundred and more; without one of n terms a sum is off by 1/sqrt(n).
_BEYOND = 512.0
_ROOTS = 4.0  # or beyond so many times the root of the number of terms: a sum is off by so much
_ROUNDINGS = 64.0  # where both sides are computed once more

_UNSEEN = (
    "its weight is used in a way that is not seen (an alias or a copy of it, a hook that changes "
    "gradients, a derivative that the forward takes), or samples change one another's outputs "
    "(statistics or a capacity of the batch); call the module itself, or pass the network that is "
    "differentiated as the model, or leave the layer out by naming the others in "
    "Problem(layers=...)"
)
_MIXED = (
    "the samples of a batch change one another's outputs, and per-sample gradients are not "
    "defined; remove what mixes them (statistics or a capacity of the whole batch)"
)

See = Callable[[Session, Batch], tuple[Seen, Any]]


def check_wiring(session: Session, batch: Batch, seen: Seen, see: See) -> None:
    """Raise a ProblemError for a layer whose gradients are not those of autograd.

    Args:
        session: whose model and layers they are.
        batch: the samples.
        seen: what was seen of them.
        see: how it was; asked again where the two sides differ.

    A second pass over the data is not checked again.
    """
    if session.is_new(batch) and (off := differing(session, batch, seen, see)):
        raise _refusal(off, _UNSEEN)


def check_apart(session: Session, batch: Batch, seen: Seen, see: See) -> None:
    """Likewise, where ``seen`` is of samples alone, and autograd's of the whole batch."""
    if off := differing(session, batch, seen, see):
        raise _refusal(off, _MIXED)


def _refusal(off: dict[str, float], why: str) -> ProblemError:
    name, ratio = next(iter(off.items()))
    return ProblemError(
        f"layer {name!r}: its gradients as seen here differ from those of autograd by {ratio:.2g} "
        f"of their size, so {why}."
    )


def differing(session: Session, batch: Batch, seen: Seen, see: See) -> dict[str, float]:
    """{layer whose gradients are not those of autograd: by how much of their size}."""
    here = _sides(session, batch, seen)
    axes = session.form(batch).axes
    terms = {name: batch.size * sum(x.numel() for x in axes.get(name, ())) for name in here}
    limits = {
        name: min(max(_BEYOND, _ROOTS * n**0.5) * seen.roundoff, 0.25) for name, n in terms.items()
    }
    off = {name: sides.off for name, sides in here.items() if not sides.off <= limits[name]}
    if off:
        for place in _places(session, batch, see):
            off = {name: ratio for name, ratio in off.items() if not place.agree(name)}
            if not off:
                break
    return off


@dataclass(frozen=True)
class _Sides:
    """Of one layer: both sides of the equation, and the root of the sum of squares of its terms.

    Each is of the weight, times a vector, and of the bias, and in ``unit``.
    """

    autograd: Float[Tensor, "d_out k"]
    seen: Float[Tensor, "d_out k"]
    size: list[float]
    unit: float

    @property
    def apart(self) -> list[float]:
        distances: list[float] = (self.autograd - self.seen).norm(dim=0).tolist()
        return distances

    @property
    def off(self) -> float:
        """Their distance in units of the size, of weight or bias, the larger one."""
        pairs = zip(self.apart, self.size, strict=True)
        return max(0.0 if d == 0 else d / size if size > 0 else float("inf") for d, size in pairs)

    def moved(self, other: "_Sides") -> list[float]:
        """How far the two sides together are from the other's."""
        scale = other.unit / self.unit
        pairs = [(self.autograd, other.autograd), (self.seen, other.seen)]
        apart = torch.stack([(x - scale * y.to(x)).norm(dim=0) for x, y in pairs])
        distances: list[float] = apart.sum(0).tolist()
        return distances


@dataclass(frozen=True)
class _Place:
    """Both sides where parameters and inputs are a percent other than here.

    Attributes:
        sides: of every layer.
        replay: of every layer, with another rounding.
        roundings: by how much of its terms' size the two sides may differ.
        share: by how much of what the other rounding changes, which counts what cancels.
    """

    sides: dict[str, _Sides]
    replay: dict[str, _Sides]
    roundings: float
    share: float

    def agree(self, name: str) -> bool:
        """Whether the two sides of a layer differ by rounding alone."""
        one = self.sides[name]
        by_rounding = one.moved(self.replay[name])
        bounds = zip(one.apart, one.size, by_rounding, strict=True)
        return all(d <= max(self.roundings * size, self.share * m) for d, size, m in bounds)


def _places(session: Session, batch: Batch, see: See) -> Iterator[_Place]:
    """Several, for where all cancels, another rounding may by chance be none.

    In float64 and replayed in float32, or else with the last places moved, of the coarsest dtype
    that the forward rounds to; all in the problem's own dtype, if the forward insists on that.
    """
    for k in PLACES:
        try:
            exact, roundoff = _at(session, batch, see, torch.float64, k)
        except Exception:  # a forward raises whatever it likes in another dtype
            own = session.problem.dtype
            unit = torch.finfo(own).eps
            place, _ = _at(session, batch, see, own, k)
            nudged, _ = _at(session, batch, see, own, k, unit)
            yield _Place(place, nudged, max(unit**0.5, _ROUNDINGS * unit), _ROUNDINGS)
            continue
        roundings = max(1e-8, _ROUNDINGS * roundoff)  # it may round to float32 in between
        with contextlib.suppress(Exception):
            single, _ = _at(session, batch, see, torch.float32, k)
            yield _Place(exact, single, roundings, 1e-3)
        # A nudge that is seen where it rounds: a softmax in float32 would swallow a smaller one.
        unit = max(torch.finfo(torch.float64).eps, roundoff)
        nudged, _ = _at(session, batch, see, torch.float64, k, unit)
        yield _Place(exact, nudged, roundings, _ROUNDINGS)


def _at(
    session: Session, batch: Batch, see: See, dtype: torch.dtype, place: int, nudge: float = 0.0
) -> tuple[dict[str, _Sides], float]:
    """Both sides, and the roundoff there."""
    drawn = torch.Generator().manual_seed(place)

    def move(x: Tensor) -> Tensor:
        if not x.dtype.is_floating_point:
            return x
        noise, more = torch.rand(2, *x.shape, generator=drawn, device="cpu").double() - 0.5
        return (x.cpu().double() * (1 + 0.02 * noise + 4 * nudge * more)).to(x.device, dtype)

    model = session.copied()
    for parameter in model.parameters():
        parameter.data = move(parameter.data)
    data = (
        inputs_in(on_tensors(move, batch.inputs), dtype),
        batch.targets.to(dtype) if batch.targets.dtype.is_floating_point else batch.targets,
    )
    problem = replace(session.problem, model=model_in(model, dtype), batches=[data])
    other = session.like(problem)
    ((moved, _),) = other.batches()
    seen, _ = see(other, moved)
    return _sides(other, moved, seen), seen.roundoff


def _sides(session: Session, batch: Batch, seen: Seen) -> dict[str, _Sides]:
    gradients = seen.gradients
    if gradients is None:
        gradients = by_autograd(session.replica, batch, combined(seen.S))
    r, w = weights(seen.S)
    found = {}
    for layer in session.layers:
        x = any_numbers(layer.shape[1] - (layer.bias is not None), 2)
        found_sum = seen.weighted[layer.name](r, w, x)
        if not isfinite(found_sum.unit):
            raise ProblemError(
                f"layer {layer.name!r}: NaN or infinity in its inputs or gradients; look for a "
                "root, a norm or a quotient of 0 in the forward (torch.where differentiates both "
                "branches)."
            )
        ends = (1, 1) if layer.bias is not None else (2,)
        gradient = in_algebra_dtype(layer.to_matrix(gradients))
        if found_sum.unit != 1:
            gradient = gradient / found_sum.unit
        size = [float(x.sum()) ** 0.5 for x in found_sum.squares.split(ends)]
        autograd = torch.stack(weight_and_bias(gradient, x.to(gradient)), 1)
        found[layer.name] = _Sides(autograd, found_sum.total, size, found_sum.unit)
    return found
