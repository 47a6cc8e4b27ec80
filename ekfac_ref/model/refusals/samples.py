"""Together and one by one, the samples of a batch must have the same outputs."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from ekfac_ref.errors import ProblemError
from ekfac_ref.model.forward import call, one_output
from ekfac_ref.model.random_state import has_drawn, take
from ekfac_ref.model.recording.recorder import Recorder
from ekfac_ref.model.refusals.causes import explained
from ekfac_ref.question.batches import Batch
from ekfac_ref.question.inputs import on_tensors

_SEVERAL = "its forward fails on several samples; make that work, or pass batches of one sample"
_ALONE = "its forward fails on one sample of several by itself; make that work first"


def check_samples_apart(model: nn.Module, few: Batch, exact: Callable[[], nn.Module]) -> Tensor:
    """The outputs, which together and one by one must be the same; rounding alone may differ.

    ``exact``: another copy in float64, which is asked where they do differ.
    """
    before = take()
    with torch.enable_grad(), explained(_SEVERAL), Recorder(()) as recorder:
        together = call(model, few.inputs).detach()
    if has_drawn(before) and any(module.training for module in model.modules()):
        raise ProblemError(
            "model: in train mode its forward draws random numbers (dropout by a function, "
            "stochastic depth), so that it is another network at every call; call model.eval()."
        )
    if together.is_inference():
        raise ProblemError(
            "model: its forward runs under torch.inference_mode, so its outputs have no gradient; "
            "take that out of the forward, and put it around calls of the model."
        )
    alone = _one_by_one(model, few)
    if not alone.dtype.is_floating_point:
        raise ProblemError(
            f"model: its outputs are {alone.dtype}; return real numbers that move with the "
            "parameters, the logits before argmax, say."
        )
    if together.shape != alone.shape:
        raise ProblemError(
            f"model: {few.size} samples gave outputs of shape {list(together.shape)} together and "
            f"{list(alone.shape)} one by one; axis 0 of the output has to be the samples."
        )
    if not together.numel():
        raise ProblemError(
            f"model: its outputs are empty, of shape {list(together.shape)}; leave out batches "
            "whose samples have no positions or classes."
        )
    if _same(together, alone, recorder.roundoff):
        return alone
    if not _same(together, call(model, few.inputs), recorder.roundoff):
        raise ProblemError(
            "model: two calls on the same inputs gave different outputs; make its forward "
            "deterministic: no random numbers, no state from call to call."
        )
    if not _same_in_float64(exact, few):
        raise ProblemError(
            "model: the output of a sample depends on the other samples of its batch, so "
            "per-sample gradients are not defined; remove what mixes them (batch statistics, "
            "x - x.mean(0), a reshape across axis 0)."
        )
    return alone


def _one_by_one(model: nn.Module, few: Batch) -> Tensor:
    samples = (few.samples(n, n + 1) for n in range(few.size))
    with torch.enable_grad(), explained(_ALONE):  # some forwards take derivatives
        return torch.cat([one_output(model, sample.inputs).detach() for sample in samples])


def _same(x: Tensor, y: Tensor, roundoff: float) -> bool:
    rounding = max(torch.finfo(x.dtype).eps, roundoff) ** 0.5 * x.abs().amax().clamp(min=1e-2)
    return not bool((x - y).abs().amax() > rounding)


def _same_in_float64(exact: Callable[[], nn.Module], few: Batch) -> bool:
    """Whether it is rounding that tells them apart, which a network may amplify at will."""
    try:
        model = exact()
        inputs = on_tensors(lambda x: x.double() if x.dtype.is_floating_point else x, few.inputs)
        with Recorder(()) as recorder:
            together = call(model, inputs)
        return _same(together, _one_by_one(model, replace(few, inputs=inputs)), recorder.roundoff)
    except (ProblemError, RuntimeError, TypeError):  # it, or its device, insists on its dtype
        return False
