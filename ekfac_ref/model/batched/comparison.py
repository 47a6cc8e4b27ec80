"""A few samples of a batch, together and each alone: their outputs, and how layers are read."""

from contextlib import suppress

import torch
from torch import Tensor

from ekfac_ref.model.batched.forward_pass import ForwardPass, Misfit, run_alone, run_by
from ekfac_ref.model.batched.layout import OneSample, layout_of
from ekfac_ref.model.batched.pull_back import pull_back
from ekfac_ref.model.batched.sample_axis import SampleAxes
from ekfac_ref.model.copies.replica import Replica
from ekfac_ref.model.refusals.outputs import check_outputs
from ekfac_ref.model.refusals.samples import (
    InFloat64,
    check_not_drawing,
    check_samples_apart,
    last_alone,
    same_in_float64,
    same_outputs,
)
from ekfac_ref.question.batches import Batch


def together_and_apart(
    replica: Replica, few: Batch, exact: InFloat64
) -> tuple[Tensor, SampleAxes | None]:
    """The outputs of the samples, and how the uses of the layers are read in batches like this.

    None where that is not proved, be it that there is one sample alone: each has to be run by
    itself, which is right, and slow.

    Raises:
        ProblemError: together and one by one the samples have other outputs, by more than rounding.
    """
    if few.size == 1:
        return check_samples_apart(replica.copy, few, exact), None
    with check_not_drawing(replica.copy):
        alone = one_by_one(replica, few)
    layout = layout_of(replica, few, alone) or _layout_in_float64(replica, few, exact)
    if layout is None:
        check_samples_apart(replica.copy, few, exact)
    return torch.cat([one.seen.f for one in alone]).detach(), layout


def run_held(
    replica: Replica, batch: Batch, layout: SampleAxes | None, exact: InFloat64 | None
) -> ForwardPass:
    """The model on one sample, or by a layout on several, the last held to what it has alone.

    What the few show need not hold of more: a branch on what is in a batch, an expert's capacity,
    which leaves the last worst off. It comes first: a forward may write where inputs are.

    Args:
        replica: the model.
        batch: the samples.
        layout: how its uses are read; None for one sample.
        exact: asked where the last sample differs; None if it is not to be compared.

    Raises:
        Misfit: it has other uses or axes than the layout, or the last sample other outputs.
    """
    if layout is None:
        return run_alone(replica, batch.inputs)
    last = None if exact is None else last_alone(replica.copy, batch)
    seen = run_by(replica, batch.inputs, batch.size, layout)
    if last is None or exact is None or same_outputs(seen.f[-1:], last, seen.roundoff):
        return seen
    if not same_in_float64(exact, batch):
        raise Misfit
    return seen


def one_by_one(replica: Replica, few: Batch) -> list[OneSample]:
    """Each forward and backward before the next: a model may write where its inputs were."""
    drawn = torch.Generator().manual_seed(0)
    alone = []
    for n in range(few.size):
        seen = run_alone(replica, few.samples(n, n + 1).inputs)
        check_outputs(seen.f)
        shape = (1, 1, *seen.f.shape[1:])
        v = torch.randn(shape, generator=drawn, device="cpu").to(seen.f)
        of_parameters = () if n else replica.parameters.values()
        alone.append(OneSample(seen, v, pull_back(seen.f, [*seen.leaves, *of_parameters], v)))
    return alone


def _layout_in_float64(replica: Replica, few: Batch, exact: InFloat64) -> SampleAxes | None:
    """It may be rounding that tells them apart, which a network amplifies at will."""
    if replica.dtype == torch.float64:
        return None
    with suppress(Exception):  # it may insist on its dtype, by whatever it raises
        fine, same = exact(few)
        return layout_of(fine, same, one_by_one(fine, same))
    return None
