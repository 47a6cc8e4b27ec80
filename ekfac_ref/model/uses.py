"""What a model does with each of its layers, tried on a sample, and what to say where it fails."""

from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import nn

from ekfac_ref.errors import ProblemError, first_line, of_memory
from ekfac_ref.model.forward import call as call_model
from ekfac_ref.model.layers import Layer, naming
from ekfac_ref.model.recorder import Recorder, RecorderOfAnyUse, check_not_transformed
from ekfac_ref.model.refusals.causes import way_out
from ekfac_ref.model.refusals.misuses import LayerRefused
from ekfac_ref.question.batches import Batch

AnyRecorder = TypeVar("AnyRecorder", bound=Recorder)


def uses(model: nn.Module, layers: tuple[Layer, ...], batch: Batch) -> Recorder:
    """What the model does with each layer, as recorded on the first sample of the batch."""
    try:
        found = _uses(model, layers, batch)
    except LayerRefused as error:
        raise ProblemError(
            f"{str(error).removesuffix('.')}; go on by {naming(that_run(model, layers, batch))}."
        ) from error
    check_not_transformed(found.uses)
    return found


def that_run(model: nn.Module, layers: tuple[Layer, ...], batch: Batch) -> tuple[str, ...]:
    """The names of the layers that can be treated together, tried one after the other."""
    kept: tuple[Layer, ...] = ()
    for layer in layers:
        try:
            found = _uses(model, (*kept, layer), batch)
        except ProblemError:
            continue
        if not any(use.transformed for use in found.uses[layer.name]):
            kept = (*kept, layer)
    return tuple(layer.name for layer in kept)


def _uses(model: nn.Module, layers: tuple[Layer, ...], batch: Batch) -> Recorder:
    found = _recorded(model, Recorder(layers), batch.samples(0, 1))
    if not all(found.uses.values()):  # an expert that the first sample does not go to
        everywhere = _recorded(model, Recorder(layers), batch).uses
        _check_used(name for name, uses in everywhere.items() if not uses)
    return found


def any_uses(model: nn.Module, layers: tuple[Layer, ...], batch: Batch) -> RecorderOfAnyUse:
    """That the model uses each layer, on the first sample of the batch or on others."""
    found = _recorded(model, RecorderOfAnyUse(layers), batch.samples(0, 1))
    names = [layer.name for layer in layers]
    if len(found.used) < len(names):
        used = _recorded(model, RecorderOfAnyUse(layers), batch).used
        advice = f"; go on by {naming(tuple(name for name in names if name in used))}"
        _check_used((name for name in names if name not in used), advice)
    return found


def _check_used(unused: Iterator[str], advice: str = "") -> None:
    for name in unused:
        raise LayerRefused(
            f"layer {name!r}: its weight was never used in the forward pass, so it has no "
            f"curvature; leave it out by naming the others in Problem(layers=...){advice}."
        )


def _recorded(model: nn.Module, recorder: AnyRecorder, batch: Batch) -> AnyRecorder:
    with torch.enable_grad(), recorder:  # as when it is trained
        try:
            call_model(model, batch.inputs)
        except ProblemError:
            raise
        except Exception as error:
            if of_memory(error):
                raise
            raise ProblemError(_why_it_failed(recorder, error)) from error
    return recorder


def _why_it_failed(recorder: Recorder, error: Exception) -> str:
    if recorder.calling is None:
        advice = way_out(error) or (
            "look at the error above, and try model on the first sample of the batch alone"
        )
        return f"model: its forward failed on one sample ({first_line(error)}); {advice}."
    return (
        f"layer {recorder.calling.name!r}: it cannot take its input ({first_line(error)}); bring "
        "the data into the shape, device and range of values that the layer was made for."
    )
