r"""Which samples the positions of every use are of: tried on whole batches, and proved.

A few distinct samples are run together and each alone. Of the ways in which the shapes can be read
(``sample_axis.py``), the one counts by which every sample has the same inputs a and the same
gradients g together as alone, whatever is pulled back. What is found so on the first batch of a
form is held to plain autograd on every batch (``refusals/wiring.py``).

Where nothing is proved, samples are run one after another: right, and slow.
"""

from contextlib import suppress
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from ekfac_ref.errors import ProblemError
from ekfac_ref.model.batched.forward_pass import ForwardPass, Misfit, run
from ekfac_ref.model.batched.pull_back import pull_back
from ekfac_ref.model.batched.sample_axis import OnceForAll, SampleAxes, SampleAxis, readings
from ekfac_ref.model.forward import call
from ekfac_ref.model.private_copy import copy_of
from ekfac_ref.model.refusals.causes import explained
from ekfac_ref.model.session import Session, open_session
from ekfac_ref.model.uses import Recorder, Use
from ekfac_ref.question.batches import Batch
from ekfac_ref.question.inputs import on_tensors, tensors_of

COMPARED = 3  # distinct samples
_NEARLY = 1 / 16  # of a sample's gradients


def layout_of(session: Session, batch: Batch) -> SampleAxes | None:
    """How the uses are read in batches of this form; None where nothing is proved.

    Found on the first batch with distinct samples; until then, on equal ones, for that batch alone.
    """
    compared, layout = session.learned.layouts.get(batch.form, (0, None))
    if compared < 2:
        few = _distinct(batch)
        layout = _found(session, batch.chosen(few if len(few) > 1 else [0, 1]))
        session.learned.layouts[batch.form] = len(few), layout
    return layout


def _distinct(batch: Batch) -> list[int]:
    """The numbers in the batch of COMPARED samples with different inputs, or of fewer."""
    found, tensors = list[int](), tensors_of(batch.inputs)
    other = torch.ones(batch.size, dtype=torch.bool, device="cpu")  # than all that were found
    while len(found) < COMPARED and bool(other.any()):
        n = int(other.nonzero()[0])
        found.append(n)
        different = [(x != x[n])[:, None].flatten(1).any(1).cpu() for x in tensors]
        other &= torch.stack(different).any(0)
    return found


def _found(session: Session, few: Batch) -> SampleAxes | None:
    found = _proved(session, few)
    if found is not None or session.problem.dtype == torch.float64:
        return found
    # It may be rounding that tells them apart, which a network amplifies at will.
    with suppress(ProblemError, RuntimeError, TypeError):  # it may insist on its dtype
        inputs = on_tensors(lambda x: x.double() if x.dtype.is_floating_point else x, few.inputs)
        model = copy_of(session.problem.model).double()
        exact = replace(session.problem, model=model, batches=[(inputs, few.targets)])
        return _proved(open_session(exact), replace(few, inputs=inputs))
    return None


def _proved(session: Session, few: Batch) -> SampleAxes | None:
    N = few.size
    alone = [run(session, few.samples(n, n + 1).inputs, 1, None) for n in range(N)]
    with torch.enable_grad(), explained(), Recorder(session.layers) as together:
        call(session.model, few.inputs)
    ways = _ways([one.uses for one in alone], together.uses, N)
    if ways is None:
        return None
    drawn = torch.Generator().manual_seed(0)
    v = torch.randn(N, 1, *alone[0].f.shape[1:], generator=drawn, device="cpu").to(alone[0].f)
    truth = _truth(alone, v)
    for attempt in range(max(len(way) for of_layer in ways.values() for way in of_layer)):
        tried = {
            name: [way[min(attempt, len(way) - 1)] for way in of_layer]
            for name, of_layer in ways.items()
        }
        try:
            seen = run(session, few.inputs, N, tried)
            g = iter(pull_back(seen.f, seen.leaves, v))
        except (ProblemError, RuntimeError, Misfit):
            continue
        layout = {
            name: [
                _agreeing(seen, name, k, next(g), way, truth[name][k])
                for k, way in enumerate(of_layer)
            ]
            for name, of_layer in ways.items()
        }
        proved = {name: [one for one in found if one] for name, found in layout.items()}
        if proved == layout:
            return proved
    return None


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


def _ways(
    alone: list[dict[str, list[Use]]], together: dict[str, list[Use]], N: int
) -> dict[str, list[tuple[SampleAxis, ...]]] | None:
    """{layer: the readings of each use}; None where a use has none, or not all have as many."""
    ways = {}
    for name, uses in together.items():
        axes = [[use.axes for use in one[name]] for one in alone]
        if any(of_sample != axes[0] for of_sample in axes) or len(axes[0]) != len(uses):
            return None
        pairs = zip(axes[0], uses, strict=True)
        ways[name] = [readings(one, several.axes, N) for one, several in pairs]
        if not all(ways[name]):
            return None
    return ways


def _agreeing(
    seen: ForwardPass,
    name: str,
    k: int,
    g: Tensor,
    way: tuple[SampleAxis, ...],
    truth: tuple[Tensor, Tensor],
) -> SampleAxis | None:
    """The first reading of use k by which a and g are those of the samples alone."""
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
    return not bool(_others(x, y, roundoff).any())


def _others(x: Tensor, y: Tensor, roundoff: float) -> Tensor:
    """Which entries differ by more than rounding."""
    unit = max(torch.finfo(x.dtype).eps, roundoff)
    return (x - y).abs() > (unit**0.5 * y.abs().amax() if y.numel() else 0.0)


def _nearly(x: Float[Tensor, "N C T d"], y: Float[Tensor, "N C T d"], roundoff: float) -> bool:
    """Whether all gradients are the same but for a ReLU here or there.

    In float32 some input is so near to 0 that rounding decides on which side, and a few gradients
    are all other: of no sample more than a small part, and not the most of all. Another reading has
    others everywhere. (That no sample's gradient is partly of another's outputs, autograd says.)
    """
    if x.shape != y.shape or x.dtype == torch.float64:
        return False
    apart, size = (of.flatten(1).norm(dim=1) for of in (x - y, y))
    most = 2 * _others(x, y, roundoff).sum() > (y != 0).sum()
    return not bool((apart > _NEARLY * size).any() or most)
