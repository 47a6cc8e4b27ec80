"""Together and one by one, the samples of a batch must have the same outputs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ekfac_ref.errors import ProblemError
from ekfac_ref.model.copies.replica import Replica
from ekfac_ref.model.forward import call, one_output
from ekfac_ref.model.random_state import has_drawn, take, untouched
from ekfac_ref.model.recording.recorder import Recorder
from ekfac_ref.model.refusals.causes import explained
from ekfac_ref.model.refusals.outputs import check_outputs
from ekfac_ref.question.batches import Batch

_SEVERAL = "its forward fails on several samples; make that work, or pass batches of one sample"
_ALONE = "its forward fails on one sample of several by itself; make that work first"

InFloat64 = Callable[[Batch], tuple[Replica, Batch]]  # the same model and samples in float64


def check_samples_apart(model: nn.Module, few: Batch, exact: InFloat64) -> Tensor:
    """The outputs, which together and one by one must be the same; rounding alone may differ.

    ``exact``: both in float64, which are asked where they do differ.
    """
    recorder = Recorder(())
    with check_not_drawing(model), torch.enable_grad(), explained(_SEVERAL), recorder:
        together = call(model, few.inputs).detach()
    alone = _one_by_one(model, few)
    if together.shape != alone.shape:
        raise ProblemError(
            f"model: {few.size} samples gave outputs of shape {list(together.shape)} together and "
            f"{list(alone.shape)} one by one; axis 0 of the output has to be the samples."
        )
    check_outputs(together)
    if same_outputs(together, alone, recorder.roundoff):
        return alone
    if not same_outputs(together, call(model, few.inputs), recorder.roundoff):
        raise ProblemError(
            "model: two calls on the same inputs gave different outputs; make its forward "
            "deterministic: no random numbers, no state from call to call."
        )
    if not same_in_float64(exact, few):
        raise ProblemError(
            "model: the output of a sample depends on the other samples of its batch, so "
            "per-sample gradients are not defined; remove what mixes them (batch statistics, "
            "x - x.mean(0), a reshape across axis 0)."
        )
    return alone


def last_alone(model: nn.Module, batch: Batch) -> Tensor:
    """The outputs of the last sample by itself; no random numbers are moved."""
    last = batch.samples(batch.size - 1, batch.size)
    with untouched(), torch.enable_grad(), explained(_ALONE):
        return one_output(model, last.inputs).detach().clone()


@contextmanager
def check_not_drawing(model: nn.Module) -> Iterator[None]:
    """Around forwards: a ProblemError for one in train mode that draws random numbers."""
    training = any(module.training for module in model.modules())
    before = take() if training else []
    yield
    if training and has_drawn(before):
        raise ProblemError(
            "model: in train mode its forward draws random numbers (dropout by a function, "
            "stochastic depth), so that it is another network at every call; call model.eval()."
        )


def same_outputs(x: Tensor, y: Tensor, roundoff: float) -> bool:
    """Whether they differ by rounding alone."""
    if x.shape != y.shape:
        return False
    rounding = max(torch.finfo(x.dtype).eps, roundoff) ** 0.5 * x.abs().amax().clamp(min=1e-2)
    return not bool((x - y).abs().amax() > rounding)


def _one_by_one(model: nn.Module, few: Batch) -> Tensor:
    samples = (few.samples(n, n + 1) for n in range(few.size))
    with torch.enable_grad(), explained(_ALONE):  # some forwards take derivatives
        return torch.cat([one_output(model, sample.inputs).detach() for sample in samples])


def same_in_float64(exact: InFloat64, few: Batch) -> bool:
    """Whether it is rounding that tells them apart, which a network may amplify at will."""
    try:
        replica, fine = exact(few)
        with Recorder(()) as recorder:
            together = call(replica.copy, fine.inputs)
        alone = _one_by_one(replica.copy, fine)
        return same_outputs(together, alone, recorder.roundoff)
    except Exception:  # it, or its device, insists on its dtype
        return False
