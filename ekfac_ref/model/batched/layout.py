r"""Which samples the positions of every use are of: tried on whole batches, and proved.

A few distinct samples are run together and each alone. Of the ways in which the shapes can be read
(``sample_axis.py``), the one counts by which every sample has the same inputs a and the same
gradients g together as alone, whatever is pulled back. What is found so on the first batch of a
form is held to plain autograd on every batch (``refusals/wiring.py``).

Where nothing is proved, samples are run one after another: right, and slow.
"""

from contextlib import suppress
from dataclasses import replace
from itertools import count

import torch
from jaxtyping import Float
from torch import Tensor

from ekfac_ref.errors import ProblemError
from ekfac_ref.model.batched.forward_pass import ForwardPass, Misfit, run, run_alone
from ekfac_ref.model.batched.pull_back import pull_back
from ekfac_ref.model.batched.sample_axis import OnceForAll, SampleAxes, SampleAxis, readings
from ekfac_ref.model.refusals.by_autograd import by_autograd, own_parameters
from ekfac_ref.model.session import Session, open_session
from ekfac_ref.question.batches import Batch
from ekfac_ref.question.inputs import on_tensors

_NEARLY = 1 / 16  # of a sample's gradients


def layout_of(session: Session, batch: Batch) -> SampleAxes | None:
    """How the uses are read in batches of this form; None where nothing is proved.

    Found on the first batch with distinct samples; until then, on equal ones, for that batch alone.
    """
    compared, layout = session.learned.layouts.get(batch.form, (0, None))
    if compared < 2:
        few, distinct = batch.few()
        layout = _found(session, few)
        session.learned.layouts[batch.form] = distinct, layout
    return layout


def _found(session: Session, few: Batch) -> SampleAxes | None:
    found = _proved(session, few)
    if found is not None or session.problem.dtype == torch.float64:
        return found
    # It may be rounding that tells them apart, which a network amplifies at will.
    with suppress(ProblemError, RuntimeError, TypeError):  # it may insist on its dtype
        inputs = on_tensors(lambda x: x.double() if x.dtype.is_floating_point else x, few.inputs)
        model = session.copied().double()
        exact = replace(session.problem, model=model, batches=[(inputs, few.targets)])
        return _proved(open_session(exact), replace(few, inputs=inputs))
    return None


class _Ways:
    """The readings of every use, by their axes in one sample and in N, of which one is tried."""

    def __init__(self, alone: dict[str, list[torch.Size]], N: int, attempt: int) -> None:
        self._alone, self._N, self._attempt = alone, N, attempt
        self.found: dict[str, list[tuple[SampleAxis, ...]]] = {name: [] for name in alone}

    def __call__(self, name: str, k: int, axes: torch.Size) -> SampleAxis:
        alone = self._alone[name]
        way = readings(alone[k], axes, self._N) if k < len(alone) else ()
        if not way:
            raise Misfit
        self.found[name][k:] = [way]  # a forward pass may be made once more
        return way[min(self._attempt, len(way) - 1)]

    @property
    def another(self) -> bool:
        """Whether there is one that was not tried."""
        most = (len(way) for of_layer in self.found.values() for way in of_layer)
        return self._attempt + 1 < max(most, default=0)


def _proved(session: Session, few: Batch) -> SampleAxes | None:
    alone = [run_alone(session, few.samples(n, n + 1).inputs) for n in range(few.size)]
    axes, *others = (one.axes for one in alone)
    if any(other != axes for other in others):
        return None
    drawn = torch.Generator().manual_seed(0)
    f = alone[0].f
    v = torch.randn(few.size, 1, *f.shape[1:], generator=drawn, device="cpu").to(f)
    truth, parameters = _truth(alone, v), own_parameters(session)
    for attempt in count():
        ways = _Ways(axes, few.size, attempt)
        with suppress(ProblemError, RuntimeError, Misfit):
            seen = run(session, few.inputs, few.size, ways)
            pulled = pull_back(seen.f, [*seen.leaves, *parameters.values()], v)
            g = pulled[: len(seen.leaves)]
            if (layout := _agreeing(seen, ways.found, g, truth)) is not None:
                break
        if not ways.another:
            return None
    of_parameters = (x[0] for x in pulled[len(seen.leaves) :])
    recorded = dict(zip(parameters, of_parameters, strict=True))
    # Whether the recorder left alone what it saw: a forward pass without it is differentiated.
    plain = by_autograd(session, few, v[:, 0])
    pairs = ((layer.to_matrix(recorded), layer.to_matrix(plain)) for layer in session.layers)
    return layout if all(_same(x, y, seen.roundoff) for x, y in pairs) else None


