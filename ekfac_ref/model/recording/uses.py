"""What a model does with each of its layers, tried on a sample, and what to say where it fails."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import nn

from ekfac_ref.errors import ProblemError, first_line, of_memory
from ekfac_ref.model.copies.as_before import check_settled
from ekfac_ref.model.copies.modes import Modes
from ekfac_ref.model.copies.private_copy import made_private
from ekfac_ref.model.forward import call as call_model
from ekfac_ref.model.forward import right_norms
from ekfac_ref.model.layers import BareWeights, Layer, Names, find_layers, one_matrix_each
from ekfac_ref.model.recording.any_use import RecorderOfAnyUse
from ekfac_ref.model.recording.recorder import Recorder, check_not_transformed
from ekfac_ref.model.refusals.causes import way_out
from ekfac_ref.model.refusals.misuses import LayerRefused
from ekfac_ref.model.refusals.names import naming
from ekfac_ref.model.refusals.weighted import any_numbers
from ekfac_ref.model.weights.attention import rows_of
from ekfac_ref.question.batches import Batch, read
from ekfac_ref.question.problem import Problem

AnyRecorder = TypeVar("AnyRecorder", bound=Recorder)


def uses(model: nn.Module, layers: tuple[Layer, ...], batch: Batch) -> tuple[Recorder, set[str]]:
    """What the model does with each layer on the first sample, and which ones the batch uses."""
    try:
        found, used = _tried(model, layers, batch, Recorder)
    except LayerRefused as error:
        raise ProblemError(
            f"{str(error).removesuffix('.')}; go on by {naming(that_run(model, layers, batch))}."
        ) from error
    check_not_transformed(found.uses)
    return found, used


def that_run(model: nn.Module, layers: tuple[Layer, ...], batch: Batch) -> tuple[str, ...]:
    """The names of the layers that can be treated together, tried one after the other.

    A ProblemError where the forward fails whatever the layers.
    """
    _recorded(model, Recorder(()), batch.samples(0, 1))
    kept: tuple[Layer, ...] = ()
    for layer in layers:
        try:
            found, used = _tried(model, (*kept, layer), batch, Recorder)
        except ProblemError:
            continue
        if layer.name in used and not any(use.transformed for use in found.uses[layer.name]):
            kept = (*kept, layer)
    return tuple(layer.name for layer in kept)


def advised(problem: Problem, modes: Modes, bare: BareWeights) -> Names:
    """The layers that can be treated on the first batch; without one, all that may be."""
    names = one_matrix_each(problem.model, bare)
    if not names:
        return ()
    try:
        batch = next(read(problem))
        model = made_private(modes.copied(problem.model), problem.output)
        layers = find_layers(model, names, None, bare)
    except ProblemError:
        return names
    return that_run(model, layers, batch)


def any_uses(
    model: nn.Module, layers: tuple[Layer, ...], batch: Batch
) -> tuple[RecorderOfAnyUse, set[str]]:
    """That of gradients alone: whatever op uses a parameter, be it one that nobody sees."""
    found, used = _tried(model, layers, batch, RecorderOfAnyUse)
    return found, used if len(used) == len(layers) else used | _reached(model, layers, batch)


def _reached(model: nn.Module, layers: tuple[Layer, ...], batch: Batch) -> set[str]:
    """The names of the layers that autograd finds from the outputs; of rows, by what they get."""
    with torch.enable_grad():
        f = call_model(model, batch.inputs)
    if not f.requires_grad:
        return set()
    weights = [layer.weight for layer in layers]
    v = any_numbers(f.numel(), 1).reshape(f.shape).to(f)
    with right_norms():
        gradients = torch.autograd.grad(f, weights, v, allow_unused=True)
    return {
        layer.name
        for layer, g in zip(layers, gradients, strict=True)
        if g is not None and (layer.rows[0] is None or bool(rows_of(g, layer.rows[0]).any()))
    }


def _tried(
    model: nn.Module,
    layers: tuple[Layer, ...],
    batch: Batch,
    kind: Callable[[tuple[Layer, ...]], AnyRecorder],
) -> tuple[AnyRecorder, set[str]]:
    found = _recorded(model, kind(layers), batch.samples(0, 1))
    check_settled(model, lambda: call_model(model, batch.samples(0, 1).inputs))
    if len(found.used) == len(layers):
        return found, found.used
    # An expert that the first sample does not go to.
    return found, found.used | _recorded(model, kind(layers), batch).used


def check_used(
    model: nn.Module, layers: tuple[Layer, ...], batches: Iterable[Batch], used: set[str]
) -> set[str]:
    """The names of all layers: some batch uses each, or else a ProblemError.

    ``used`` is what is known of them. A batch that some layer is not used on has no gradient of it:
    an expert that none of its samples goes to, a branch for other shapes.
    """
    names = [layer.name for layer in layers]
    for batch in batches:
        if used.issuperset(names):
            break
        used = used | any_uses(model, layers, batch)[1]
    for name in names:
        if name not in used:
            others = tuple(one for one in names if one in used)
            raise ProblemError(
                f"layer {name!r}: its weight was never used in the forward pass, on no batch of "
                "the data, so it has no curvature; give a batch that uses it, or leave it out by "
                f"naming the others in Problem(layers=...); go on by {naming(others)}."
            )
    return used


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
            "look at the error above, and try model on the first sample of the batch alone; a dict "
            "goes in as keywords, and as one argument inside of a tuple, ({...},)"
        )
        return f"model: its forward failed on one sample ({first_line(error)}); {advice}."
    return (
        f"layer {recorder.calling.name!r}: it cannot take its input ({first_line(error)}); bring "
        "the data into the shape, device and range of values that the layer was made for."
    )
