r"""Which samples the positions of every use are of: tried on whole batches, and proved.

A few distinct samples are run together and each alone. Of the ways in which the shapes can be read
(``sample_axis.py``), the one counts by which every sample has the same outputs, inputs a and
gradients g together as alone, whatever is pulled back. What is found so on the first batch of a
form is held to plain autograd on every batch (``refusals/wiring.py``).
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count

import torch
from jaxtyping import Float
from torch import Tensor

from ekfac_ref.model.batched.forward_pass import ForwardPass, Misfit, run
from ekfac_ref.model.batched.pull_back import pull_back
from ekfac_ref.model.batched.sample_axis import OnceForAll, SampleAxes, SampleAxis, readings
from ekfac_ref.model.copies.replica import Replica
from ekfac_ref.model.refusals.by_autograd import by_autograd
from ekfac_ref.model.refusals.samples import same_outputs
from ekfac_ref.question.batches import Batch

_NEARLY = 1 / 16  # of a sample's gradients


@dataclass(frozen=True)
class OneSample:
    """One sample by itself.

    Attributes:
        seen: its forward pass.
        v: what was pulled back from its outputs, [1, 1, *out].
        pulled: the gradients that came of it, of the leaves and, behind them, of parameters.
    """

    seen: ForwardPass
    v: Tensor
    pulled: list[Tensor]


def layout_of(replica: Replica, few: Batch, alone: Sequence[OneSample]) -> SampleAxes | None:
    """How the uses are read in batches of this form; None where nothing is proved.

    ``alone``: every one of the few samples, the first with the gradients of all parameters.
    """
    axes, *others = (one.seen.axes for one in alone)
    if any(other != axes for other in others):
        return None
    if not _only_looks(replica, few.samples(0, 1), alone[0]):
        return None
    truth = _truth(alone)
    f, v = (
        torch.cat(of).detach() for of in zip(*((one.seen.f, one.v) for one in alone), strict=True)
    )
    for attempt in count():
        ways = _Ways(axes, few.size, attempt)
        with suppress(Exception):  # a module may refuse shapes of a wrong reading by any of its own
            seen = run(replica, few.inputs, few.size, ways)
            if same_outputs(seen.f, f, seen.roundoff):
                g = pull_back(seen.f, seen.leaves, v)
                if (layout := _agreeing(seen, ways.found, g, truth)) is not None:
                    return layout
        if not ways.another:
            break
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


def _only_looks(replica: Replica, sample: Batch, alone: OneSample) -> bool:
    """Whether the recorder left alone what it saw: a forward pass without it is differentiated."""
    plain = by_autograd(replica, sample, alone.v[:, 0])
    of_parameters = alone.pulled[len(alone.seen.leaves) :]
    recorded = {name: of[0] for name, of in zip(replica.parameters, of_parameters, strict=True)}
    pairs = ((layer.to_matrix(recorded), layer.to_matrix(plain)) for layer in replica.layers)
    return all(_same(x, y, alone.seen.roundoff) for x, y in pairs)


def _truth(alone: Sequence[OneSample]) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """{layer: (a, g) of each of its uses}, every sample by itself."""
    pairs = [(one.seen, iter(one.pulled)) for one in alone]
    return {
        name: [
            (
                torch.cat([seen.inputs(name, k) for seen, _ in pairs]),
                torch.cat([seen.gradients(name, k, next(g)) for seen, g in pairs]),
            )
            for k in range(len(uses))
        ]
        for name, uses in alone[0].seen.uses.items()
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
