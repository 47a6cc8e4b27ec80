"""Layers that keep a model from being run on whole batches, so that they can be left out."""

from contextlib import suppress

import torch

from ekfac_ref.model.batched.comparison import one_by_one
from ekfac_ref.model.batched.layout import layout_of
from ekfac_ref.model.copies.replica import Replica
from ekfac_ref.model.forward import call
from ekfac_ref.model.layers import Names
from ekfac_ref.model.recording.recorder import Recorder, axes_of_uses
from ekfac_ref.question.batches import Batch


def why_alone(replica: Replica, batch: Batch) -> str:
    """What to say where the samples of a batch are run one after another."""
    names = _obstacles(replica, batch.few()[0])
    once = f"{names[0]!r} is" if len(names) == 1 else f"{', '.join(map(repr, names))} are"
    way_out = (
        f"{once} used once for all samples: without, they could be run together; for that, name "
        "the others in layers=(...)."
        if names
        else "Layers that are called on [N, ...] avoid that."
    )
    return (
        f"model: at sample {batch.first} it is not clear which positions of its layers belong to "
        "which sample, so samples are run one after another: the same numbers, but one forward "
        f"and backward pass for each. {way_out}"
    )


def _obstacles(replica: Replica, few: Batch) -> Names:
    """The layers that are used once for all samples, if without these whole batches can be run.

    The samples' axis that such a use is given is one more, and the model may have no place for it.
    """
    with suppress(Exception):
        alone, together = (_axes(replica, some) for some in (few.samples(0, 1), few))
        once = {n for n, of in alone.items() if any(x in of for x in together[n])}
        others = tuple(layer for layer in replica.layers if layer.name not in once)
        if once and others:
            without = Replica(replica.original, replica.copy, others)
            if layout_of(without, few, one_by_one(without, few)) is not None:
                return tuple(layer.name for layer in replica.layers if layer.name in once)
    return ()


def _axes(replica: Replica, batch: Batch) -> dict[str, list[torch.Size]]:
    with torch.enable_grad(), Recorder(replica.layers) as recorder:
        call(replica.copy, batch.inputs)
    return axes_of_uses(recorder.uses)