def _truth(alone: list[ForwardPass], v: Tensor) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """{layer: (a, g) of each of its uses}, every sample by itself; v is what is pulled back."""
    pulled = [iter(pull_back(one.f, one.leaves, v[n : n + 1])) for n, one in enumerate(alone)]
    pairs = list(zip(alone, pulled, strict=True))
    return {
        name: [
            (
                torch.cat([one.inputs(name, k) for one in alone]),
                torch.cat([one.gradients(name, k, next(g)) for one, g in pairs]),
            )
            for k in range(len(uses))
        ]
        for name, uses in alone[0].uses.items()
    }


def _agreeing(
    seen: ForwardPass,
    ways: dict[str, list[tuple[SampleAxis, ...]]],
    gradients: list[Tensor],
    truth: dict[str, list[tuple[Tensor, Tensor]]],
) -> SampleAxes | None:
    """Of every use the first reading by which a and g are those of the samples alone.

    None where a use has none, or not as many uses are seen.
    """
    g = iter(gradients)
    layout = {
        name: [_reading(seen, name, k, next(g), way, truth[name][k]) for k, way in enumerate(uses)]
        for name, uses in ways.items()
    }
    proved = {name: [one for one in found if one] for name, found in layout.items()}
    whole = all(len(found) == len(truth[name]) for name, found in proved.items())
    return proved if whole else None


def _reading(
    seen: ForwardPass,
    name: str,
    k: int,
    g: Tensor,
    way: tuple[SampleAxis, ...],
    truth: tuple[Tensor, Tensor],
) -> SampleAxis | None:
    tried = seen.layout[name][k]
    of_alone_a, of_alone_g = truth
    for samples in (tried,) if isinstance(tried, OnceForAll) else way:
        if _same(seen.inputs(name, k, samples), of_alone_a, seen.roundoff):
            of_all_g = seen.gradients(name, k, g, samples)
            pair = of_all_g, of_alone_g, seen.roundoff
            if _same(*pair) or _nearly(*pair):
                return samples
    return None


def _same(x: Tensor, y: Tensor, roundoff: float) -> bool:
    if x.shape != y.shape or not x.is_floating_point():
        return torch.equal(x, y)
    return y.numel() == 0 or not bool(_largest(x - y) > _rounding(y, roundoff))


def _rounding(y: Tensor, roundoff: float) -> Tensor:
    """By how much an entry of what is y but for rounding may differ."""
    return max(torch.finfo(y.dtype).eps, roundoff) ** 0.5 * _largest(y)


def _largest(x: Tensor) -> Tensor:
    """The largest absolute value: the norm of that order takes ten times as long (torch 2.13)."""
    return x.abs().amax()


def _nearly(x: Float[Tensor, "N C T d"], y: Float[Tensor, "N C T d"], roundoff: float) -> bool:
    """Whether all gradients are the same but for a ReLU here or there.

    In float32 some input is so near to 0 that rounding decides on which side, and a few gradients
    are all other: of no sample more than a small part, and not the most of all. Another reading has
    others everywhere. (That no sample's gradient is partly of another's outputs, autograd says.)
    """
    if x.shape != y.shape or x.dtype == torch.float64:
        return False
    apart, size = (of.flatten(1).norm(dim=1) for of in (x - y, y))
    others = (x - y).abs() > _rounding(y, roundoff)
    most = 2 * others.sum() > (y != 0).sum()
    return not bool((apart > _NEARLY * size).any() or most)
